# SPDX-License-Identifier: Apache-2.0
"""What companies say about themselves and callers ask, by topic, and what else callers say, by intent.

In each file of topics, `F` lines are sentences of a prompt and `Q` lines questions: within a topic every
sentence answers every question, and none of another topic of the same file does. The other files hold what
callers say (`Q`) by intent, those of the dental desk under `desk_*.txt`. The notation is that of
`recipe.grammar`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
_DESK = tuple(
    f"desk_{what}" for what in ("hours", "place", "prices", "unknown", "booking", "small", "follow")
)
_CALLERS = ("callers", "turns", *_DESK)


@dataclass(frozen=True)
class Topic:
    """Sentences of which a prompt may hold one, and questions that it answers."""

    facts: tuple[str, ...]
    questions: tuple[str, ...]


@cache
def _read(path: Path) -> dict[str, Topic]:
    found: dict[str, tuple[list[str], list[str]]] = {}
    facts: list[str] = []
    questions: list[str] = []
    for raw in path.read_text(encoding="utf-8").splitlines():
        kind, _, text = raw.strip().partition(" ")
        if kind == "##":
            facts, questions = found.setdefault(text, ([], []))
        elif kind == "F":
            facts.append(text)
        elif kind == "Q":
            questions.append(text)
    return {name: Topic(tuple(f), tuple(q)) for name, (f, q) in found.items()}


@cache
def topics() -> dict[str, dict[str, Topic]]:
    """Topic by name, by the file it is in."""
    paths = sorted(path for path in _HERE.glob("*.txt") if path.stem not in _CALLERS)
    return {
        path.stem: {name: topic for name, topic in _read(path).items() if topic.facts}
        for path in paths
    }


@cache
def callers(intent: str) -> tuple[str, ...]:
    """What callers say with an intent, or () for an unknown one."""
    every = (_read(_HERE / f"{name}.txt") for name in _CALLERS)
    return tuple(line for kept in every if intent in kept for line in kept[intent].questions)


@cache
def near(first: str, second: str) -> bool:
    """Whether topics of different files may be about the same: their names share a word."""
    words = ({w for w in name.split() if len(w) > 3} for name in (first, second))
    return bool(set.intersection(*words))
