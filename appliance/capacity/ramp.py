# SPDX-License-Identifier: Apache-2.0
"""Decides which load to try next: doubles until it is too much, then halves the gap. Pure."""

from __future__ import annotations

CLOSE_ENOUGH = 0.125
"""The search ends when the gap is at most this part of what is held: one call in eight."""


class Ramp:
    """The search for the highest load that is held.

    Args:
        most: never try more calls than this.
        first: where to begin.
    """

    def __init__(self, most: int, first: int = 1) -> None:
        self.held = 0
        """The highest load that was held so far."""
        self.too_much: int | None = None
        """The lowest load that was not."""
        self._most = most
        self._first = min(first, most)

    def add(self, load: int, *, held: bool) -> None:
        """Note how a load went."""
        if held:
            self.held = max(self.held, load)
        elif self.too_much is None or load < self.too_much:
            self.too_much = load

    def next_load(self) -> int | None:
        """Return what to try next, None when the answer is known."""
        if self.held >= self._most:
            return None
        if self.too_much is None:
            return self._first if self.held == 0 else min(2 * self.held, self._most)
        gap = self.too_much - self.held
        if gap <= max(1, int(CLOSE_ENOUGH * self.held)):
            return None
        return self.held + gap // 2
