# SPDX-License-Identifier: Apache-2.0
"""What simulated boxes say: whole calls, row by row, in the shape and order in which a box sends them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from appliance.wire import new_id, now_text

EVENTS, TURNS, USAGES = 12, 6, 3
ROWS = EVENTS + TURNS + USAGES + 3
"""Of one call: began, answered, events, the transcript, usage, ended."""

TABLES = {
    "call.began": "calls",
    "call.event": "call_events",
    "call.turn": "turns",
    "usage": "usage",
}
"""Where each kind becomes a row of its own; the others change a call."""

_LINES = (
    "Good morning, Ward and Sons, what can I do for you?",
    "I would like to move my appointment from Tuesday to the end of the week, if there is anything left.",
    "On Friday there is half past ten or a quarter to four. Which one suits you better?",
    "A quarter to four, please, and could you tell me how long it will take?",
    "It takes about forty minutes. I have put you down for Friday at a quarter to four.",
    "Thank you very much, until then, goodbye.",
)
_USES = (
    ("speech_to_text", "seconds", 31),
    ("language_model", "tokens", 412),
    ("text_to_speech", "characters", 263),
)

Fact = tuple[str, dict[str, Any]]
"""Kind and data."""


def calls() -> Iterator[Fact]:
    """Yield the facts of one call after the other, for ever."""
    while True:
        yield from one_call(new_id())


def one_call(call_id: str) -> Iterator[Fact]:
    """Yield the facts of a call."""
    began = {"call_id": call_id, "agent": "reception", "agent_version": "4f2a", "transport": "sip"}
    yield (
        "call.began",
        {
            **began,
            "trunk": "pbx",
            "caller": "sip:200@pbx",
            "called": "100",
            "started_at": now_text(),
        },
    )
    yield "call.answered", {"call_id": call_id, "answered_at": now_text()}
    for seq in range(EVENTS):
        data = {"text": _LINES[seq % len(_LINES)], "final": seq % 2 == 0}
        yield (
            "call.event",
            {"call_id": call_id, "seq": seq, "t_ms": 900 * seq, "kind": "heard", "data": data},
        )
    for n in range(TURNS):
        turn = {"call_id": call_id, "n": n, "t_ms": 1800 * n, "text": _LINES[n % len(_LINES)]}
        if n % 2:
            yield "call.turn", {**turn, "who": "caller"}
        else:
            parts = {"speech_to_text": 120, "language_model": 260, "text_to_speech": 90}
            yield (
                "call.turn",
                {**turn, "who": "agent", "latency_ms": 470, "latency_parts": parts},
            )
    for kind, unit, quantity in _USES:
        used = {"call_id": call_id, "provider": "local", "kind": kind}
        yield "usage", {**used, "unit": unit, "quantity": quantity}
    yield "call.ended", {"call_id": call_id, "cause": "caller hung up", "ended_at": now_text()}


@dataclass
class Told:
    """How much one box said.

    Attributes:
        rows: by table.
        quantity: of all usage together.
        ended: calls whose end was told.
    """

    rows: Counter[str] = field(default_factory=Counter)
    quantity: int = 0
    ended: int = 0

    def add(self, kind: str, data: dict[str, Any]) -> None:
        """Count a fact."""
        if kind in TABLES:
            self.rows[TABLES[kind]] += 1
        self.quantity += data.get("quantity", 0)
        self.ended += kind == "call.ended"


@dataclass(frozen=True)
class BoxPapers:
    """One box of the benchmark.

    Attributes:
        file: its certificate and key, PEM.
    """

    organization_id: UUID
    box_id: str
    file: str
