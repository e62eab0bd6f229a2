# SPDX-License-Identifier: Apache-2.0
"""What a row's `data` holds, by its `kind`. A kind that is not here is kept whole and shown as it is.

A row that a hub cannot understand never stops a stream: it is kept as it came, counted, and acknowledged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from appliance.wire.link import Row
from appliance.wire.message import Part, Time


class CallBegan(Part):
    """`call.began`: a call exists from here on. `call_id` is a UUIDv7 made by the box.

    Attributes:
        agent_version: hash of the agent as it answers, made by the box.
        agent_version_id: `AgentDocument.id` when it is an agent of the hub's as the hub sent it.
    """

    call_id: str
    agent: str
    agent_version: str = ""
    agent_version_id: str = ""
    transport: str = ""
    trunk: str = ""
    direction: Literal["inbound", "outbound"] = "inbound"
    caller: str = ""
    called: str = ""
    protocol_id: str = ""
    started_at: Time


class CallAnswered(Part):
    """`call.answered`: media flows; `t_ms` of events and turns counts from here."""

    call_id: str
    answered_at: Time


class CallEvent(Part):
    """`call.event`: one entry of the call's log; `seq` is gapless in the call, from 0."""

    call_id: str
    seq: int = Field(ge=0)
    t_ms: int
    kind: str
    data: dict[str, Any] = Field(default_factory=dict)


class CallTurn(Part):
    """`call.turn`: a line of the finished transcript, sent before `call.ended`; `n` counts from 0.

    Attributes:
        t_ms: when it began, in media time since the answer.
        who: `caller`, `agent` or `tool`.
        latency_ms: from the end of the caller's speech to the first sample of this answer.
        latency_parts: milliseconds of each stage in it.
    """

    call_id: str
    n: int = Field(ge=0)
    t_ms: int
    who: str
    text: str
    interrupted: bool = False
    latency_ms: int | None = None
    latency_parts: dict[str, int] = Field(default_factory=dict)


class CallEnded(Part):
    """`call.ended`: the call is over. `recording` says whether the box holds one."""

    call_id: str
    cause: str
    ended_at: Time
    recording: bool = False


class CallRecording(Part):
    """`call.recording`: a finished recording was put away under this address."""

    call_id: str
    uri: str


class UsageFact(Part):
    """`usage`: to be ADDED to what a call used of a provider."""

    call_id: str
    provider: str
    kind: str
    unit: Literal["seconds", "tokens", "characters"]
    quantity: int = Field(ge=0)


class Booked(Part):
    """`booking`: an appointment was entered in the box's calendar."""

    idempotency_key: str
    calendar: str = ""
    date: str
    time: str
    name: str
    call_id: str
    created_at: Time


class Dropped(Part):
    """`dropped`: a fact whose content the box gave up (out of room, or over 1 MiB)."""

    kind: str
    reason: str
    size: int = Field(0, description="Bytes of its data.")


class Reported(Part):
    """`state.reported`: what the box runs now.

    Attributes:
        version: of the desired state that it runs or refused; 0 is what it had before any.
        status: how that version fares.
        errors: why it was refused or rolled back, for a person.
        drift: what was changed on the box itself, by name.
        state: agents, model packs, plugins, software, by name and version.
    """

    version: int = Field(ge=0)
    status: Literal["applied", "refused", "rolled_back", "staged"]
    errors: tuple[str, ...] = ()
    drift: dict[str, Any] = Field(default_factory=dict)
    state: dict[str, Any] = Field(default_factory=dict)


class Health(Part):
    """`health`: how the box is. What is not known is left out."""

    cpu_percent: float | None = None
    memory_percent: float | None = None
    disk_free_bytes: int | None = None
    gpu_percent: float | None = None
    temperature_c: float | None = None
    clock_skew_ms: int | None = None
    calls: int = 0
    waiting_rows: int = Field(0, description="Facts that the hub has not acknowledged.")
    waiting_bytes: int = 0
    kept_back: dict[str, int] = Field(
        default_factory=dict,
        description="Facts that the site's policy changed or kept back since the start of the program, as "
        "`CLASS.CHOICE`: `transcript.redact`.",
    )
    faults: tuple[str, ...] = ()
    trunks: dict[str, str] = Field(default_factory=dict)
    engines: dict[str, str] = Field(default_factory=dict)


class CommandResult(Part):
    """`command.result`: what became of a command. `id` is the command's.

    `refused`: bad signature, not for this box, or seen before. `expired`: it came too late.
    """

    id: str
    status: Literal["done", "failed", "refused", "expired"]
    detail: str = ""
    output: dict[str, Any] = Field(default_factory=dict)


KINDS: Mapping[str, type[Part]] = {
    "call.began": CallBegan,
    "call.answered": CallAnswered,
    "call.event": CallEvent,
    "call.turn": CallTurn,
    "call.ended": CallEnded,
    "call.recording": CallRecording,
    "usage": UsageFact,
    "booking": Booked,
    "dropped": Dropped,
    "state.reported": Reported,
    "health": Health,
    "command.result": CommandResult,
}


def understand(row: Row) -> Part | None:
    """Return a row's data as its type; None when the kind is unknown or the data is not as it should be."""
    model = KINDS.get(row.kind)
    if model is None:
        return None
    try:
        return model.model_validate(row.data)
    except ValidationError:
        return None
