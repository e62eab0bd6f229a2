# SPDX-License-Identifier: Apache-2.0
"""A leg without a network and engines of known behaviour, for the shell in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.plugin import (
    FRAME_SAMPLES,
    SAMPLE_RATE,
    Answered,
    Direction,
    EndCause,
    Flush,
    Leg,
    LegEnded,
    LegInfo,
    LlmCapabilities,
    LlmDelta,
    LlmRequest,
    MediaFrame,
    Pcm,
    SpeechChunk,
    SttCapabilities,
    SttRequest,
    TextDelta,
    TokenUsage,
    Transcript,
    TransportHost,
    TtsCapabilities,
    TtsRequest,
    VadCapabilities,
    WordMark,
)

SILENCE = np.zeros(FRAME_SAMPLES, np.int16)
SAMPLES_PER_CHAR = 960


class FakeLeg:
    """Plays a caller's audio into a host, 20 ms at a time, and keeps what it hears."""

    def __init__(self, host: TransportHost, leg_id: str = "leg1", called: str = "100") -> None:
        self.info = LegInfo(leg_id, "fake", "lab", Direction.INBOUND, "sip:200@lab", called)
        self.host = host
        self.heard: list[Pcm] = []
        self.rejected: tuple[int, int | None] | None = None
        self.up = False
        self.ended = False
        self._queue: Pcm = np.zeros(0, np.int16)

    def play(self, pcm: Pcm) -> None:
        self._queue = np.concatenate((self._queue, pcm))

    def queued(self) -> int:
        return len(self._queue)

    def drop(self) -> int:
        dropped, self._queue = len(self._queue), self._queue[:0]
        return dropped

    async def ring(self) -> None: ...

    async def answer(self) -> None:
        self.up = True
        self.host.event(self, Answered("PCMU"))

    async def reject(
        self, code: int, *, reason: str = "", retry_after_s: int | None = None
    ) -> None:
        self.rejected = (code, retry_after_s)

    async def hang_up(self) -> None:
        self.end(EndCause.LOCAL_HANGUP)

    async def hold(self, held: bool) -> None: ...

    async def send_dtmf(self, digits: str, *, duration_ms: int = 160) -> None: ...

    async def transfer(self, target: str, *, replaces: Leg | None = None) -> None: ...

    def end(self, cause: EndCause = EndCause.REMOTE_HANGUP) -> None:
        if not self.ended:
            self.up, self.ended = False, True
            self.host.event(self, LegEnded(cause))

    def frame(self, pcm: Pcm) -> MediaFrame:
        sent = self._queue[:FRAME_SAMPLES]
        self._queue = self._queue[FRAME_SAMPLES:]
        self.heard.append(sent.copy())
        return MediaFrame(self, pcm, np.pad(sent, (0, FRAME_SAMPLES - len(sent))))


async def speak(legs: Sequence[FakeLeg], frames: Sequence[Pcm]) -> None:
    """Run media ticks in real order: each leg hears the same frames."""
    for pcm in frames:
        await asyncio.sleep(0.02)
        up = [leg for leg in legs if leg.up]
        legs[0].host.media([leg.frame(pcm) for leg in up])


def seconds(duration: float, level: int = 0) -> list[Pcm]:
    """Frames of a caller who is silent (level 0) or talks (any other)."""
    return [np.full(FRAME_SAMPLES, level, np.int16)] * int(duration * 50)


class LevelVad:
    """Speech is whatever is not silence."""

    capabilities = VadCapabilities()

    def __init__(self) -> None:
        self.batches: list[int] = []

    def open(self) -> Any:
        return object()

    def score(self, states: Sequence[Any], windows: Pcm) -> NDArray[np.float32]:
        self.batches.append(len(states))
        scores: NDArray[np.float32] = (np.abs(windows).mean(axis=1) > 0).astype(np.float32)
        return scores

    async def aclose(self) -> None: ...


class LevelRecognizer:
    """Names the levels it hears, so that a test sees which audio reached it."""

    capabilities = SttCapabilities()

    def __init__(self) -> None:
        self.heard: list[int] = []
        """Level of each piece of audio."""

    async def transcribe(
        self, audio: AsyncIterator[Pcm | Flush], request: SttRequest
    ) -> AsyncIterator[Transcript]:
        levels: list[int] = []
        samples = 0
        async for item in audio:
            if isinstance(item, Flush):
                await asyncio.sleep(0.02)
                text = " ".join(f"level {level}" for level in levels)
                yield Transcript(text, is_final=True, audio_s=samples / SAMPLE_RATE)
                continue
            samples += len(item)
            level = int(item.max())
            self.heard.append(level)
            if level and level not in levels:
                levels.append(level)

    async def aclose(self) -> None: ...


class FunctionModel:
    capabilities = LlmCapabilities()

    def __init__(self, answer: Callable[[LlmRequest], Sequence[LlmDelta]]) -> None:
        self.answer = answer
        self.requests: list[LlmRequest] = []

    async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        self.requests.append(request)
        for delta in self.answer(request):
            await asyncio.sleep(0.01)
            yield delta

    async def aclose(self) -> None: ...


def always(text: str) -> FunctionModel:
    return FunctionModel(lambda _: [TextDelta(text), TokenUsage(5, 2)])


class ToneVoice:
    """60 ms of tone for each character, in chunks, with a mark for each word."""

    capabilities = TtsCapabilities(sample_rate=SAMPLE_RATE, streaming=True, word_marks=True)

    async def speak(
        self, text: AsyncIterator[str], request: TtsRequest
    ) -> AsyncIterator[SpeechChunk]:
        async for piece in text:
            offset = 0
            for word in piece.split(" "):
                await asyncio.sleep(0.005)
                pcm = np.full((len(word) + 1) * SAMPLES_PER_CHAR, 3000, np.int16)
                yield SpeechChunk(pcm, (WordMark(offset, offset * SAMPLES_PER_CHAR),))
                offset += len(word) + 1

    async def aclose(self) -> None: ...
