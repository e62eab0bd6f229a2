# SPDX-License-Identifier: Apache-2.0
"""The synthesizer: text in, whistled audio out, a chunk for each word."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import numpy as np

from appliance.plugin import Pcm, SpeechChunk, TtsRequest, WordMark
from trunkline_whistle import CAPABILITIES, WhistleSettings

WORD = re.compile(r"\w+(?:['’-]\w+)*")
GAP_LETTERS = 1.5
"""Silence after a word, in letters."""


class Whistle:
    """A `TextToSpeech`. It holds nothing that belongs to a call, so that one object serves them all."""

    def __init__(self, settings: WhistleSettings) -> None:
        self.capabilities = CAPABILITIES
        self._settings = settings

    async def speak(
        self, text: AsyncIterator[str], request: TtsRequest
    ) -> AsyncIterator[SpeechChunk]:
        """Whistle each piece of text as it comes.

        Being cancelled needs no code here: the task that reads this is cancelled at an `await`, and
        nothing is held that would have to be let go.
        """
        chars = samples = 0
        async for piece in text:
            for word in WORD.finditer(piece):
                await asyncio.sleep(0)  # others may run: a word takes well under a millisecond
                pcm = self._whistle(word.group(), request.speed)
                yield SpeechChunk(pcm, (WordMark(chars + word.start(), samples),))
                samples += len(pcm)
            chars += len(piece)

    def _whistle(self, word: str, speed: float) -> Pcm:
        """Return a word as one tone that glides from letter to letter, and the gap after it."""
        rate = self.capabilities.sample_rate
        letter = round(self._settings.letter_ms / 1000 * rate / speed)
        steps = [(ord(char.lower()) - ord("a")) % 26 for char in word]
        pitches = self._settings.pitch_hz * 2 ** (np.array([*steps, steps[-1]]) / 26 - 0.5)
        glide = np.interp(np.arange(letter * len(word)), np.arange(len(pitches)) * letter, pitches)
        tone = np.sin(2 * np.pi * np.cumsum(glide) / rate)
        tone *= np.minimum(1, np.minimum(np.arange(len(tone)), np.arange(len(tone))[::-1]) / 80)
        gap = np.zeros(round(letter * GAP_LETTERS))
        loud = self._settings.volume * 32767
        pcm: Pcm = (np.concatenate([tone, gap]) * loud).astype(np.int16)
        return pcm

    async def aclose(self) -> None:
        """Nothing is held open."""
