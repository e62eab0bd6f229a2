# SPDX-License-Identifier: Apache-2.0
"""What the step loop does, in numbers: for decisions about load, not for bills."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

WINDOW_S = 10.0
"""Over how many seconds rates are taken."""


@dataclass(frozen=True, slots=True)
class LlmLoad:
    """A moment of the loop; rates and shares are those of the last `WINDOW_S` seconds.

    Attributes:
        written_per_s: tokens of replies.
        read_per_s: tokens of prompts that had to be computed.
        busy: share of the time in which a step ran; near 1 the loop is saturated.
        step_ms: mean duration of a step, in milliseconds.
        occupancy: mean number of replies to which a step gave a token.
        prefix_hits: share of the prompts' tokens that were already in the memory.
        running: replies that hold a sequence, by class (`schedule.Urgency`, in lower case).
        waiting: replies that wait for memory, by class.
        oldest_wait_s: for how long the first committed reply without any token has been waiting; 0 for none.
    """

    written_per_s: float = 0.0
    read_per_s: float = 0.0
    busy: float = 0.0
    step_ms: float = 0.0
    occupancy: float = 0.0
    prefix_hits: float = 0.0
    running: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    oldest_wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Noted:
    """A step, or a prompt."""

    at: float
    seconds: float = 0.0
    read: int = 0
    written: int = 0
    prompt: int = 0
    cached: int = 0


class Meter:
    """Counts what the loop's thread does; any thread may read.

    Args:
        now: clock, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._begun = now()
        self._noted: deque[_Noted] = deque()
        self._lock = threading.Lock()

    def stepped(self, seconds: float, *, read: int, written: int) -> None:
        """Note a step of `read` tokens of prompts that gave a token to `written` replies."""
        self._note(_Noted(self._now(), seconds, read, written))

    def began(self, *, prompt: int, cached: int) -> None:
        """Note a prompt, `cached` tokens of which were known."""
        self._note(_Noted(self._now(), prompt=prompt, cached=cached))

    def _note(self, noted: _Noted) -> None:
        with self._lock:
            self._noted.append(noted)
            self._forget()

    def _forget(self) -> None:
        while self._noted and self._noted[0].at < self._now() - WINDOW_S:
            self._noted.popleft()

    def load(
        self, running: Mapping[str, int], waiting: Mapping[str, int], oldest_wait_s: float
    ) -> LlmLoad:
        """Return the moment."""
        with self._lock:
            self._forget()
            noted = tuple(self._noted)
        steps = [one for one in noted if one.seconds]
        span = max(min(WINDOW_S, self._now() - self._begun), 1e-3)
        seconds = sum(one.seconds for one in steps)
        written = sum(one.written for one in steps)
        prompt = sum(one.prompt for one in noted)
        return LlmLoad(
            written_per_s=written / span,
            read_per_s=sum(one.read for one in steps) / span,
            busy=min(seconds / span, 1.0),
            step_ms=1000 * seconds / len(steps) if steps else 0.0,
            occupancy=written / len(steps) if steps else 0.0,
            prefix_hits=sum(one.cached for one in noted) / prompt if prompt else 0.0,
            running=running,
            waiting=waiting,
            oldest_wait_s=oldest_wait_s,
        )
