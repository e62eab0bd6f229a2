# SPDX-License-Identifier: Apache-2.0
"""The event log of one call: the one record from which transcript, metrics and replay are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: `seq` is gapless from 0, `t_ms` is media time since the answer."""

    seq: int
    t_ms: int
    kind: str
    data: dict[str, Any] = field(default_factory=dict)


class EventLog:
    """Append-only; hands each event to `sink` (the store) as it is made."""

    def __init__(self, sink: Callable[[Event], None] | None = None) -> None:
        self._sink = sink
        self.events: list[Event] = []

    def append(self, t_ms: int, kind: str, data: dict[str, Any] | None = None) -> Event:
        """Add an event and return it."""
        event = Event(len(self.events), t_ms, kind, data or {})
        self.events.append(event)
        if self._sink is not None:
            self._sink(event)
        return event
