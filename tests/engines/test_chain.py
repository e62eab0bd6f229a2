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
from appliance.engines.health import PATIENCE_S
from appliance.plugin import (
    Flush,
    InvalidRequestError,
    LlmCapabilities,
    LlmDelta,
    LlmRequest,
    Pcm,
    ProviderError,
    ProviderTimeoutError,
    ReplyPace,
    SpeechChunk,
    SttCapabilities,
    SttRequest,
    TextDelta,
    TokenUsage,
    ToolCall,
    Transcript,
    TtsCapabilities,
    TtsRequest,
    UnavailableError,
    WordMark,
)
from tests.virtual_time import run


class Recognizer:
    capabilities = SttCapabilities()

    def __init__(self, name: str, fail_at: int = 99, hang_at: int = 99) -> None:
        self.name = name
        self.fail_at = fail_at
        self.hang_at = hang_at

    async def transcribe(
        self, audio: AsyncIterator[Pcm | Flush], request: SttRequest
    ) -> AsyncIterator[Transcript]:
        samples = flushes = 0
        async for item in audio:
            if isinstance(item, Flush):
                flushes += 1
                if flushes >= self.hang_at:
                    await asyncio.Event().wait()
                if flushes >= self.fail_at:
                    raise UnavailableError("gone")
                yield Transcript(f"{self.name} {samples}", is_final=True, audio_s=0)
            else:
                samples += len(item)

    async def aclose(self) -> None: ...


class DyingRecognizer(Recognizer):
    """Dies once as it has more than so many samples, and is down for so many seconds."""

    def __init__(self, dies_after: int, seconds: float) -> None:
        super().__init__("a")
        self.dies_after = dies_after
        self.seconds = seconds
        self.back_at = 0.0

    @property
    def recovering(self) -> bool:
        return asyncio.get_running_loop().time() < self.back_at

    async def transcribe(
        self, audio: AsyncIterator[Pcm | Flush], request: SttRequest
    ) -> AsyncIterator[Transcript]:
        async for transcript in super().transcribe(self._dying(audio), request):
            yield transcript

    async def _dying(self, audio: AsyncIterator[Pcm | Flush]) -> AsyncIterator[Pcm | Flush]:
        samples = 0
        async for item in audio:
            samples += 0 if isinstance(item, Flush) else len(item)
            if samples > self.dies_after and not self.back_at:
                self.back_at = asyncio.get_running_loop().time() + self.seconds
                raise UnavailableError("gone")
            yield item


class Restarting:
    """A model that is down for so many seconds."""

    capabilities = LlmCapabilities()

    def __init__(self, seconds: float) -> None:
        self.back_at = asyncio.get_running_loop().time() + seconds

    @property
    def recovering(self) -> bool:
        return asyncio.get_running_loop().time() < self.back_at

    async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        if self.recovering:
            raise UnavailableError("down")
        yield TextDelta("back")

    async def aclose(self) -> None: ...


class Words:
    """A tenth of a second a word, with marks; fails after so many words."""

    def __init__(self, rate: int, fail_after: int = 99) -> None:
        self.capabilities = TtsCapabilities(sample_rate=rate, word_marks=True)
        self.fail_after = fail_after

    async def speak(
        self, text: AsyncIterator[str], request: TtsRequest
    ) -> AsyncIterator[SpeechChunk]:
        size, char, sample = self.capabilities.sample_rate // 10, 0, 0
        async for piece in text:
            for number, word in enumerate(piece.split(" ")):
                if number >= self.fail_after:
                    raise UnavailableError("gone")
                yield SpeechChunk(np.ones(size, np.int16), (WordMark(char, sample),))
                char, sample = char + len(word) + 1, sample + size

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


def test_a_model_that_fails_in_mid_sentence_is_continued_by_one_that_says_the_same() -> None:
    async def main() -> None:
        cut = Model(TextDelta("We are"), TextDelta(" op"), UnavailableError("cut"))
        whole = Model(TextDelta("We a"), TextDelta("re open."), TokenUsage(3, 4))
        got: list[LlmDelta] = []
        await collect(LanguageModelChain(health(cut, whole)), got)
        assert "".join(d.text for d in got if isinstance(d, TextDelta)) == "We are open."
        assert got[-1] == TokenUsage(3, 4)

    run(main())


