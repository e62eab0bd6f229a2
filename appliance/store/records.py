# SPDX-License-Identifier: Apache-2.0
"""What the store returns: plain frozen values. Times are aware datetimes in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any, Protocol

CRASHED = "crashed"
"""Cause of a call that was open when the box went down."""


class EventLike(Protocol):
    """An event as the call makes it."""

    @property
    def seq(self) -> int: ...  # noqa: D102
    @property
    def t_ms(self) -> int: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def data(self) -> Mapping[str, Any]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a call's log.

    Attributes:
        seq: gapless in its call, from 0.
        t_ms: media time since the answer.
        kind: `turn.committed`, `tool.called`, ...
        data: what belongs to that kind.
    """

    call_id: str
    seq: int
    t_ms: int
    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call.

    Attributes:
        agent_version: hash of the agent's definition at the time of the call.
        protocol_id: the protocol's own identifier (SIP Call-ID).
        answered_at: None when it never was.
        ended_at: None while it goes on.
        cause: why it ended; "" while it goes on.
        recording_path: where the stereo recording lies, "" without one.
    """

    id: str
    agent: str
    agent_version: str
    transport: str
    trunk: str
    direction: str
    caller: str
    called: str
    protocol_id: str
    started_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None
    cause: str
    recording_path: str

    @property
    def seconds(self) -> float | None:
        """Length from the answer to the end; None while it goes on, 0 when never answered."""
        if self.ended_at is None:
            return None
        if self.answered_at is None:
            return 0.0
        return (self.ended_at - self.answered_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a transcript.

    Attributes:
        t_ms: when it began, in media time since the answer.
        who: `caller`, `agent` or `tool`.
        text: the words said and heard; for a tool what was called and what came of it.
        interrupted: the agent was cut short after these words.
        latency_ms: from the end of the caller's speech to the first sample of this answer.
        latency_parts: milliseconds of each stage in it.
    """

    t_ms: int
    who: str
    text: str
    interrupted: bool = False
    latency_ms: int | None = None
    latency_parts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call used of a provider. `unit`: `seconds`, `tokens` or `characters`."""

    call_id: str
    provider: str
    kind: str
    unit: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Appointment:
    """An entry of the box's own calendar. `calendar` keeps those of several agents apart."""

    calendar: str
    date: date
    time: time
    name: str
    call_id: str
    idempotency_key: str
    created_at: datetime


def from_text(text: str) -> datetime:
    """Return the time that `appliance.wire.ids.to_text` wrote."""
    return datetime.fromisoformat(text)
