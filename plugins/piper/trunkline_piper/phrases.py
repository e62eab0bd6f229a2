# SPDX-License-Identifier: GPL-3.0-or-later
"""Audio of clauses that were spoken before: greetings, acknowledgements and the like are said all day.

A plain least-recently-used store, bounded by its bytes. Clauses that are said once only pass through it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from appliance.plugin import Pcm

LONGEST_S = 8.0
"""Longer clauses are not kept: nobody says the same one twice."""


class Phrases:
    """Keeps what was synthesized, by whatever it depends on.

    Args:
        limit: bytes of audio to keep at most; 0 keeps nothing.
        rate: samples a second.
    """

    def __init__(self, limit: int, rate: int) -> None:
        self._limit = limit
        self._longest = min(limit, 2 * round(LONGEST_S * rate))
        self._kept: OrderedDict[Hashable, tuple[Pcm, ...]] = OrderedDict()
        self.size = 0
        """Bytes kept."""

    def get(self, key: Hashable) -> tuple[Pcm, ...] | None:
        """Return the sentences kept under `key`, if there are any."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def keep(self, key: Hashable, sentences: tuple[Pcm, ...]) -> None:
        """Keep a clause, and forget those that were not said for longest, where room is short."""
        size = sum(pcm.nbytes for pcm in sentences)
        if size > self._longest:
            return
        self.size += size - sum(pcm.nbytes for pcm in self._kept.pop(key, ()))
        self._kept[key] = sentences
        while self.size > self._limit:
            _, forgotten = self._kept.popitem(last=False)
            self.size -= sum(pcm.nbytes for pcm in forgotten)
