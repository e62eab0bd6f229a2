# SPDX-License-Identifier: Apache-2.0
"""What runs in the next step: the choice alone, without threads, clocks or llama.cpp.

On a processor a row of a batch costs almost as much as a step of its own, so it matters who is in it:

    FIRST_CLAUSE   the caller has stopped speaking and hears nothing yet      always, prompts first come first
    RUNNING_DRY    the caller hears the last half second of what was made     always
    CONTINUATION   speech for 0.5 to 1.5 s lies ahead                         in steps without a first clause
    SPECULATION    the caller may go on speaking                              when none waits or reads a lot
    PAUSED         more than 1.5 s lie ahead                                  not at all

A committed reply that was passed over `PATIENCE` times is treated like a first clause. So only speculation
can be starved, and only while there is always somebody who waits for an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

AHEAD_S = 1.5
"""Speech made but not heard, in seconds, above which a reply pauses."""

DRY_S = 0.5
"""The same, below which a reply hurries."""

CLAUSE_TOKENS = 24
"""Tokens after which the first clause of a reply has surely been written."""

PATIENCE = 32
"""Steps for which a committed reply may be passed over."""


class Urgency(IntEnum):
    """Classes of replies; the lower, the sooner."""

    FIRST_CLAUSE = 0
    RUNNING_DRY = 1
    CONTINUATION = 2
    SPECULATION = 3
    PAUSED = 4


def urgency(*, committed: bool, unplayed_s: float | None, spoke: bool, written: int) -> Urgency:
    """Return the class of a reply.

    Args:
        committed: the caller's turn is over.
        unplayed_s: seconds of its speech made and not heard; None when nobody tells: a reply at full speed.
        spoke: any of its speech was made.
        written: its tokens so far.
    """
    if unplayed_s is not None and unplayed_s > AHEAD_S:
        return Urgency.PAUSED
    if not committed:
        return Urgency.SPECULATION
    if not spoke and written < CLAUSE_TOKENS:
        return Urgency.FIRST_CLAUSE
    if unplayed_s is None or unplayed_s <= DRY_S:
        return Urgency.RUNNING_DRY
    return Urgency.CONTINUATION


@dataclass(frozen=True, slots=True)
class Candidate:
    """A reply that holds a sequence.

    Attributes:
        urgency: its class now.
        arrival: a number that grows from reply to reply.
        unread: its tokens that the memory does not hold yet, at least 1.
        writing: the prompt is read: the one unread token is its own last one.
        passed_over: steps in a row that went without it although it could run.
    """

    urgency: Urgency
    arrival: int
    unread: int
    writing: bool
    passed_over: int = 0

    def rank(self) -> tuple[Urgency, int]:
        """Order of service."""
        impatient = self.urgency <= Urgency.CONTINUATION and self.passed_over >= PATIENCE
        return (Urgency.FIRST_CLAUSE if impatient else self.urgency), self.arrival


def choose(
    candidates: Sequence[Candidate], *, batch: int, chunk: int, others_wait: bool = False
) -> list[int]:
    """Return for each candidate how many of its tokens the next step takes.

    Args:
        candidates: the replies that hold sequences.
        batch: most tokens of a step.
        chunk: most tokens of prompts in a step that also writes, and most of speculative prompts in any.
        others_wait: a committed reply waits for memory.
    """
    shares = [0] * len(candidates)
    ranked = sorted(
        (candidate.rank(), index)
        for index, candidate in enumerate(candidates)
        if candidate.urgency is not Urgency.PAUSED
    )
    first = bool(ranked) and ranked[0][0][0] is Urgency.FIRST_CLAUSE
    last = Urgency.RUNNING_DRY if first else Urgency.CONTINUATION
    committed = [index for (rank, _), index in ranked if rank <= last]
    writes = any(candidates[index].writing for index in committed)
    _share(shares, candidates, committed, batch, chunk if writes else batch)
    waiting = others_wait or any(shares[index] < candidates[index].unread for index in committed)
    read = sum(shares[index] for index in committed if not candidates[index].writing)
    if not (first or waiting) and read <= chunk:
        speculative = [index for (rank, _), index in ranked if rank is Urgency.SPECULATION]
        _share(shares, candidates, speculative, batch - sum(shares), chunk - read)
    return shares


def _share(
    shares: list[int],
    candidates: Sequence[Candidate],
    indices: Sequence[int],
    room: int,
    prompts: int,
) -> None:
    """Give one token to each that writes, and what is left to the prompts, one after the other."""
    for index in indices:
        if candidates[index].writing and room:
            shares[index] = 1
            room -= 1
    room = min(room, prompts)
    for index in indices:
        if not candidates[index].writing:
            shares[index] = min(room, candidates[index].unread)
            room -= shares[index]
