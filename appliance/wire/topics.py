# SPDX-License-Identifier: Apache-2.0
"""The topics: `b/BOX/up/WHAT` from the box, `b/BOX/down/WHAT` to it. No topic and no message names a tenant.

A topic's levels are a NATS subject's tokens: `b/BOX/up/calls` is `b.BOX.up.calls`.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

CALLS: Literal["calls"] = "calls"
"""Stream of calls: began, events, turns, usage, bookings, ended."""

FLEET: Literal["fleet"] = "fleet"
"""Stream of the box itself: reported state, results of commands, health."""

STREAMS = (FLEET, CALLS)
"""The most urgent first."""

PRESENCE = "presence"
ACK, DESIRED, COMMAND, REFUSAL = "ack", "desired", "command", "refusal"

UP_SUBJECTS = "b.*.up.>"
"""All that boxes send, as a NATS subject."""

_BOX = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_STREAM = re.compile(r"[a-z][a-z0-9_]{0,31}")


class Source(NamedTuple):
    """Where a message came from. `stream` is a stream's name or `presence`."""

    box_id: str
    stream: str


def up(box_id: str, stream: str) -> str:
    """Return the topic of a stream's batches, or of `PRESENCE`."""
    return f"b/{box_id}/up/{stream}"


def down(box_id: str, what: str) -> str:
    """Return the topic of what the hub sends: `ACK`, `DESIRED`, `COMMAND` or `REFUSAL`."""
    return f"b/{box_id}/down/{what}"


def down_all(box_id: str) -> str:
    """Return the filter of all that the hub sends to a box; a box subscribes to it."""
    return f"b/{box_id}/down/+"


def subject(topic: str) -> str:
    """Return the NATS subject of a topic."""
    return topic.replace("/", ".")


def source(topic_or_subject: str) -> Source | None:
    """Return who sent to a topic (or subject), or None when it is none of a box's."""
    parts = topic_or_subject.replace("/", ".").split(".")
    if len(parts) != 4 or parts[0] != "b" or parts[2] != "up":
        return None
    if not _BOX.fullmatch(parts[1]) or not _STREAM.fullmatch(parts[3]):
        return None
    return Source(parts[1], parts[3])
