# SPDX-License-Identifier: Apache-2.0
"""The states of a call and every transition there is."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """What the call is doing, seen from the agent."""

    IDLE = "idle"
    LISTENING = "listening"
    PROCESSING = "processing"
    SPEAKING = "speaking"
    HELD = "held"
    TRANSFERRING = "transferring"
    ENDED = "ended"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.IDLE: frozenset({State.LISTENING, State.PROCESSING, State.ENDED}),
    State.LISTENING: frozenset({State.PROCESSING, State.HELD, State.TRANSFERRING, State.ENDED}),
    State.PROCESSING: frozenset(
        {State.SPEAKING, State.LISTENING, State.HELD, State.TRANSFERRING, State.ENDED}
    ),
    State.SPEAKING: frozenset(
        {State.LISTENING, State.PROCESSING, State.HELD, State.TRANSFERRING, State.ENDED}
    ),
    State.HELD: frozenset({State.LISTENING, State.PROCESSING, State.ENDED}),
    State.TRANSFERRING: frozenset({State.LISTENING, State.PROCESSING, State.ENDED}),
    State.ENDED: frozenset(),
}
