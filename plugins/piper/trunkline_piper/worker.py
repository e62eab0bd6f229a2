# SPDX-License-Identifier: GPL-3.0-or-later
"""One thread for all calls, which always does what is due first.

A piece of speech is due when its call's audio runs dry. So a new answer goes before one that has seconds in
hand, and of two that play, the one that would fall silent sooner.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from appliance.plugin import UnavailableError

_T = TypeVar("_T")


class Supply:
    """How long a caller can listen with what they were given. Times in seconds.

    Args:
        now: when the answer begins: it is due at once.
    """

    def __init__(self, now: float) -> None:
        self.dry_at = now
        """When all that was given will have been heard."""

    def give(self, seconds: float, now: float) -> None:
        """Add audio. What was missed while there was none is not made up for."""
        self.dry_at = max(self.dry_at, now) + seconds


@dataclass(order=True, slots=True)
class _Job:
    due: float
    serial: int
    work: Callable[[], Any] = field(compare=False)
    result: Future[Any] = field(compare=False, default_factory=Future)


class Worker:
    """A thread and what it has to do, earliest due first; of the same time, the oldest first."""

    def __init__(self, name: str) -> None:
        self._jobs: list[_Job] = []
        self._changed = threading.Condition()
        self._serial = 0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], _T], due: float) -> Future[_T]:
        """Queue `work`. Cancelled before it begins, it never begins.

        Raises:
            UnavailableError: the worker is closed.
        """
        with self._changed:
            if self._closed:
                raise UnavailableError("the piper provider is closed")
            self._serial += 1
            job = _Job(due, self._serial, work)
            heapq.heappush(self._jobs, job)
            self._changed.notify()
        return job.result

    def _work(self) -> None:
        while (job := self._take()) is not None:
            if not job.result.set_running_or_notify_cancel():
                continue
            try:
                job.result.set_result(job.work())
            except BaseException as error:
                job.result.set_exception(error)

    def _take(self) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            return None if self._closed else heapq.heappop(self._jobs)

    def close(self) -> None:
        """Cancel what waits and end the thread, after the work that runs. Idempotent."""
        with self._changed:
            self._closed = True
            for job in self._jobs:
                job.result.cancel()
            self._jobs.clear()
            self._changed.notify()
        self._thread.join()
