# SPDX-License-Identifier: Apache-2.0
"""Everything that crosses between a box and its hub: messages, topics, versions, the rule of applying.

Needs pydantic alone and imports nothing of the rest; box and hub share it. The specification that goes with
it is docs/hub/protocol.md.

    batch = Batch.decode(payload)                  # WireError: answer with a Refusal
    verdict = judge(batch, applied, before_applied)
    ...                                            # one transaction: verdict.rows, position verdict.ack.seq
    publish(topics.down(box_id, topics.ACK), verdict.ack.encode())
"""

from appliance.wire import topics
from appliance.wire.applying import Verdict, judge
from appliance.wire.claim import ClaimPending, ClaimRequest, Identity, RenewRequest
from appliance.wire.errors import MalformedError, UnsupportedVersionError, WireError
from appliance.wire.facts import (
    KINDS,
    Booked,
    CallAnswered,
    CallBegan,
    CallEnded,
    CallEvent,
    CallRecording,
    CallTurn,
    CommandResult,
    Dropped,
    Health,
    Reported,
    UsageFact,
    understand,
)
from appliance.wire.fleet import AgentDocument, Bundle, Command, Desired, ModelPack, PluginPin
from appliance.wire.ids import new_id, now_text, to_text, uuid7
from appliance.wire.link import Ack, Batch, Before, Presence, Refusal, Row, encode_batch
from appliance.wire.message import (
    SUPPORTED,
    VERSION,
    Message,
    Signed,
    canonical,
    load,
    signing_bytes_of,
    validate,
)

__all__ = [
    "KINDS",
    "SUPPORTED",
    "VERSION",
    "Ack",
    "AgentDocument",
    "Batch",
    "Before",
    "Booked",
    "Bundle",
    "CallAnswered",
    "CallBegan",
    "CallEnded",
    "CallEvent",
    "CallRecording",
    "CallTurn",
    "ClaimPending",
    "ClaimRequest",
    "Command",
    "CommandResult",
    "Desired",
    "Dropped",
    "Health",
    "Identity",
    "MalformedError",
    "Message",
    "ModelPack",
    "PluginPin",
    "Presence",
    "Refusal",
    "RenewRequest",
    "Reported",
    "Row",
    "Signed",
    "UnsupportedVersionError",
    "UsageFact",
    "Verdict",
    "WireError",
    "canonical",
    "encode_batch",
    "judge",
    "load",
    "new_id",
    "now_text",
    "signing_bytes_of",
    "to_text",
    "topics",
    "understand",
    "uuid7",
    "validate",
]
