# SPDX-License-Identifier: Apache-2.0
"""Threads that run the model: finals first, interim results only when nobody waits.

CTranslate2 releases the interpreter lock while it computes, and cannot be interrupted. So a cancelled job
that has not begun is never begun; one that has begun ends, unread.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

from appliance.plugin import UnavailableError
from trunkline_faster_whisper.whisper import Recognized, Utterance, Whisper


@dataclass(frozen=True, slots=True)
class _Job:
    utterance: Utterance
    result: Future[Recognized] = field(default_factory=Future)


class Workers:
    """A queue and the threads that serve it.

    Args:
        model: the model; several threads may use it at once.
        threads: how many.
    """

    def __init__(self, model: Whisper, threads: int) -> None:
        self._model = model
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._idle = 0
        self._closed = False
        self._serving = threads
        self._ended: Future[None] = Future()
        self._threads = [
            threading.Thread(target=self._work, name=f"faster-whisper-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, utterance: Utterance) -> Future[Recognized]:
        """Queue an utterance.

        Raises:
            UnavailableError: the workers are closed.
        """
        return self._put(_Job(utterance))

    def submit_if_idle(self, utterance: Utterance) -> Future[Recognized] | None:
        """Start an utterance at once, or not at all."""
        with self._changed:
            if self._jobs or not self._idle:
                return None
        return self._put(_Job(utterance))

    def _put(self, job: _Job) -> Future[Recognized]:
        with self._changed:
            if self._closed:
                raise UnavailableError("the recognizer is closed")
            self._jobs.append(job)
            self._changed.notify()
        return job.result

    def _work(self) -> None:
        while batch := self._take():
            running = [job for job in batch if job.result.set_running_or_notify_cancel()]
            if not running:
                continue
            try:
                found = self._model.recognize([job.utterance for job in running])
            except BaseException as error:
                for job in running:
                    job.result.set_exception(error)
            else:
                for job, result in zip(running, found, strict=True):
                    job.result.set_result(result)
        with self._changed:
            self._serving -= 1
            if not self._serving:
                self._ended.set_result(None)

    def _take(self) -> list[_Job]:
        """Wait for work; return the oldest jobs, as many as make a batch, or [] when closed."""
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._jobs or self._closed)
            self._idle -= 1
            count = min(len(self._jobs), self._model.batch_size)
            return [self._jobs.popleft() for _ in range(count)]

    def close(self) -> Future[None]:
        """Cancel what waits, and ask the threads to end. The result is done when all have."""
        with self._changed:
            self._closed = True
            for job in self._jobs:
                job.result.cancel()
            self._jobs.clear()
            self._changed.notify_all()
        return self._ended

    def join(self) -> None:
        """Wait for the last instructions of threads that have ended."""
        for thread in self._threads:
            thread.join()
