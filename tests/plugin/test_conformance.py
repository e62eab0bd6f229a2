# SPDX-License-Identifier: Apache-2.0
"""The kit passes what keeps its contract, and names the fault of what does not."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from appliance.plugin import (
    BuildContext,
    Flush,
    Kind,
    LlmCapabilities,
    LlmDelta,
    LlmRequest,
    ModelNotFoundError,
    Offer,
    Pcm,
    Settings,
    SpeechChunk,
    SttRequest,
    TextDelta,
    TokenUsage,
    ToolCall,
    Transcript,
    TtsCapabilities,
    TtsRequest,
    UnavailableError,
)
from appliance.plugin.conformance import Finding, Outcome, Subject, check_offer, checks_for
from appliance.plugin.manifest import Manifest
from tests.plugin.fakes import FakeSettings, Llm, Stt, Tts, Vad, offer


async def check(provider: type[Any] | Offer, **about: Any) -> list[Finding]:
    made = provider if isinstance(provider, Offer) else offer(provider)
    return [one async for one in check_offer(Subject(made, **about))]


async def check_one(provider: type[Any], name: str) -> Finding:
    made = offer(provider)
    wanted = next(one for one in checks_for(made.kind) if one.name == name)
    async with Subject(made) as subject:
        return await wanted(subject)


async def faults(provider: type[Any] | Offer, **about: Any) -> dict[str, str]:
    found = await check(provider, **about)
    return {one.name: one.detail for one in found if one.outcome is Outcome.FAILED}


MANIFEST = Manifest(
    id="fake", api=1, runs="local", licence="Apache-2.0", summary="A plugin for a test."
)


@pytest.mark.parametrize("provider", [Stt, Llm, Tts, Vad])
async def test_a_provider_that_keeps_its_contract_passes(provider: type[Any]) -> None:
    found = await check(provider, manifest=MANIFEST)
    assert {one.name: one.detail for one in found if one.outcome is Outcome.FAILED} == {}
    assert sum(one.outcome is Outcome.PASSED for one in found) > len(found) * 0.7


class FinalsWaitForMoreAudio(Stt):
    async def transcribe(
        self, audio: AsyncIterator[Pcm | Flush], request: SttRequest
    ) -> AsyncIterator[Transcript]:
        held: Transcript | None = None
        async for item in super().transcribe(audio, request):
            if held is not None:
                yield held
            held = item
        if held is not None:
            yield held


class InterimAfterFinal(Stt):
    async def transcribe(
        self, audio: AsyncIterator[Pcm | Flush], request: SttRequest
    ) -> AsyncIterator[Transcript]:
        async for item in super().transcribe(audio, request):
            yield item
            if item.is_final:
                yield Transcript(item.text, is_final=False, audio_s=item.audio_s)


class ClockRunsBack(Stt):
    def transcript(self, samples: int, loud: int, *, final: bool) -> Transcript:
        return Transcript("", final, 1.0 / (1 + samples))


class HearsVoices(Stt):
    def transcript(self, samples: int, loud: int, *, final: bool) -> Transcript:
        return Transcript("Thank you for watching.", final, samples / 16000)


class CountsAtEightKilohertz(Stt):
    def transcript(self, samples: int, loud: int, *, final: bool) -> Transcript:
        return Transcript("", final, samples / 8000)


class HidesABrokenSource(Stt):
    async def transcribe(
        self, audio: AsyncIterator[Pcm | Flush], request: SttRequest
    ) -> AsyncIterator[Transcript]:
        try:
            async for item in super().transcribe(audio, request):
                yield item
        except Exception:
            yield Transcript("", is_final=True, audio_s=9.0)


class MixesCalls(Stt):
    """Keeps the loud part of all calls in one place."""

    def __init__(self) -> None:
        self.heard = 0

    def transcript(self, samples: int, loud: int, *, final: bool) -> Transcript:
        self.heard = max(self.heard, loud)
        return super().transcript(samples, self.heard, final=final)


class StopsLate(Llm):
    async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        try:
            async for item in super().reply(request):
                yield item
        finally:
            await asyncio.sleep(0.2)


class CarriesOn(Llm):
    async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        for _ in range(4):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)
            yield TextDelta("and ")
        yield TokenUsage(len(request.messages), 4)


class LeavesATask(Llm):
    async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        self.task = asyncio.create_task(asyncio.sleep(30), name="forgotten")
        async for item in super().reply(request):
            yield item


class CountsInTheMiddle(Llm):
    async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        yield TokenUsage(len(request.messages), 1)
        await asyncio.sleep(0.05)
        yield TextDelta("Late.")


class CountsTwice(Llm):
    async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        async for item in super().reply(request):
            yield item
        yield TokenUsage(1, 1)


class TalksTooLong(Llm):
    async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        await asyncio.sleep(0.05)
        yield TextDelta("word " * 100)
        yield TokenUsage(len(request.messages), 100)


class InventsATool(Llm):
    async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        await asyncio.sleep(0.05)
        yield ToolCall("1", "launch_rocket", "{}")
        yield TokenUsage(len(request.messages), 1)


class RaisesItsOwn(Llm):
    def refuse(self, prompt: int) -> None:
        raise OverflowError(prompt)


class BlocksTheLoop(Tts):
    async def work(self) -> None:
        await asyncio.sleep(0)
        time.sleep(0.03)  # noqa: ASYNC251


class LeavesAThread(Tts):
    def __init__(self) -> None:
        threading.Thread(target=threading.Event().wait, name="forgotten", daemon=True).start()


class ClosesOnce(Tts):
    def __init__(self) -> None:
        self.things: list[int] | None = []

    async def aclose(self) -> None:
        assert self.things is not None
        self.things = None


class SpeaksTooFast(Tts):
    capabilities = TtsCapabilities(48000, streaming=True, word_marks=True)


class SpeaksFloats(Tts):
    async def speak(
        self, text: AsyncIterator[str], request: TtsRequest
    ) -> AsyncIterator[SpeechChunk]:
        async for chunk in super().speak(text, request):
            yield SpeechChunk(chunk.pcm / 32768, chunk.marks)  # type: ignore[arg-type]


class WaitsForTheWholeText(Tts):
    async def speak(
        self, text: AsyncIterator[str], request: TtsRequest
    ) -> AsyncIterator[SpeechChunk]:
        whole = [piece async for piece in text]

        async def again() -> AsyncIterator[str]:
            for piece in whole:
                yield piece

        async for chunk in super().speak(again(), request):
            yield chunk


class ForgetsItsMarks(Tts):
    async def speak(
        self, text: AsyncIterator[str], request: TtsRequest
    ) -> AsyncIterator[SpeechChunk]:
        async for chunk in super().speak(text, request):
            yield SpeechChunk(chunk.pcm)


class ScoresPercent(Vad):
    def score(self, states: Sequence[Any], windows: Pcm) -> NDArray[np.float32]:
        return super().score(states, windows) * 100


class SharesState(Vad):
    def score(self, states: Sequence[Any], windows: Pcm) -> NDArray[np.float32]:
        found = super().score(states, windows)
        return np.full_like(found, found.mean() if len(found) else 0)


CANCEL = "cancelled, it stops within 20 ms and leaves no task"
LOOP = "the event loop is never blocked longer than 20 ms"
LEFT = "after aclose nothing is left: no task, no thread, no open file"
ORDER = "an interim never follows the final that covers it, and audio_s never decreases"
REPLY = "a reply is text and tool calls, then one TokenUsage"


@pytest.mark.parametrize(
    ("provider", "name", "detail"),
    [
        (InterimAfterFinal, ORDER, "an interim at 1.00 s came after the final at 1.00 s"),
        (ClockRunsBack, ORDER, "audio_s fell"),
        (HearsVoices, "silence and a quiet line give no words", "'Thank you for watching.'"),
        (CountsAtEightKilohertz, "audio_s counts seconds at its first sample rate", "4.00 s"),
        (HidesABrokenSource, "audio that breaks off with an error ends the stream", "were well"),
        (MixesCalls, "two streams at once do not mix", "which was silent"),
        (StopsLate, CANCEL, "20 ms are allowed"),
        (CarriesOn, CANCEL, "it swallowed CancelledError"),
        (LeavesATask, CANCEL, "forgotten"),
        (CountsInTheMiddle, REPLY, "a TextDelta came after the TokenUsage"),
        (CountsTwice, REPLY, "2 TokenUsage came instead of one"),
        (TalksTooLong, "usage counts are plausible and keep to max_tokens", "16 were allowed"),
        (InventsATool, "tools offered are called by their names, or not at all", "launch_rocket"),
        (RaisesItsOwn, "a dialogue beyond its context is an InvalidRequestError", "OverflowError"),
        (BlocksTheLoop, LOOP, "test_conformance.py"),
        (LeavesAThread, LEFT, "threads are left: forgotten"),
        (ClosesOnce, "aclose can be called twice", "AssertionError"),
        (
            SpeaksTooFast,
            "a clause becomes audio of a sound length at the rate it states",
            "17 words became 1.70 s of audio at 48000 Hz",
        ),
        (
            SpeaksFloats,
            "a clause becomes audio of a sound length at the rate it states",
            "float64",
        ),
        (ForgetsItsMarks, "word marks rise and lie inside the text and the audio", "0 marks came"),
        (ScoresPercent, "scores are float32 within 0..1, one for each call", "not within 0..1"),
        (SharesState, "a call scores the same alone and in a batch", "differ by"),
    ],
)
async def test_a_broken_provider_fails_the_check_that_names_its_fault(
    provider: type[Any], name: str, detail: str
) -> None:
    finding = await check_one(provider, name)
    assert finding.outcome is Outcome.FAILED
    assert detail in finding.detail


@pytest.mark.parametrize(
    ("provider", "name", "detail"),
    [
        (
            FinalsWaitForMoreAudio,
            "every flush gets one final, before more audio is needed",
            "final",
        ),
        (WaitsForTheWholeText, "a clause is spoken before the next one is given", "still to come"),
    ],
)
async def test_a_provider_that_waits_for_its_whole_input_fails(
    provider: type[Any], name: str, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.plugin.conformance.drive.STREAM_DEADLINE_S", 0.5)
    finding = await check_one(provider, name)
    assert finding.outcome is Outcome.FAILED
    assert detail in finding.detail


class NeedsAModel(Tts):
    """Built by `needs_a_model`."""


def needs_a_model(settings: Any, context: BuildContext) -> Tts:
    context.model_path("voices/one")
    return Tts()


def looks_at_the_disk(settings: Any, context: BuildContext) -> Tts:
    try:
        context.model_path("voices/one")
    except ModelNotFoundError:
        raise FileNotFoundError("voices/one") from None
    return Tts()


def tts_offer(build: Any, settings: type[Settings] = FakeSettings) -> Offer:
    return Offer("fake", Kind.TEXT_TO_SPEECH, settings, build, Tts.capabilities, "A fake.")


MISSING = "a model that cannot be found is a ProviderError with a message"
BUILDS = "it builds, and answers a first request"


async def test_what_lacks_a_model_here_is_not_checked_and_says_why() -> None:
    found = {one.name: one for one in await check(tts_offer(needs_a_model))}
    assert found[BUILDS].outcome is Outcome.NOT_CHECKED
    assert found[BUILDS].passed is None
    assert "voices/one" in found[BUILDS].detail
    assert found[CANCEL].outcome is Outcome.NOT_CHECKED
    assert found[MISSING].outcome is Outcome.PASSED
    assert not any(one.outcome is Outcome.FAILED for one in found.values())


async def test_the_same_is_a_failure_when_settings_were_given() -> None:
    named = await faults(tts_offer(needs_a_model), explicit=True)
    assert list(named) == [BUILDS]
    assert "voices/one" in named[BUILDS]


async def test_a_server_that_is_away_is_not_checked() -> None:
    class Away(Tts):
        async def speak(
            self, text: AsyncIterator[str], request: TtsRequest
        ) -> AsyncIterator[SpeechChunk]:
            if request.call_id:
                raise UnavailableError("connection refused")
            yield SpeechChunk(self.hum)

    found = {one.name: one for one in await check(Away)}
    assert found[BUILDS].outcome is Outcome.NOT_CHECKED
    assert "connection refused" in found[CANCEL].detail


async def test_a_build_that_raises_anything_else_fails() -> None:
    def build(settings: Any, context: BuildContext) -> Tts:
        raise ZeroDivisionError("no voices to choose from")

    assert "ZeroDivisionError" in (await faults(tts_offer(build)))[BUILDS]


async def test_a_missing_model_told_in_another_way_fails(tmp_path: Path) -> None:
    context = BuildContext(lambda name: tmp_path, tmp_path)
    named = await faults(tts_offer(looks_at_the_disk), context=context)
    assert "FileNotFoundError" in named[MISSING]


async def test_settings_that_are_required_are_asked_for() -> None:
    class Required(Settings):
        url: str = Field(description="Where the server is.")

    found = {one.name: one for one in await check(offer(Tts, Required))}
    assert found[BUILDS].outcome is Outcome.NOT_CHECKED
    assert "url: Field required" in found[BUILDS].detail
    made = offer(Tts, Required)
    given = {one.name: one for one in await check(made, settings={"url": "x"})}
    assert given[BUILDS].outcome is Outcome.PASSED


async def test_settings_that_accept_unknown_keys_or_lack_descriptions_fail() -> None:
    class Loose(BaseModel):
        voice: str = "one"

    named = await faults(tts_offer(lambda settings, context: Tts(), Loose))  # type: ignore[arg-type]
    assert "accepted an unknown key" in named["settings refuse an unknown key"]
    assert "voice" in named["settings describe every field"]


async def test_a_secret_in_plain_sight_fails() -> None:
    class Plain(Settings):
        api_key: str = Field("", description="The key.")

    manifest = MANIFEST.model_copy(update={"secrets": ("api_key",)})
    named = await faults(tts_offer(lambda settings, context: Tts(), Plain), manifest=manifest)
    name = "settings that hold credentials are secret, and the manifest names them"
    assert named[name] == "not SecretStr: api_key"


async def test_capabilities_that_contradict_the_manifest_fail() -> None:
    class Cloud(Llm):
        capabilities = LlmCapabilities(local=False)

    named = await faults(Cloud, manifest=MANIFEST)
    assert "that nothing leaves" in named["what leaves the premises is in the manifest"]
