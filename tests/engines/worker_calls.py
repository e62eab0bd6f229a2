# SPDX-License-Identifier: Apache-2.0
"""Engines for calls whose every word is known: they run in workers and can be killed at any moment.

A caller's utterance is a tone whose level names it; the recognizer names it back, the model repeats
the name in its answer, the voice speaks it in tones with exact word marks.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, Literal

import numpy as np

from appliance.plugin import (
    SAMPLE_RATE,
    BuildContext,
    Flush,
    Kind,
    LlmCapabilities,
    LlmDelta,
    LlmRequest,
    Offer,
    Pcm,
    Role,
    Settings,
    SpeechChunk,
    SttCapabilities,
    SttRequest,
    TextDelta,
    TokenUsage,
    Transcript,
    TtsCapabilities,
    TtsRequest,
    WordMark,
)

BASE, STEP = 1000, 20
"""An utterance's level is BASE + STEP * its number."""

WORD_S = 0.12
STT = SttCapabilities(interim_results=True)
LLM = LlmCapabilities()
TTS = TtsCapabilities(SAMPLE_RATE, streaming=True, word_marks=True)


class LabSettings(Settings):
    """`harm`: what it does to its process from the start; `word_s`: how long a word takes the model."""

    harm: Literal["none", "burn", "hang", "garbage"] = "none"
    word_s: float = 0.03


def utterance(number: int, seconds: float) -> list[Pcm]:
    """Return the frames of a caller's utterance."""
    return [np.full(320, BASE + STEP * number, np.int16)] * int(seconds * 50)


class Ears:
    capabilities = STT

    def __init__(self, settings: LabSettings) -> None:
        self._harm = settings.harm

    async def transcribe(
        self, audio: AsyncIterator[Pcm | Flush], request: SttRequest
    ) -> AsyncIterator[Transcript]:
        samples, level = 0, 0
        async for item in audio:
            if self._harm == "garbage":
                yield Transcript("\x00" * 500, True, -1.0, 99.0)
            if isinstance(item, Flush):
                await asyncio.sleep(0.03)
                text = f"Question {(level - BASE) // STEP}." if level else ""
                yield Transcript(text, True, samples / SAMPLE_RATE)
            else:
                samples += item.size
                level = max(level, int(item.max(initial=0)))

    async def aclose(self) -> None: ...


class Mind:
    capabilities = LLM

    def __init__(self, settings: LabSettings) -> None:
        self._settings = settings

    async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        if self._settings.harm == "garbage":
            for _ in range(200):
                yield TextDelta("\ufffd\x00" * 1000)
        asked = [m.content for m in request.messages if m.role is Role.USER]
        name = asked[-1].rstrip(".").lower() if asked else "nothing"
        answer = f"Here is the answer to {name}, as long as it has to be, and not a word longer."
        for number, word in enumerate(answer.split(" ")):
            await asyncio.sleep(self._settings.word_s)
            yield TextDelta(f" {word}" if number else word)
        yield TokenUsage(len(asked), 16)

    async def aclose(self) -> None: ...


class Voice:
    capabilities = TTS

    def __init__(self, settings: LabSettings) -> None:
        self._harm = settings.harm

    async def speak(
        self, text: AsyncIterator[str], request: TtsRequest
    ) -> AsyncIterator[SpeechChunk]:
        size = int(WORD_S * SAMPLE_RATE)
        char = sample = 0
        async for piece in text:
            if self._harm == "garbage":
                yield SpeechChunk(np.full(size, 32767, np.int16), (WordMark(10**6, 10**9),))
            for word in piece.split(" "):
                await asyncio.sleep(0.01)
                yield SpeechChunk(np.full(size, 4000, np.int16), (WordMark(char, sample),))
                char, sample = char + len(word) + 1, sample + size

    async def aclose(self) -> None: ...


def burn() -> None:
    """Keep the interpreter busy for ever."""
    while True:
        sum(range(1000))


def stall() -> None:
    """Stop the whole process, as a deadlock does that holds the interpreter's lock."""
    time.sleep(1.0)
    os.kill(os.getpid(), 19)


def _build(cls: type[Any], settings: LabSettings) -> Any:
    if settings.harm == "burn":
        for _ in range(2):
            threading.Thread(target=burn, daemon=True).start()
    elif settings.harm == "hang":
        threading.Thread(target=stall, daemon=True).start()
    return cls(settings)


def build_ears(settings: LabSettings, context: BuildContext) -> Any:
    return _build(Ears, settings)


def build_mind(settings: LabSettings, context: BuildContext) -> Any:
    return _build(Mind, settings)


def build_voice(settings: LabSettings, context: BuildContext) -> Any:
    return _build(Voice, settings)


OFFERS = {
    Kind.SPEECH_TO_TEXT: Offer("lab", Kind.SPEECH_TO_TEXT, LabSettings, build_ears, STT, ""),
    Kind.LANGUAGE_MODEL: Offer("lab", Kind.LANGUAGE_MODEL, LabSettings, build_mind, LLM, ""),
    Kind.TEXT_TO_SPEECH: Offer("lab", Kind.TEXT_TO_SPEECH, LabSettings, build_voice, TTS, ""),
}
