# SPDX-License-Identifier: Apache-2.0
"""What a call used, with what drafts used kept apart until it is known what became of them."""

from __future__ import annotations

from typing import Protocol

DISCARDED = "discarded_"
"""Prefix of the kinds that count what came to nothing: `discarded_completion` and so on."""


class UsageSink(Protocol):
    """Receives what a call used, as integers."""

    def __call__(self, provider: str, kind: str, unit: str, quantity: int) -> None:
        """Note `quantity` of `unit` (`seconds`, `tokens`, `characters`).

        `kind` is `speech_to_text`, `prompt`, `completion` or `text_to_speech`; with the prefix
        `discarded_` it was used for an answer that was never spoken, and is in no other kind.
        """


class UsageBook:
    """Counts by generation.

    Args:
        sink: receives each entry once its kind is known.
    """

    def __init__(self, sink: UsageSink) -> None:
        self._sink = sink
        self._drafts: dict[int, list[tuple[str, str, str, int]]] = {}
        self._discarded: set[int] = set()

    def draft(self, gen: int) -> None:
        """What `gen` uses from now on waits for `commit` or `discard`."""
        self._drafts[gen] = []

    def note(self, gen: int, provider: str, kind: str, unit: str, quantity: int) -> None:
        """Note what a generation used. Nothing used is no entry."""
        if not quantity:
            return
        if gen in self._drafts:
            self._drafts[gen].append((provider, kind, unit, quantity))
        elif gen in self._discarded:
            self._sink(provider, DISCARDED + kind, unit, quantity)
        else:
            self._sink(provider, kind, unit, quantity)

    def commit(self, gen: int) -> None:
        """The draft is spoken."""
        for provider, kind, unit, quantity in self._drafts.pop(gen, ()):
            self._sink(provider, kind, unit, quantity)

    def discard(self, gen: int) -> None:
        """The draft came to nothing; what it still uses until it is stopped did as well."""
        self._discarded.add(gen)
        for entry in self._drafts.pop(gen, ()):
            self.note(gen, *entry)

    def close(self) -> None:
        """The call is over: what is still a draft was never spoken."""
        for gen in tuple(self._drafts):
            self.discard(gen)
