# SPDX-License-Identifier: Apache-2.0
"""When a silence of the caller is the end of the turn. Strategies, pure: what is known goes in, a time
comes out. Part of the call core, so a strategy must give the same answer to the same view: a replay
asks it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from appliance.call.timing import TurnTaking


@dataclass(frozen=True, slots=True)
class TurnView:
    """What is known of a turn whose caller is silent.

    Attributes:
        silence_ms: silence so far.
        speech_ms: from the first speech of the turn to the last, pauses included.
        text: the recognizer's final words of the turn so far; None while it works on them.
        interim: its newest interim words, or "".
        probability: the turn detector's opinion that the turn is over; None when it gave none (yet).
        agent_text: what the agent said last.
        expected: what the agent waits for (`digits`, `name`, ...), or "".
    """

    silence_ms: int
    speech_ms: int
    text: str | None = None
    interim: str = ""
    probability: float | None = None
    agent_text: str = ""
    expected: str = ""


class EndOfTurn(Protocol):
    """A strategy. It is asked when the caller falls silent, when the words are there, and when the turn
    detector has spoken; its newest answer counts.
    """

    def wait_ms(self, view: TurnView) -> int:
        """Return the silence, counted from the last speech, that ends this turn. A silence that has
        lasted longer already ends it at once.
        """
        ...


@dataclass(frozen=True, slots=True)
class PlainSilence:
    """The same silence ends every turn."""

    end_of_turn_ms: int

    def wait_ms(self, view: TurnView) -> int:
        """Return the set silence."""
        return self.end_of_turn_ms


@dataclass(frozen=True, slots=True)
class DetectedEnd:
    """A turn detector that says "not finished" gives the caller more time."""

    end_of_turn_ms: int
    unsure_ms: int

    def wait_ms(self, view: TurnView) -> int:
        """Return the longer silence for a turn that is probably not over."""
        unsure = view.probability is not None and view.probability < 0.5
        return self.unsure_ms if unsure else self.end_of_turn_ms


def strategy(timing: TurnTaking, *, detector: bool) -> EndOfTurn:
    """Return the strategy that an agent's settings ask for."""
    if detector:
        return DetectedEnd(timing.end_of_turn_ms, timing.unsure_end_of_turn_ms)
    return PlainSilence(timing.end_of_turn_ms)
