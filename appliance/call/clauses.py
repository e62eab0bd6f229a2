# SPDX-License-Identifier: Apache-2.0
"""Cuts streamed text into clauses, so that speech begins before the sentence is written. Pure."""

from __future__ import annotations

import re

_SENTENCE_END = re.compile(r"[.!?…]+[\"')\]]*\s|\n")
_CLAUSE_END = re.compile(r"[,;:–—][\"')\]]*\s")
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|st|no|vs|etc|e\.g|i\.e|a\.m|p\.m)|\b[A-Z])\.$", re.IGNORECASE
)


class Echo:
    """Takes out of a repeated answer what was said already, so that it goes on where it broke off.

    A repetition that turns out to be worded otherwise is given whole.

    Args:
        said: what was said; white space does not matter.
    """

    def __init__(self, said: str) -> None:
        self._said = "".join(said.split())
        self._matched = 0
        self._held = ""

    def push(self, piece: str) -> str:
        """Add a piece; return what of all pieces so far is to be said now."""
        for index, char in enumerate(piece):
            if self._matched == len(self._said):
                self._held = ""
                return piece[index:]
            if char.isspace():
                continue
            if char != self._said[self._matched]:
                said, self._held, self._said, self._matched = self._held, "", "", 0
                return said + piece
            self._matched += 1
        self._held += piece
        return ""


class ClauseSplitter:
    """Collects text pieces and gives whole clauses.

    A sentence end always cuts. A comma cuts only when at least `min_words` words stand before it, so
    that speech does not fall into crumbs; the first clause may be shorter, for an early start.

    Args:
        min_words: words before a comma that make it a cut.
        first_min_words: the same for the first clause.
    """

    def __init__(self, min_words: int = 6, first_min_words: int = 2) -> None:
        self._min = min_words
        self._first_min = first_min_words
        self._text = ""
        self._given = 0

    def push(self, piece: str) -> list[str]:
        """Add a piece; return the clauses that are complete now, with their punctuation."""
        self._text += piece
        clauses = []
        while (end := self._cut()) is not None:
            clause, self._text = self._text[:end].strip(), self._text[end:]
            if clause:
                clauses.append(clause)
                self._given += 1
        return clauses

    def flush(self) -> list[str]:
        """Return what is left, as the last clause; the splitter is empty afterwards."""
        rest, self._text = self._text.strip(), ""
        if rest:
            self._given += 1
        return [rest] if rest else []

    def _cut(self) -> int | None:
        for match in _SENTENCE_END.finditer(self._text):
            if not _ABBREVIATION.search(self._text[: match.start() + 1]):
                return min(match.end(), self._comma() or match.end())
        return self._comma()

    def _comma(self) -> int | None:
        need = self._min if self._given else self._first_min
        for match in _CLAUSE_END.finditer(self._text):
            if len(self._text[: match.start()].split()) >= need:
                return match.end()
        return None
