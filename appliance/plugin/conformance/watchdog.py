# SPDX-License-Identifier: Apache-2.0
"""Measures for how long the event loop was held up, and names the line that did it.

Wall-clock time alone would blame a provider for a busy machine. Time in which the loop's thread was
ready but given no processor (Linux, /proc/PID/task/TID/schedstat, second field) is taken off.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

LIMIT_S = 0.020
"""One frame of audio: the longest that an async provider may hold the loop."""

BEAT_S = 0.002
WATCHER = "conformance-watchdog"


class LoopWatchdog:
    """Watches the running loop inside `async with`.

    Attributes:
        longest_s: the longest time the loop was held up.
        where: the innermost line outside the event loop's machinery that was running then, if it
            could be caught.
    """

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.where = ""
        self._beat = 0.0
        self._waited = 0.0
        self._seen = ""
        self._handle: asyncio.TimerHandle | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop_thread = 0
        self._schedstat = Path("/proc/thread-self/schedstat")

    async def __aenter__(self) -> Self:
        self._loop_thread = threading.get_ident()
        self._beat, self._waited = time.perf_counter(), self._processor_wait()
        self._handle = asyncio.get_running_loop().call_later(BEAT_S, self._tick)
        self._thread = threading.Thread(target=self._watch, name=WATCHER, daemon=True)
        self._thread.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._measure()
        if self._handle is not None:
            self._handle.cancel()
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _processor_wait(self) -> float:
        """Seconds the calling thread has waited for a processor so far; 0 where unknown."""
        try:
            return int(self._schedstat.read_text(encoding="ascii").split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0

    def _tick(self) -> None:
        self._measure()
        self._handle = asyncio.get_running_loop().call_later(BEAT_S, self._tick)

    def _measure(self) -> None:
        now, waited = time.perf_counter(), self._processor_wait()
        held = (now - self._beat - BEAT_S) - (waited - self._waited)
        if held > self.longest_s:
            self.longest_s = held
            self.where = self._seen
        self._beat, self._waited, self._seen = now, waited, ""

    def _watch(self) -> None:
        """Runs in a thread: takes a look at the loop's stack when its beat is overdue."""
        while not self._stop.wait(LIMIT_S / 4):
            if not self._seen and time.perf_counter() - self._beat > LIMIT_S * 0.75:
                self._seen = _line(sys._current_frames().get(self._loop_thread))  # noqa: SLF001


def _line(frame: FrameType | None) -> str:
    for entry in reversed(traceback.extract_stack(frame) if frame else []):
        folder = Path(entry.filename)
        if "asyncio" not in folder.parts and folder.name not in {"selectors.py", "watchdog.py"}:
            return f"{folder.name}:{entry.lineno} in {entry.name}"
    return ""
