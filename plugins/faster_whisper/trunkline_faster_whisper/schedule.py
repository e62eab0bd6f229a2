# SPDX-License-Identifier: Apache-2.0
"""Which utterances are computed next, of all calls. Pure: no thread, no clock, no model.

    finals      in the order in which they were asked for: each of them is a caller who waits
    interims    only while no final waits; of each call the newest alone, since it says all that older ones do

What is computed together has the same shape (window and prompt), so that nobody's window grows because of
somebody else, and each hears the words that it would hear alone.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class FullError(Exception):
    """As many finals wait as may."""


class Schedule(Generic[T]):
    """What waits to be computed.

    Args:
        limit: finals and interims that may wait; above it interims go first, then finals are refused.
        batch: most that are computed together.
    """

    def __init__(self, limit: int, batch: int) -> None:
        self._limit = limit
        self._batch = batch
        self._finals: dict[T, Hashable] = {}  # shape by job
        self._interims: dict[Hashable, tuple[T, Hashable]] = {}  # job and shape by call
        self._calls: dict[T, Hashable] = {}  # call by interim

    def __len__(self) -> int:
        return len(self._finals) + len(self._interims)

    def add_final(self, job: T, call: Hashable, shape: Hashable) -> list[T]:
        """Let a final wait; return the interims that go because of it.

        Args:
            job: stands for the utterance.
            call: whose it is; its interim says nothing that the final will not say.
            shape: what it can be computed together with.

        Raises:
            FullError: too many finals wait already; nothing has changed.
        """
        if len(self._finals) >= self._limit:
            raise FullError
        gone = [self._forget(call)] if call in self._interims else []
        if len(self) >= self._limit:
            gone.append(self._forget(next(iter(self._interims))))
        self._finals[job] = shape
        return gone

    def add_interim(self, job: T, call: Hashable, shape: Hashable) -> list[T]:
        """Let an interim wait in the place of the call's last one, which is returned if it still waits.

        When there is no room, the interim itself is returned.
        """
        gone = []
        if call in self._interims:
            old, _ = self._interims[call]
            del self._calls[old]
            gone.append(old)
        elif len(self) >= self._limit:
            return [job]
        self._interims[call] = job, shape
        self._calls[job] = call
        return gone

    def drop(self, job: T) -> None:
        """Forget a job that nobody waits for any more; one that does not wait is ignored."""
        self._finals.pop(job, None)
        if job in self._calls:
            self._forget(self._calls[job])

    def take(self) -> list[T]:
        """Return what to compute now: the first in order, and those of the same shape behind it."""
        waiting = list(self._finals.items()) or list(self._interims.values())
        together = [job for job, shape in waiting if shape == waiting[0][1]][: self._batch]
        for job in together:
            self.drop(job)
        return together

    def clear(self) -> list[T]:
        """Forget everything, and return it."""
        everything = [*self._finals, *self._calls]
        for job in everything:
            self.drop(job)
        return everything

    def _forget(self, call: Hashable) -> T:
        job, _ = self._interims.pop(call)
        del self._calls[job]
        return job
