# SPDX-License-Identifier: Apache-2.0
"""Scores replies: the right tool with the right arguments, facts rightly stated, nothing false."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)

Call = tuple[str, dict[str, Any]]


def taken_apart(reply: str) -> tuple[str, Call | None]:
    """What is spoken, and the tool call; a call that is no JSON is one of a tool named "?"."""
    match = _CALL.search(reply)
    if match is None:
        return reply.strip(), None
    spoken = _CALL.sub("", reply).strip()
    try:
        call = json.loads(match[1])
        return spoken, (call["name"], call["arguments"])
    except (ValueError, KeyError, TypeError):
        return spoken, ("?", {})


def interval(right: int, total: int) -> list[float]:
    """The Wilson interval at 95 %."""
    if not total:
        return [0.0, 1.0]
    z, p = 1.96, right / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return [round(middle - half, 4), round(middle + half, 4)]


@dataclass
class Score:
    """Counts of right and all, by category, and the replies that were wrong."""

    right: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    total: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    wrong: list[dict[str, Any]] = field(default_factory=list)

    def add(self, category: str, ok: bool, note: dict[str, Any] | None = None) -> None:
        """Count one verdict; the note is kept where it was wrong."""
        self.total[category] += 1
        self.right[category] += ok
        if not ok and note is not None:
            self.wrong.append({"category": category, **note})

    def summary(self) -> dict[str, dict[str, Any]]:
        """Category to n, right, share and its interval."""
        return {
            name: {
                "n": total, "right": self.right[name], "share": round(self.right[name] / total, 4),
                "interval_95": interval(self.right[name], total),
            }
            for name, total in sorted(self.total.items())
        }  # fmt: skip


def misses(reply: str, expect: dict[str, Any]) -> list[str]:
    """What an expectation finds missing in what was said."""
    said = reply.lower()
    missing = [part for part in expect.get("says_all") or () if part.lower() not in said]
    choices = expect.get("says_any") or ()
    if choices and not any(part.lower() in said for part in choices):
        missing.append(" | ".join(choices))
    return missing


def falsehoods(reply: str, expect: dict[str, Any]) -> list[str]:
    """The false facts of an expectation that were said."""
    said = reply.lower()
    return [part for part in expect.get("says_none") or () if part.lower() in said]


def score_turn(score: Score, reply: str, expect: dict[str, Any], where: dict[str, Any]) -> None:
    """Judge one reply by the expectations of a hand-written turn."""
    spoken, call = taken_apart(reply)
    wanted = expect.get("tool")
    note = {**where, "reply": reply}
    if wanted:
        right = call == (wanted["name"], wanted["arguments"])
        score.add(f"tool:{wanted['name']}", right, note)
    else:
        right = call is None
        score.add("tool:none", right, note)
    score.add("tool", right)
    missing, false = misses(spoken, expect), falsehoods(spoken, expect)
    if expect.get("says_all"):
        score.add("fact", not missing and not false, {**note, "missing": missing})
    elif expect.get("says_any"):
        score.add("manner", not missing, {**note, "missing": missing})
    if expect.get("says_none"):
        score.add("nothing_false", not false, {**note, "false": false})
    score.add("turn", right and not missing and not false)