def test_a_model_that_fails_in_mid_sentence_is_followed_by_another_ones_whole_answer() -> None:
    async def main() -> None:
        cut = Model(TextDelta("We are op"), UnavailableError("cut"))
        other = Model(TextDelta(" Our hours"), TextDelta(" are nine to five."), TokenUsage(1, 1))
        used: list[str] = []
        chain = LanguageModelChain(health(cut, other))
        got = [delta async for delta in chain.reply(REQUEST, used.append)]
        text = "".join(d.text for d in got if isinstance(d, TextDelta))
        assert text == "We are op... Our hours are nine to five."
        assert used == ["p0", "p1"]

    run(main())


def test_a_model_that_fails_after_it_has_called_a_tool_is_not_followed_by_another() -> None:
    async def main() -> None:
        other = Model(TextDelta("other"))
        cut = Model(ToolCall("1", "book", "{}"), UnavailableError("cut"))
        got: list[LlmDelta] = []
        with pytest.raises(UnavailableError, match="cut"):
            await collect(LanguageModelChain(health(cut, other)), got)
        assert got == [ToolCall("1", "book", "{}")]
        assert other.asked == 0

    run(main())


def test_a_model_much_slower_than_usual_is_overtaken_within_a_second() -> None:
    async def main() -> None:
        slow, good = Model(3.0, TextDelta("late")), Model(TextDelta("hi"), TokenUsage(1, 1))
        members = health(slow, good)
        members.members[0].answered_in(0.1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        got: list[LlmDelta] = []
        await collect(LanguageModelChain(members), got)
        assert got == list(good.deltas)
        assert loop.time() - began == pytest.approx(PATIENCE_S)
        assert members.members[0].failures == 0, "late once is no failure"
        for _ in range(2):
            await collect(LanguageModelChain(members))
        assert members.members[0].failures == 1, "late three times in a row is one"

    run(main())


def test_a_model_that_serves_other_calls_is_busy_and_not_hung() -> None:
    async def main() -> None:
        slow, other = Model(2.0, TextDelta("slow"), TokenUsage(1, 1)), Model(TextDelta("hi"))
        members = health(slow, other)
        primary = members.members[0]
        primary.answered_in(0.1)

        async def others() -> None:
            for _ in range(6):
                await asyncio.sleep(0.3)
                primary.alive_at = asyncio.get_running_loop().time()

        got: list[LlmDelta] = []
        await asyncio.gather(others(), collect(LanguageModelChain(members), got))
        assert got[0] == TextDelta("slow")
        assert other.asked == 0

    run(main())


def test_a_model_that_is_always_slow_is_waited_for() -> None:
    async def main() -> None:
        slow, other = Model(1.5, TextDelta("slow"), TokenUsage(1, 1)), Model(TextDelta("hi"))
        members = health(slow, other)
        members.members[0].answered_in(1.0)
        got: list[LlmDelta] = []
        await collect(LanguageModelChain(members), got)
        assert got[0] == TextDelta("slow")
        assert other.asked == 0

    run(main())


def test_nobody_is_asked_beside_a_model_whose_reply_is_not_wanted_yet() -> None:
    async def main() -> None:
        slow, other = Model(2.0, TextDelta("slow")), Model(TextDelta("hi"))
        members = health(slow, other)
        members.members[0].answered_in(0.1)
        request = LlmRequest((), pace=ReplyPace(committed=False))
        got = [d async for d in LanguageModelChain(members).reply(request, lambda _: None)]
        assert got == [TextDelta("slow")]
        assert other.asked == 0

    run(main())


def test_a_reply_may_pause_while_enough_of_it_is_unplayed() -> None:
    async def main() -> None:
        pace = ReplyPace()
        pace.played(2.0)
        model = Model(TextDelta("a"), 9.0, TextDelta("b"))
        request = LlmRequest((), pace=pace)
        chain = LanguageModelChain(health(model), next_s=2.0)
        assert len([d async for d in chain.reply(request, lambda _: None)]) == 2
        pace.played(0.1)
        with pytest.raises(ProviderTimeoutError):
            assert [d async for d in chain.reply(request, lambda _: None)]

    run(main())


def test_a_model_whose_worker_is_being_restarted_is_waited_for_when_there_is_no_other() -> None:
    async def main() -> None:
        model = Restarting(0.7)
        got: list[LlmDelta] = []
        await collect(LanguageModelChain(health(model)), got)
        assert got == [TextDelta("back")]
        with pytest.raises(UnavailableError, match="down"):
            await collect(LanguageModelChain(health(Restarting(5.0))))

    run(main())


def test_a_recognizer_that_owes_a_final_is_replaced_and_one_that_only_listens_is_not() -> None:
    async def main() -> None:
        silent, good = Recognizer("a", hang_at=1), Recognizer("b")
        members = health(silent, good)
        members.members[0].answered_in(0.1)
        loop = asyncio.get_running_loop()
        came: list[float] = []

        async def audio() -> AsyncIterator[Pcm | Flush]:
            yield np.zeros(100, np.int16)
            await asyncio.sleep(9.0)  # the caller speaks on
            yield Flush()
            await asyncio.sleep(9.0)

        async for transcript in SpeechToTextChain(members).transcribe(
            audio(), SttRequest(), lambda _: None
        ):
            assert transcript.text == "b 100"
            came.append(loop.time())
        assert came == [pytest.approx(9.0 + PATIENCE_S)]

    run(main())


def test_what_a_caller_says_while_the_only_recognizer_is_restarted_is_not_lost() -> None:
    async def main() -> None:
        recognizer = DyingRecognizer(dies_after=100, seconds=3.0)

        async def audio() -> AsyncIterator[Pcm | Flush]:
            yield np.zeros(100, np.int16)
            yield Flush()
            await asyncio.sleep(0.1)
            yield np.zeros(50, np.int16)
            await asyncio.sleep(4.0)
            yield Flush()

        chain = SpeechToTextChain(health(recognizer))
        found = [t.text async for t in chain.transcribe(audio(), SttRequest(), lambda _: None)]
        assert found == ["a 100", "a 150"]

    run(main())


def test_a_clause_that_breaks_off_is_taken_up_at_the_word_and_keeps_its_rate() -> None:
    async def main() -> None:
        broken = Words(8000, fail_after=2)
        chain = TextToSpeechChain(health(broken, Words(16000)))
        text = "one two three four"
        got = [pair async for pair in chain.speak(text, TtsRequest(), lambda _: None)]
        assert {rate for rate, _ in got} == {8000}
        marks = [mark for _, chunk in got for mark in chunk.marks]
        words = [text[mark.char :].partition(" ")[0] for mark in marks]
        assert words == ["one", "two", "two", "three", "four"], "the word it broke off in, again"
        assert [mark.sample for mark in marks] == [0, 800, 1600, 2400, 3200]
        assert sum(len(chunk.pcm) for _, chunk in got) == pytest.approx(4000, abs=4)

    run(main())


def test_a_request_that_cannot_succeed_gives_no_provider_a_bad_name() -> None:
    async def main() -> None:
        members = health(Model(InvalidRequestError("too long")), Model(TextDelta("hi")))
        got: list[LlmDelta] = []
        await collect(LanguageModelChain(members), got)
        assert got == [TextDelta("hi")]
        assert members.members[0].rests_until == 0.0

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


def test_one_crash_under_many_calls_is_one_failure() -> None:
    async def main() -> None:
        crash = Model(1.0, UnavailableError("down"))
        members = health(crash, Model(TextDelta("hi")))
        await asyncio.gather(*(collect(LanguageModelChain(members)) for _ in range(8)))
        assert members.members[0].failures == 1
        await asyncio.sleep(2.1)
        assert members.candidates()[0] is members.members[0], "it rests for the shortest time"

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
