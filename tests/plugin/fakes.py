# SPDX-License-Identifier: Apache-2.0
"""Providers that keep their contracts, small enough to break in one place at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from appliance.plugin import (
    BuildContext,
    Flush,
    Kind,
    LlmCapabilities,
    LlmDelta,
    LlmRequest,
    Offer,
    Pcm,
    Settings,
    SpeechChunk,
    SttCapabilities,
    SttRequest,
    TextDelta,
    TokenUsage,
    Transcript,
    TtsCapabilities,
    TtsRequest,
    VadCapabilities,
    WordMark,
)


class FakeSettings(Settings):
    """Settings that a fake has."""

    loudness: int = Field(8000, description="Peak of the audio.")


class Stt:
    """Hears one word for each second in which it was loud."""

    capabilities: SttCapabilities = SttCapabilities(interim_results=True)

    async def transcribe(
        self,
        audio: AsyncIterator[Pcm | Flush],
        request: SttRequest,
    ) -> AsyncIterator[Transcript]:
        samples = loud = flushed = 0
        async for piece in audio:
            if isinstance(piece, Flush):
                yield self.transcript(samples, loud, final=True)
                flushed = samples
                continue
            before = samples // 8000
            samples += len(piece)
            loud += int((np.abs(piece.astype(np.int32)) > 500).any()) * len(piece)
            if samples // 8000 > before:
                yield self.transcript(samples, loud, final=False)
        if samples > flushed:
            yield self.transcript(samples, loud, final=True)

    def transcript(self, samples: int, loud: int, *, final: bool) -> Transcript:
        return Transcript(" ".join(["word"] * round(loud / 16000)), final, samples / 16000)

    async def aclose(self) -> None:
        """Nothing is held open."""


class Llm:
    """Says the same five words to everyone, a word every 5 ms."""

    capabilities: LlmCapabilities = LlmCapabilities(context_tokens=100)

    async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        prompt = sum(len(message.content.split()) for message in request.messages)
        if prompt > self.capabilities.context_tokens * 2:
            self.refuse(prompt)
        words = ["We", "are", "open", "until", "six."][: request.max_tokens]
        for word in words:
            await asyncio.sleep(0.005)
            yield TextDelta(word + " ")
        yield TokenUsage(prompt, len(words))

    def refuse(self, prompt: int) -> None:
        from appliance.plugin import InvalidRequestError  # noqa: PLC0415

        raise InvalidRequestError(f"{prompt} tokens are too many")

    async def aclose(self) -> None:
        """Nothing is held open."""


class Tts:
    """Hums for 0.3 s a word."""

    capabilities: TtsCapabilities = TtsCapabilities(16000, streaming=True, word_marks=True)
    hum: Pcm = (np.sin(np.arange(4800) / 10) * 8000).astype(np.int16)

    async def speak(
        self,
        text: AsyncIterator[str],
        request: TtsRequest,
    ) -> AsyncIterator[SpeechChunk]:
        char = sample = 0
        async for piece in text:
            for word in piece.split():
                at = piece.index(word)
                if any(letter.isalnum() for letter in word):
                    await self.work()
                    mark = WordMark(char + at, sample)
                    sample += len(self.hum)
                    yield SpeechChunk(self.hum.copy(), (mark,))
                char += at + len(word)
                piece = piece[at + len(word) :]  # noqa: PLW2901
            char += len(piece)

    async def work(self) -> None:
        await asyncio.sleep(0.002)

    async def aclose(self) -> None:
        """Nothing is held open."""


class Vad:
    """Takes loudness for speech."""

    capabilities: VadCapabilities = VadCapabilities()

    def open(self) -> Any:
        return []

    def score(self, states: Sequence[Any], windows: Pcm) -> NDArray[np.float32]:
        assert len(states) == len(windows)
        peaks = np.abs(windows.astype(np.int32)).max(axis=1, initial=0)
        scores: NDArray[np.float32] = np.minimum(peaks / 4000, 1).astype(np.float32)
        return scores

    async def aclose(self) -> None:
        """Nothing is held open."""


KINDS: dict[type, Kind] = {
    Stt: Kind.SPEECH_TO_TEXT,
    Llm: Kind.LANGUAGE_MODEL,
    Tts: Kind.TEXT_TO_SPEECH,
    Vad: Kind.VOICE_ACTIVITY,
}


def offer(provider: type[Any], settings: type[Settings] = FakeSettings) -> Offer:
    """Return an offer of a fake, or of a class derived from one."""
    kind = next(kind for base, kind in KINDS.items() if issubclass(provider, base))

    def build(values: Any, context: BuildContext) -> Any:
        del values, context
        return provider()

    return Offer("fake", kind, settings, build, provider.capabilities, "A fake.")
