# SPDX-License-Identifier: Apache-2.0
"""How often somebody may ask: token buckets, each in the memory of one process.

With several API processes each grants the whole rate, so a limit holds within a factor of their
number; it is there to stop floods and guessing, not to count exactly.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

REMEMBERED = 20_000
"""Buckets kept; beyond that the one unused for longest is forgotten."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """May they, how many more they could at once, and in how many seconds to come again."""

    allowed: bool
    remaining: int
    retry_after_s: int


class Buckets:
    """One bucket for each name; time is a parameter.

    Args:
        per_minute: tokens that flow in, and how many a bucket holds.
    """

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, now: float) -> Verdict:
        """Take a token from a bucket; `now` in seconds of any steady clock."""
        rate = self.per_minute / 60
        level, seen = self._levels.pop(name, (float(self.per_minute), now))
        level = min(self.per_minute, level + (now - seen) * rate)
        allowed = level >= 1
        level -= allowed
        self._levels[name] = (level, now)
        if len(self._levels) > REMEMBERED:
            self._levels.popitem(last=False)
        wait = 0 if allowed else math.ceil((1 - level) / rate)
        return Verdict(allowed, int(level), wait)
