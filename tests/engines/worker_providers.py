# SPDX-License-Identifier: Apache-2.0
"""Providers that do what they are told, and harm, inside a worker process."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import SecretStr

from appliance.plugin import (
    BuildContext,
    EmbedderCapabilities,
    Flush,
    InvalidRequestError,
    Kind,
    LlmCapabilities,
    LlmDelta,
    LlmRequest,
    ModelNotFoundError,
    Offer,
    Pcm,
    RateLimitedError,
    Settings,
    SpeechChunk,
    SttCapabilities,
    SttRequest,
    TextDelta,
    TokenUsage,
    ToolCall,
    Transcript,
    TtsCapabilities,
    TtsRequest,
    WordMark,
)

LLM = LlmCapabilities(context_tokens=512)
STT = SttCapabilities((8000, 16000), True, frozenset({"en", "nl"}), True)
TTS = TtsCapabilities(22050, streaming=True, word_marks=True, voices=("ann", "bob"))
EMBEDDER = EmbedderCapabilities(dimensions=3)
WORD_SAMPLES = 2205


class PuppetSettings(Settings):
    """`diary`: a file to which it appends what happens to it; `key`: a secret."""

    diary: Path | None = None
    key: SecretStr = SecretStr("")
    word_s: float = 0.01
    name: str = "puppet"
    fail_first: Path | None = None
    rate: int = 22050


class Puppet:
    def __init__(self, settings: PuppetSettings) -> None:
        self.settings = settings

    def note(self, what: str) -> None:
        if self.settings.diary is not None:
            with self.settings.diary.open("a") as diary:
                diary.write(what + "\n")

    async def aclose(self) -> None:
        self.note("closed")


class PuppetModel(Puppet):
    """Does what the last message says: the first word is a command."""

    capabilities = LLM

    async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        command, _, rest = request.messages[-1].content.partition(" ")
        self.note(f"asked {command}")
        try:
            async for delta in self._obey(command, rest, request):
                yield delta
        except (asyncio.CancelledError, GeneratorExit):
            self.note("cancelled")
            raise

    async def _obey(  # noqa: C901, PLR0912  one flat table
        self, command: str, rest: str, request: LlmRequest
    ) -> AsyncIterator[LlmDelta]:
        match command:
            case "say":
                for word in rest.split(" "):
                    await asyncio.sleep(self.settings.word_s)
                    yield TextDelta(word + " ")
            case "who":
                yield TextDelta(f"{self.settings.name} {self.settings.key.get_secret_value()}")
            case "pace":
                async for delta in self._pace(request):
                    yield delta
            case "tool":
                yield ToolCall("1", rest, '{"a": 1}')
            case "hang":
                await asyncio.Event().wait()
            case "block":
                time.sleep(float(rest))  # noqa: ASYNC251  that is the harm
            case "crash":
                yield TextDelta("I am about ")
                await asyncio.sleep(0.05)
                os._exit(9)
            case "grow":
                hoard = []
                while True:
                    hoard.append(np.ones(4 << 20, np.uint8))
                    await asyncio.sleep(0.005)
            case "huge":
                np.ones(64 << 30, np.uint8)
            case "burn":
                for _ in range(2):
                    threading.Thread(target=_burn, args=(float(rest),), daemon=True).start()
                yield TextDelta("burning")
            case "refuse":
                raise RateLimitedError("slow down", retry_after_s=1.5)
            case "invalid":
                raise InvalidRequestError("too long", remedy="say less")
            case "bug":
                raise KeyError(rest)
            case "flood":
                for _ in range(int(rest)):
                    yield TextDelta("x" * 1000)
        yield TokenUsage(len(request.messages), 1)

    async def _pace(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        assert request.pace is not None
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def tell() -> None:
            loop.call_soon_threadsafe(changed.set)

        request.pace.watch(tell)
        yield TextDelta(f"{request.pace.committed} {request.pace.unplayed_s:g};")
        while not (request.pace.committed and request.pace.unplayed_s >= 1):
            await changed.wait()
            changed.clear()
            yield TextDelta(f"{request.pace.committed} {request.pace.unplayed_s:g};")


def _burn(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        sum(range(1000))


class PuppetRecognizer(Puppet):
    """Answers a flush with how much it heard; hangs after `hang_after` flushes when told by a hint."""

    capabilities = STT

    async def transcribe(
        self, audio: AsyncIterator[Pcm | Flush], request: SttRequest
    ) -> AsyncIterator[Transcript]:
        samples, loud, last = 0, 0, False
        language = request.language
        async for item in audio:
            last = isinstance(item, Flush)
            if isinstance(item, Flush):
                if "hang" in request.hints:
                    await asyncio.Event().wait()
                text = f"{self.settings.name} {samples} {loud} {' '.join(request.hints)}"
                yield Transcript(text, True, samples / 8000, 0.5, language)
            else:
                samples += item.size
                loud = max(loud, int(np.abs(item.astype(int)).max(initial=0)))
                yield Transcript("...", False, samples / 8000)
        if not last:
            yield Transcript(f"{self.settings.name} {samples}", True, samples / 8000)


class PuppetVoice(Puppet):
    """A tenth of a second for each word, with exact marks; the word "crash" ends the process."""

    def __init__(self, settings: PuppetSettings) -> None:
        super().__init__(settings)
        self.capabilities = replace(TTS, sample_rate=settings.rate)

    async def speak(
        self, text: AsyncIterator[str], request: TtsRequest
    ) -> AsyncIterator[SpeechChunk]:
        char = sample = 0
        async for piece in text:
            for word in piece.split(" "):
                await asyncio.sleep(self.settings.word_s)
                if word == "crash":
                    os._exit(9)
                level = int(1000 * request.speed) + len(word)
                yield SpeechChunk(np.full(WORD_SAMPLES, level, np.int16), (WordMark(char, sample),))
                char, sample = char + len(word) + 1, sample + WORD_SAMPLES


class PuppetEmbedder(Puppet):
    capabilities = EMBEDDER

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if "hang" in texts:
            await asyncio.Event().wait()
        rows = np.array([[len(text), 1, 2] for text in texts], np.float32).reshape(len(texts), 3)
        unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


def _build(cls: type[Puppet], settings: PuppetSettings) -> Any:
    if settings.name == "missing":
        raise ModelNotFoundError("no model", remedy="pull it")
    if settings.name == "suicidal":
        os._exit(7)
    if settings.fail_first is not None and settings.fail_first.exists():
        os._exit(8)
    return cls(settings)


def build_model(settings: PuppetSettings, context: BuildContext) -> Any:
    return _build(PuppetModel, settings)


def build_recognizer(settings: PuppetSettings, context: BuildContext) -> Any:
    return _build(PuppetRecognizer, settings)


def build_voice(settings: PuppetSettings, context: BuildContext) -> Any:
    return _build(PuppetVoice, settings)


def build_embedder(settings: PuppetSettings, context: BuildContext) -> Any:
    return _build(PuppetEmbedder, settings)


OFFERS = {
    Kind.LANGUAGE_MODEL: Offer("puppet", Kind.LANGUAGE_MODEL, PuppetSettings, build_model, LLM, ""),
    Kind.SPEECH_TO_TEXT: Offer(
        "puppet", Kind.SPEECH_TO_TEXT, PuppetSettings, build_recognizer, STT, ""
    ),
    Kind.TEXT_TO_SPEECH: Offer("puppet", Kind.TEXT_TO_SPEECH, PuppetSettings, build_voice, TTS, ""),
    Kind.EMBEDDER: Offer("puppet", Kind.EMBEDDER, PuppetSettings, build_embedder, EMBEDDER, ""),
}
