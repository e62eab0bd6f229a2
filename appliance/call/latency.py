# SPDX-License-Identifier: Apache-2.0
"""How long the caller waited for an answer, stage by stage. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appliance.call.parts import Reply


@dataclass(frozen=True, slots=True)
class LatencySource:
    """The caller's turn that an answer belongs to. All times are media time in ms.

    Attributes:
        turn: its number.
        silent_since_ms: when the caller fell silent.
        due_ms: when the end-of-turn decision fell.
        committed_ms: when its words were known too.
    """

    turn: int
    silent_since_ms: int
    due_ms: int
    committed_ms: int


def breakdown(
    source: LatencySource, reply: Reply, now_ms: int, synthesis_ms: int
) -> dict[str, Any]:
    """Return the data of a `latency` event: `total`, `parts` that add up to it, and what was `gained`.

    What a draft did before the turn was committed is in none of the parts: the caller did not wait for it.

    Args:
        source: the turn.
        reply: its answer.
        now_ms: when its first sample was on the wire.
        synthesis_ms: from the first clause to its first audio.
    """
    committed = source.committed_ms
    text, clause = reply.first_text_ms or committed, reply.first_clause_ms or committed
    first_text = max(text, committed)
    first_clause = max(clause, first_text)
    sound = min(max(clause + synthesis_ms, first_clause), now_ms)
    parts = {
        "end_of_turn": source.due_ms - source.silent_since_ms,
        "recognition_wait": committed - source.due_ms,
        "first_text": first_text - committed,
        "first_clause": first_clause - first_text,
        "synthesis": sound - first_clause,
    }
    total = now_ms - source.silent_since_ms
    parts["playout"] = total - sum(parts.values())
    began = reply.drafted_ms
    gained = 0 if began is None else max(0, min(clause + synthesis_ms, committed) - began)
    return {
        "turn": source.turn,
        "total": total,
        "parts": parts,
        "tool": reply.tools_used,
        "gained": gained,
    }
