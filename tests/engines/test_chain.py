# SPDX-License-Identifier: Apache-2.0
"""Fallback between providers, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from appliance.engines.chain import (
    Health,
    LanguageModelChain,
    Member,
    SpeechToTextChain,
    TextToSpeechChain,
)
from appliance.plugin import (
    Flush,
    LlmCapabilities,
    LlmDelta,
    LlmRequest,
    Pcm,
    ProviderError,
    SpeechChunk,
    SttCapabilities,
    SttRequest,
    TextDelta,
    TokenUsage,
    Transcript,
    TtsCapabilities,
    TtsRequest,
    UnavailableError,
)
from tests.virtual_time import run


class Recognizer:
    capabilities = SttCapabilities()

    def __init__(self, name: str, fail_at: int = 99) -> None:
        self.name = name
        self.fail_at = fail_at

    async def transcribe(
        self, audio: AsyncIterator[Pcm | Flush], request: SttRequest
    ) -> AsyncIterator[Transcript]:
        samples = flushes = 0
        async for item in audio:
            if isinstance(item, Flush):
                flushes += 1
                if flushes >= self.fail_at:
                    raise UnavailableError("gone")
                yield Transcript(f"{self.name} {samples}", is_final=True, audio_s=0)
            else:
                samples += len(item)

    async def aclose(self) -> None: ...


class Model:
    capabilities = LlmCapabilities()

    def __init__(self, *deltas: LlmDelta | Exception | float) -> None:
        self.deltas = deltas
        self.asked = 0

    async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        self.asked += 1
        for delta in self.deltas:
            if isinstance(delta, Exception):
                raise delta
            if isinstance(delta, float):
                await asyncio.sleep(delta)
            else:
                yield delta

    async def aclose(self) -> None: ...


class Voice:
    capabilities = TtsCapabilities(sample_rate=8000)

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    async def speak(
        self, text: AsyncIterator[str], request: TtsRequest
    ) -> AsyncIterator[SpeechChunk]:
        async for piece in text:
            if self.error is not None:
                raise self.error
            yield SpeechChunk(np.full(len(piece), 7, np.int16))

    async def aclose(self) -> None: ...


def health(*providers: Any, clock: Callable[[], float] | None = None) -> Health[Any]:
    members = [Member(f"p{i}", provider) for i, provider in enumerate(providers)]
    return Health(members, clock or asyncio.get_running_loop().time)


async def heard(*items: int | Flush) -> AsyncIterator[Pcm | Flush]:
    for item in items:
        yield item if isinstance(item, Flush) else np.zeros(item, np.int16)


REQUEST = LlmRequest(())


async def collect(chain: LanguageModelChain, into: list[LlmDelta] | None = None) -> None:
    async for delta in chain.reply(REQUEST, lambda _: None):
        if into is not None:
            into.append(delta)


def test_a_recognizer_that_fails_mid_turn_is_replaced_and_nothing_heard_is_lost() -> None:
    async def main() -> None:
        chain = SpeechToTextChain(health(Recognizer("a", fail_at=2), Recognizer("b")))
        used: list[str] = []
        audio = heard(100, Flush(), 50, Flush())
        texts = [t.text async for t in chain.transcribe(audio, SttRequest(), used.append)]
        assert texts == ["a 100", "b 150"]
        assert used == ["p0", "p1"]

    run(main())


def test_a_model_that_fails_at_once_is_replaced() -> None:
    async def main() -> None:
        good = Model(TextDelta("hi"), TokenUsage(1, 1))
        chain = LanguageModelChain(health(Model(RuntimeError("bug")), good))
        assert [d async for d in chain.reply(REQUEST, lambda _: None)] == list(good.deltas)

    run(main())


def test_a_model_that_hangs_is_replaced_after_the_set_time() -> None:
    async def main() -> None:
        good = Model(TextDelta("hi"), TokenUsage(1, 1))
        chain = LanguageModelChain(health(Model(60.0), good), first_s=2.0)
        began = asyncio.get_running_loop().time()
        assert [d async for d in chain.reply(REQUEST, lambda _: None)] == list(good.deltas)
        assert asyncio.get_running_loop().time() - began == pytest.approx(2.0)

    run(main())


def test_a_model_that_fails_in_mid_sentence_is_not_continued_by_another() -> None:
    async def main() -> None:
        other = Model(TextDelta("other"))
        chain = LanguageModelChain(health(Model(TextDelta("We"), UnavailableError("cut")), other))
        got: list[LlmDelta] = []
        with pytest.raises(UnavailableError):
            await collect(chain, got)
        assert got == [TextDelta("We")]
        assert other.asked == 0

    run(main())


def test_a_failed_provider_rests_and_is_tried_again_afterwards() -> None:
    async def main() -> None:
        bad, good = Model(UnavailableError("down")), Model(TextDelta("hi"))
        chain = LanguageModelChain(health(bad, good))

        await collect(chain)
        await collect(chain)
        assert (bad.asked, good.asked) == (1, 2)
        await asyncio.sleep(2.1)
        await collect(chain)
        assert (bad.asked, good.asked) == (2, 3)

    run(main())


def test_when_all_rest_they_are_tried_anyway_and_the_last_error_is_told() -> None:
    async def main() -> None:
        bad = Model(UnavailableError("down"))
        chain = LanguageModelChain(health(bad))
        for _ in range(2):
            with pytest.raises(ProviderError, match="down"):
                await collect(chain)
        assert bad.asked == 2

    run(main())


def test_a_synthesizer_that_fails_is_replaced_clause_by_clause() -> None:
    async def main() -> None:
        chain = TextToSpeechChain(health(Voice(UnavailableError("no voice")), Voice()))
        used: list[str] = []
        spoken = [
            (rate, len(chunk.pcm))
            async for rate, chunk in chain.speak("hello", TtsRequest(), used.append)
        ]
        assert spoken == [(8000, 5)]
        assert used == ["p1"]

    run(main())


def test_an_empty_chain_says_what_is_missing() -> None:
    async def main() -> None:
        with pytest.raises(UnavailableError, match="no language model is configured"):
            await collect(LanguageModelChain(health()))

    run(main())
