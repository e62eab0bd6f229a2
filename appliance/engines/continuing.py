# SPDX-License-Identifier: Apache-2.0
"""Taking up where another provider broke off: what was said is not said again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np

from appliance.audio.resample import Resampler
from appliance.plugin import LlmDelta, Pcm, SpeechChunk, TextDelta, WordMark

_SENTENCE_ENDS = (".", "!", "?", "…", ":", ";")

CHARS_PER_S = 14.0
"""How fast speech goes where the synthesizer gives no word marks: a usual reading speed in English."""


async def without_what_was_said(
    said: str, deltas: AsyncIterator[LlmDelta]
) -> AsyncIterator[LlmDelta]:
    """Yield a reply but for what the caller has been given of it already.

    A model that answers as the one before did goes on in mid-word. Any other answer is said from its
    beginning, as a sentence of its own.

    Args:
        said: text given out so far, "" at the beginning of a reply.
        deltas: the whole reply of another model.
    """
    same, matching = "", bool(said)
    async for delta in deltas:
        if not matching:
            yield delta
            continue
        if isinstance(delta, TextDelta):
            same += delta.text
            if said.startswith(same):
                continue
            matching = False
            if same.startswith(said):
                yield TextDelta(same[len(said) :])
            else:
                yield TextDelta(_break_after(said) + same.lstrip())
        else:  # a tool call, or the end: what comes after it is new
            yield delta


def _break_after(said: str) -> str:
    return " " if said.rstrip().endswith(_SENTENCE_ENDS) else "... "


class Clause:
    """A clause on its way through one or more synthesizers, as audio of one rate.

    Attributes:
        rate: of the first synthesizer, Hz; that of all audio given out.
    """

    def __init__(self, text: str) -> None:
        self.rate = 0
        self._text = text
        self._samples = 0
        self._cut = 0  # where the text of the current synthesizer begins
        self._offset = 0  # samples given out before it
        self._marks: list[WordMark] = []
        self._resampler: Resampler | None = None

    def rest(self) -> str:
        """Return what no synthesizer has spoken yet: the word in which the last one broke off, and on."""
        return self._text[self._reached() :]

    def _reached(self) -> int:
        begun = [mark.char for mark in self._marks if mark.sample < self._samples]
        if begun:
            return max(begun)
        if not self._samples:
            return self._cut
        chars = int((self._samples - self._offset) / self.rate * CHARS_PER_S)
        if self._cut + chars >= len(self._text):
            return len(self._text)
        return max(self._text.rfind(" ", self._cut, self._cut + chars + 1) + 1, self._cut)

    def voice(self, rate: int) -> None:
        """Another synthesizer speaks `rest`, at its own rate."""
        self._cut = self._reached()
        self._offset = self._samples
        self.rate = self.rate or rate
        self._resampler = Resampler(rate, self.rate)

    def take(self, chunk: SpeechChunk) -> SpeechChunk:
        """Return its audio as part of the clause."""
        assert self._resampler is not None
        scale = self.rate / self._resampler.from_rate
        marks = tuple(
            WordMark(mark.char + self._cut, round(mark.sample * scale) + self._offset)
            for mark in chunk.marks
        )
        self._marks += marks
        return self._given(self._resampler.process(chunk.pcm), marks)

    def flush(self) -> SpeechChunk | None:
        """Return what the change of rate still holds back, if anything."""
        assert self._resampler is not None
        tail = self._resampler.flush()
        return self._given(tail, ()) if len(tail) else None

    def _given(self, pcm: Pcm, marks: tuple[WordMark, ...]) -> SpeechChunk:
        self._samples += int(np.size(pcm))
        return SpeechChunk(pcm, marks)
