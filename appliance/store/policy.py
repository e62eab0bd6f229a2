# SPDX-License-Identifier: Apache-2.0
"""What of a fact may leave the site, by class of data: decided when the fact is put into the outbox.

metadata    who called whom: `caller`, `called`, `protocol_id`
            redact: all but the last two digits become `*`; stay: left empty
transcript  what was said: turns, words in events, names in bookings
            redact: digits become `#`, e-mail addresses `[e-mail]`; stay: no turns, words left empty

Times, lengths, causes, latencies and usage always go: they name nobody. The box's own tables keep everything.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Choice = Literal["send", "redact", "stay"]

WORDLESS = frozenset({"cause", "codec", "id", "kind", "name", "provider", "stage", "unit", "why"})
"""Keys in events whose text comes from the box itself. What is under any other may be somebody's words."""

PARTIES = ("caller", "called", "protocol_id")

_EMAIL = re.compile(r"[^\s@<>]+@[^\s@<>]+")
_DIGIT = re.compile(r"\d")
_EARLY_DIGIT = re.compile(r"\d(?=(?:\D*\d){2})")


@dataclass(frozen=True, slots=True)
class Policy:
    """What may leave."""

    metadata: Choice = "send"
    transcript: Choice = "send"


class Gate:
    """Applies a policy and counts.

    Attributes:
        kept: facts of each class that were changed or kept back, as `CLASS.CHOICE`, since the start.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.kept: Counter[str] = Counter()

    def looks_into(self, kind: str) -> bool:
        """Whether facts of this kind must be looked into: most go as they are."""
        if kind == "call.began":
            return self.policy.metadata != "send"
        words = kind in {"call.event", "call.turn", "booking"}
        return words and self.policy.transcript != "send"

    def apply(self, kind: str, data: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return what may leave of a fact, or None for nothing."""
        if not self.looks_into(kind):
            return data
        if kind == "call.began":
            choice = self.policy.metadata
            self.kept[f"metadata.{choice}"] += 1
            hidden = {key: _number(str(data[key]), choice) for key in PARTIES if key in data}
            return {**data, **hidden}
        choice = self.policy.transcript
        self.kept[f"transcript.{choice}"] += 1
        match kind:
            case "call.turn":
                return None if choice == "stay" else {**data, "text": _words(data["text"], choice)}
            case "booking":
                return {**data, "name": _words(data["name"], choice)}
            case _:
                return {**data, "data": _walk(data["data"], choice)}


def _walk(value: Any, choice: Choice, key: str = "") -> Any:
    """Return a JSON value with every text that may be somebody's words hidden."""
    if isinstance(value, dict):
        return {key: _walk(inner, choice, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_walk(inner, choice, key) for inner in value]
    if isinstance(value, str) and key not in WORDLESS:
        return _words(value, choice)
    return value


def _words(text: str, choice: Choice) -> str:
    if choice == "stay":
        return ""
    return _DIGIT.sub("#", _EMAIL.sub("[e-mail]", text))


def _number(text: str, choice: Choice) -> str:
    return "" if choice == "stay" else _EARLY_DIGIT.sub("*", text)
