# SPDX-License-Identifier: Apache-2.0
"""Threads that run the model on what the schedule gives them.

CTranslate2 releases the interpreter lock while it computes, and cannot be interrupted. So a cancelled job
that has not begun is never begun; one that has begun ends, unread.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from concurrent.futures import Future

from appliance.plugin import RateLimitedError, UnavailableError
from trunkline_faster_whisper.schedule import FullError, Schedule
from trunkline_faster_whisper.whisper import Recognized, Utterance, Whisper


class Pending(Future[Recognized]):
    """A text that is being computed, or waits to be.

    Args:
        utterance: of which.
    """

    def __init__(self, utterance: Utterance) -> None:
        super().__init__()
        self.utterance = utterance


class Workers:
    """The schedule and the threads that serve it.

    Args:
        model: the model; several threads may use it at once.
        threads: how many.
        limit: utterances that may wait.
    """

    def __init__(self, model: Whisper, threads: int, limit: int) -> None:
        self._model = model
        self._limit = limit
        self._schedule: Schedule[Pending] = Schedule(limit, model.batch_size)
        self._changed = threading.Condition()
        self._closed = False
        self._serving = threads
        self._ended: Future[None] = Future()
        self._threads = [
            threading.Thread(target=self._work, name=f"faster-whisper-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Utterances that wait now."""
        with self._changed:
            return len(self._schedule)

    def final(self, utterance: Utterance, call: Hashable) -> Pending:
        """Queue an utterance that its caller waits for. Interims of the same call are cancelled.

        Raises:
            RateLimitedError: too many wait already.
            UnavailableError: the workers are closed.
        """
        return self._put(utterance, call, final=True)

    def interim(self, utterance: Utterance, call: Hashable) -> Pending:
        """Queue an utterance for when no final waits. A newer one of the same call cancels it.

        Raises:
            UnavailableError: the workers are closed.
        """
        return self._put(utterance, call, final=False)

    def _put(self, utterance: Utterance, call: Hashable, *, final: bool) -> Pending:
        job = Pending(utterance)
        shape = self._model.shape(utterance)
        with self._changed:
            if self._closed:
                raise UnavailableError("the recognizer is closed")
            add = self._schedule.add_final if final else self._schedule.add_interim
            try:
                gone = add(job, call, shape)
            except FullError as error:
                problem = f"the recognizer is full: {self._limit} utterances wait"
                raise RateLimitedError(problem) from error
            self._changed.notify()
        for old in gone:
            old.cancel()
        return job

    def give_up(self, job: Pending) -> None:
        """Never begin what has not begun."""
        job.cancel()
        with self._changed:
            self._schedule.drop(job)

    def _work(self) -> None:
        while batch := self._take():
            running = [job for job in batch if job.set_running_or_notify_cancel()]
            if not running:
                continue
            try:
                found = self._model.recognize([job.utterance for job in running])
            except BaseException as error:
                for job in running:
                    job.set_exception(error)
            else:
                for job, result in zip(running, found, strict=True):
                    job.set_result(result)
        with self._changed:
            self._serving -= 1
            if not self._serving:
                self._ended.set_result(None)

    def _take(self) -> list[Pending]:
        """Wait for work; return [] when closed."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._schedule) or self._closed)
            return self._schedule.take()

    def close(self) -> Future[None]:
        """Cancel what waits, and ask the threads to end. The result is done when all have."""
        with self._changed:
            self._closed = True
            waiting = self._schedule.clear()
            self._changed.notify_all()
        for job in waiting:
            job.cancel()
        return self._ended

    def join(self) -> None:
        """Wait for the last instructions of threads that have ended."""
        for thread in self._threads:
            thread.join()
