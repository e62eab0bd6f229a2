# SPDX-License-Identifier: Apache-2.0
"""Providers that live in a worker. They implement the provider interfaces, so that nobody else knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.engines.worker import codec
from appliance.engines.worker import engine_pb2 as pb
from appliance.engines.worker.link import Lease
from appliance.plugin import (
    EmbedderCapabilities,
    Flush,
    Kind,
    LlmCapabilities,
    LlmDelta,
    LlmRequest,
    Pcm,
    ReplyPace,
    SpeechChunk,
    SttCapabilities,
    SttRequest,
    Transcript,
    TtsCapabilities,
    TtsRequest,
    UnavailableError,
)

AUDIO_S = 0.1
"""Least audio in one message, unless a final is wanted: a message costs as much as a frame is worth."""

PACE_S = 0.1
"""Least time between two messages that say how much speech is unplayed; it changes with every frame."""


class Remote:
    """What all of them share."""

    _worker: Lease

    @property
    def recovering(self) -> bool:
        """Whether it cannot answer now and will soon: its worker is being restarted."""
        return self._worker.recovering

    async def aclose(self) -> None:
        """The worker is its supervisor's."""


class RemoteSpeechToText(Remote):
    """See `appliance.plugin.SpeechToText`."""

    def __init__(self, worker: Lease, capabilities: SttCapabilities) -> None:
        self.capabilities = capabilities
        self._worker = worker

    async def transcribe(
        self, audio: AsyncIterator[Pcm | Flush], request: SttRequest
    ) -> AsyncIterator[Transcript]:
        """Transcribe one caller turn in the worker."""
        at_once = int(AUDIO_S * self.capabilities.sample_rates[0])
        messages = _heard(audio, request, at_once)
        stream = self._worker.lease().exchange("Transcribe", messages, pb.Transcript)
        async with aclosing(stream) as transcripts:  # type: ignore[type-var]
            async for message in transcripts:
                yield codec.transcript_of(message)


async def _heard(
    audio: AsyncIterator[Pcm | Flush], request: SttRequest, at_once: int
) -> AsyncIterator[pb.TranscribeInput]:
    """Send audio in messages of at least `at_once` samples; a flush takes along what is held back."""
    yield codec.stt_request(request)
    held: list[Pcm] = []
    async for item in audio:
        if not isinstance(item, Flush):
            held.append(item)
            if sum(map(len, held)) < at_once:
                continue
        for message in _joined(held):
            yield message
        held.clear()
        if isinstance(item, Flush):
            yield pb.TranscribeInput(flush=True)
    for message in _joined(held):
        yield message


def _joined(held: Sequence[Pcm]) -> list[pb.TranscribeInput]:
    pcm = np.concatenate(held) if held else np.zeros(0, np.int16)
    return [pb.TranscribeInput(pcm=piece) for piece in codec.pieces(pcm) if piece]


class RemoteLanguageModel(Remote):
    """See `appliance.plugin.LanguageModel`."""

    def __init__(self, worker: Lease, capabilities: LlmCapabilities) -> None:
        self.capabilities = capabilities
        self._worker = worker

    async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        """Stream the worker's reply, and tell it how urgent the rest is."""
        stream = self._worker.lease().exchange("Reply", _asked(request), pb.ReplyDelta)
        async with aclosing(stream) as messages:  # type: ignore[type-var]
            async for message in messages:
                yield _delta(message)


def _delta(message: pb.ReplyDelta) -> LlmDelta:
    try:
        return codec.delta_of(message)
    except ValueError as error:
        raise UnavailableError(f"the engine worker: {error}") from error


async def _asked(request: LlmRequest) -> AsyncIterator[pb.ReplyInput]:
    first = codec.llm_request(request)
    if request.pace is None:
        yield first
        return
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell() -> None:
        loop.call_soon_threadsafe(changed.set)

    unwatch = request.pace.watch(tell)
    try:
        yield first
        async for pace in _changes(request.pace, changed, sent=first.pace):
            yield pb.ReplyInput(pace=pace)
    finally:
        unwatch()


async def _changes(
    pace: ReplyPace, changed: asyncio.Event, sent: pb.Pace
) -> AsyncIterator[pb.Pace]:
    """Yield a commit at once, other changes at most every `PACE_S`."""
    loop = asyncio.get_running_loop()
    due, timer = loop.time(), None
    while True:
        await changed.wait()
        changed.clear()
        now = codec.pace(pace)
        if now.committed == sent.committed and (rest := due - loop.time()) > 0:
            timer = timer or loop.call_later(rest, changed.set)
            continue
        timer = None
        if now != sent:
            sent, due = now, loop.time() + PACE_S
            yield now


class RemoteTextToSpeech(Remote):
    """See `appliance.plugin.TextToSpeech`."""

    def __init__(self, worker: Lease, capabilities: TtsCapabilities) -> None:
        self.capabilities = capabilities
        self._worker = worker

    async def speak(
        self, text: AsyncIterator[str], request: TtsRequest
    ) -> AsyncIterator[SpeechChunk]:
        """Speak in the worker."""
        stream = self._worker.lease().exchange("Speak", _said(text, request), pb.SpeechChunk)
        async with aclosing(stream) as messages:  # type: ignore[type-var]
            async for message in messages:
                yield codec.speech_of(message)


async def _said(text: AsyncIterator[str], request: TtsRequest) -> AsyncIterator[pb.SpeakInput]:
    yield codec.tts_request(request)
    async for piece in text:
        yield pb.SpeakInput(text=piece)


class RemoteEmbedder(Remote):
    """See `appliance.plugin.Embedder`."""

    def __init__(self, worker: Lease, capabilities: EmbedderCapabilities) -> None:
        self.capabilities = capabilities
        self._worker = worker

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed in the worker."""
        found = await self._worker.lease().embed(list(texts))
        vectors = np.frombuffer(found.vectors, "<f4").astype(np.float32)
        try:
            return vectors.reshape(found.rows, self.capabilities.dimensions)
        except ValueError as error:
            raise UnavailableError("the engine worker sent vectors of a wrong size") from error


REMOTE: Mapping[Kind, type[Any]] = {
    Kind.SPEECH_TO_TEXT: RemoteSpeechToText,
    Kind.LANGUAGE_MODEL: RemoteLanguageModel,
    Kind.TEXT_TO_SPEECH: RemoteTextToSpeech,
    Kind.EMBEDDER: RemoteEmbedder,
}
