# SPDX-License-Identifier: Apache-2.0
"""Decides how much the box takes on, by how fast it answers. Sans-I/O: measurements and the time go in, a
level comes out.

Under load speculation goes first, since it is work that may come to nothing; then answers are kept
short; then new calls are refused. Calls that run are never ended. The way back is slower than the
way up, so that a box at its limit does not swing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from enum import IntEnum

TARGET_P95_MS = 900
"""Default target: 95 of 100 answers begin within this time of the caller's last word."""

WINDOW_S = 30.0
"""Measurements older than this say nothing about now."""

FEWEST = 5
"""One slow answer is no load: with fewer measurements than this the level does not rise."""

RISE_S = 4.0
"""From one step up to the next: as long as it takes to see what the last one brought."""

FALL_S = 10.0
"""Calm this long is one step down."""

CALM = 0.8
"""Below this share of the target it is calm; between it and the target nothing changes."""


class Level(IntEnum):
    """What is given up, each with all before it."""

    NORMAL = 0
    LEAN = 1
    """No speculation."""
    BRIEF = 2
    """Short answers."""
    FULL = 3
    """No new calls."""


class Admission:
    """The admission controller of a box.

    Times are seconds of any monotonic clock and never go back.

    Args:
        target_p95_ms: what the 95th percentile of the answer latency is held to.
        window_s: how long a measurement counts.
    """

    def __init__(self, target_p95_ms: float = TARGET_P95_MS, *, window_s: float = WINDOW_S) -> None:
        self.target_p95_ms = target_p95_ms
        self.level = Level.NORMAL
        self._window = window_s
        self._answers: deque[tuple[float, float]] = deque()
        self._moved = -math.inf
        self._calm_since: float | None = None

    def answered(self, now_s: float, latency_ms: float) -> Level:
        """Note how long a caller waited for an answer."""
        self._answers.append((now_s, latency_ms))
        return self.update(now_s)

    def p95_ms(self) -> float | None:
        """Return the 95th percentile of the answers in the window, None without any."""
        return _p95(ms for _, ms in self._answers)

    def update(self, now_s: float) -> Level:
        """Let time pass; return the level from now on."""
        while self._answers and self._answers[0][0] <= now_s - self._window:
            self._answers.popleft()
        if self._share(FEWEST) > 1:
            self._calm_since = None
            if now_s - self._moved >= RISE_S and self.level < Level.FULL:
                self._move(now_s, self.level + 1)
        elif self._share(1) >= CALM:
            self._calm_since = None
        else:
            self._calm(now_s)
        return self.level

    def _calm(self, now_s: float) -> None:
        if self._calm_since is None:
            self._calm_since = now_s
        if now_s - self._calm_since >= FALL_S and self.level > Level.NORMAL:
            self._calm_since = now_s
            self._move(now_s, self.level - 1)

    def _share(self, fewest: int) -> float:
        """Return the load as a share of what is allowed; 0 with fewer measurements than that. What was
        measured before the last step says nothing of what it brought.
        """
        answers = [ms for at, ms in self._answers if at > self._moved]
        if len(answers) < fewest:
            return 0.0
        return (_p95(answers) or 0.0) / self.target_p95_ms

    def _move(self, now_s: float, level: int) -> None:
        self.level, self._moved = Level(level), now_s


def _p95(samples: Iterable[float]) -> float | None:
    """Return the smallest sample that 95 of 100 do not exceed."""
    ordered = sorted(samples)
    return ordered[math.ceil(len(ordered) * 0.95) - 1] if ordered else None
