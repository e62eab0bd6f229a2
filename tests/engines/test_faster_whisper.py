# SPDX-License-Identifier: Apache-2.0
"""The faster_whisper provider with the starter model, on speech that espeak-ng speaks."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
import soxr
import trunkline_espeak
from trunkline_faster_whisper import build
from trunkline_faster_whisper.provider import WhisperRecognizer
from trunkline_faster_whisper.settings import FasterWhisperSettings
from trunkline_faster_whisper.whisper import Utterance, Whisper, _compression

from appliance.plugin import (
    SAMPLE_RATE,
    BuildContext,
    ConfigurationError,
    Flush,
    InvalidRequestError,
    ModelNotFoundError,
    Pcm,
    SttRequest,
    TextToSpeech,
    Transcript,
    TtsRequest,
    UnavailableError,
)
from appliance.plugin.conformance import SpeechToTextConformance, Subject

SENTENCES = [
    "When are you open on Saturday?",
    "I'd like to book an appointment for Friday at two thirty, please.",
    "How much is a cleaning?",
    "Can I pay by card?",
    "No, that's all, thank you. Goodbye.",
]


class TestFasterWhisperKeepsTheContract(SpeechToTextConformance):
    @pytest.fixture
    def provider(self, subject: Callable[..., Subject]) -> Subject:
        return subject("trunkline_faster_whisper")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> list[Pcm]:
    """The sentences as 16 kHz audio."""
    context = BuildContext(model_path=Path, data_dir=tmp_path_factory.mktemp("espeak"))

    async def speak_all() -> list[Pcm]:
        espeak = trunkline_espeak.build(trunkline_espeak.EspeakSettings(), context)
        audio = [await _speak(espeak, sentence) for sentence in SENTENCES]
        await espeak.aclose()
        return audio

    return asyncio.run(speak_all())


async def _speak(espeak: TextToSpeech, sentence: str) -> Pcm:
    async def text() -> AsyncIterator[str]:
        yield sentence

    chunks = [chunk.pcm async for chunk in espeak.speak(text(), TtsRequest())]
    audio = soxr.resample(np.concatenate(chunks), espeak.capabilities.sample_rate, 16_000)
    return np.asarray(audio, np.int16)


@pytest.fixture
async def recognizer(build_context: BuildContext) -> AsyncIterator[WhisperRecognizer]:
    provider = build(FasterWhisperSettings(), build_context)
    assert isinstance(provider, WhisperRecognizer)
    yield provider
    await provider.aclose()


@pytest.fixture(scope="module")
def whisper(build_context: BuildContext) -> Whisper:
    return Whisper(build_context.model_path("starter/asr"), FasterWhisperSettings(), threads=1)


async def frames(pcm: Pcm, *, flush: bool = True) -> AsyncIterator[Pcm | Flush]:
    for start in range(0, len(pcm), 320):
        yield pcm[start : start + 320]
        await asyncio.sleep(0)
    if flush:
        yield Flush()


async def hear(recognizer: WhisperRecognizer, pcm: Pcm, **request: str) -> list[Transcript]:
    stream = recognizer.transcribe(frames(pcm), SttRequest(**request))  # type: ignore[arg-type]
    return [transcript async for transcript in stream]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def errors(truth: str, heard: str) -> int:
    """Substitutions, deletions and insertions (Levenshtein, by words)."""
    expected, found = words(truth), words(heard)
    row = list(range(len(found) + 1))
    for i, word in enumerate(expected, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(found, 1):
            change = previous + (word != other)
            previous, row[j] = row[j], min(change, row[j] + 1, row[j - 1] + 1)
    return row[-1]


async def test_speech_of_the_domain_is_understood(
    recognizer: WhisperRecognizer, spoken: list[Pcm]
) -> None:
    finals = [(await hear(recognizer, pcm))[-1] for pcm in spoken]
    assert all(final.is_final for final in finals)
    wrong = sum(errors(truth, final.text) for truth, final in zip(SENTENCES, finals, strict=True))
    assert wrong <= 0.2 * sum(len(words(sentence)) for sentence in SENTENCES), finals
    assert all(0 < (final.confidence or 0) <= 1 for final in finals)


async def test_many_calls_at_once_hear_what_each_would_hear_alone(
    recognizer: WhisperRecognizer, spoken: list[Pcm]
) -> None:
    alone = [(await hear(recognizer, pcm))[-1].text for pcm in spoken]
    together = await asyncio.gather(*(hear(recognizer, pcm) for pcm in spoken * 3))
    assert [transcripts[-1].text for transcripts in together] == alone * 3


def test_a_batch_hears_word_for_word_what_each_utterance_says_alone(
    build_context: BuildContext, spoken: list[Pcm]
) -> None:
    settings = FasterWhisperSettings(batch_size=4)
    model = Whisper(build_context.model_path("starter/asr"), settings, threads=1)
    lengths = [6 * SAMPLE_RATE - 160 * n for n in range(len(spoken))]  # of one window
    silence = np.zeros(6 * SAMPLE_RATE, np.int16)
    padded = [np.concatenate([pcm, silence])[:n] for pcm, n in zip(spoken, lengths, strict=True)]
    same = [Utterance(pcm, "en") for pcm in padded]
    alone = [model.recognize([utterance])[0].text for utterance in same]
    together = [one.text for one in model.recognize(same)]
    assert together == alone
    assert sum(errors(truth, text) for truth, text in zip(SENTENCES, alone, strict=True)) <= 6


def test_utterances_of_other_windows_or_hints_are_not_computed_together(
    build_context: BuildContext,
) -> None:
    folder = build_context.model_path("starter/asr")
    model = Whisper(folder, FasterWhisperSettings(batch_size=4, use_hints=True), threads=1)

    def shape(seconds: float, *hints: str) -> object:
        return model.shape(Utterance(np.zeros(round(seconds * SAMPLE_RATE), np.int16), "en", hints))

    assert shape(2.7) == shape(3.0) == (int(3.5 * SAMPLE_RATE), ())
    assert shape(0.1) == (SAMPLE_RATE, ())
    assert shape(3.2) != shape(3.0)
    assert shape(60) == shape(90)
    precise = Whisper(folder, FasterWhisperSettings(), threads=1)
    assert precise.shape(Utterance(np.zeros(48_000, np.int16)))[0] == 48_000 + 6_400
    assert model.uses_hints == (shape(3.0, "Oliver") != shape(3.0))
    with pytest.raises(UnavailableError, match="different shapes"):
        model.recognize([Utterance(np.full(n, 9000, np.int16), "en") for n in (16_000, 64_000)])


@pytest.mark.parametrize("sound", ["nothing", "silence", "hiss", "noise", "tone", "click"])
def test_what_is_not_speech_gives_no_words(whisper: Whisper, sound: str) -> None:
    random = np.random.default_rng(0)
    seconds = np.arange(32_000) / 16_000
    click = np.zeros(32_000)
    click[16_000:16_040] = 20_000
    sounds = {
        "nothing": np.zeros(0),
        "silence": np.zeros(32_000),
        "hiss": random.standard_normal(32_000) * 20,
        "noise": random.standard_normal(32_000) * 1500,
        "tone": np.sin(2 * np.pi * 440 * seconds) * 8000,
        "click": click,
    }
    assert whisper.recognize([Utterance(sounds[sound].astype(np.int16), "en")])[0].text == ""


def test_text_below_the_thresholds_is_dropped(
    build_context: BuildContext, spoken: list[Pcm]
) -> None:
    strict = FasterWhisperSettings(log_prob_threshold=-0.0001)
    model = Whisper(build_context.model_path("starter/asr"), strict, threads=1)
    assert model.recognize([Utterance(spoken[1], "en")])[0].text == ""
    assert _compression("the number is" + " do" * 60) > strict.compression_ratio_threshold
    assert all(_compression(text) < strict.compression_ratio_threshold for text in SENTENCES)


async def test_a_language_that_the_model_does_not_know_is_refused(
    recognizer: WhisperRecognizer, spoken: list[Pcm]
) -> None:
    assert recognizer.capabilities.languages == {"en"}
    assert (await hear(recognizer, spoken[2], language="en-GB"))[-1].text
    with pytest.raises(InvalidRequestError, match="does not know the language 'de-AT'"):
        await hear(recognizer, spoken[2], language="de-AT")


async def test_hints_do_no_harm_to_a_model_that_was_not_trained_with_them(
    recognizer: WhisperRecognizer, spoken: list[Pcm]
) -> None:
    assert not recognizer.capabilities.hints
    plain = (await hear(recognizer, spoken[1]))[-1].text
    request = SttRequest(hints=("Larkspur Dental", "Oliver"))
    hinted = [t async for t in recognizer.transcribe(frames(spoken[1]), request)]
    assert hinted[-1].text == plain


@pytest.mark.parametrize("missing", ["model.bin", "config.json", "tokenizer.json"])
def test_a_missing_file_is_named(build_context: BuildContext, tmp_path: Path, missing: str) -> None:
    folder = _copy(build_context, tmp_path)
    (folder / missing).unlink()
    with pytest.raises(ModelNotFoundError, match=f"{missing} is missing"):
        build(FasterWhisperSettings(model=str(folder)), build_context)


@pytest.mark.parametrize("damaged", ["model.bin", "tokenizer.json"])
def test_a_damaged_file_is_an_error_that_names_the_folder(
    build_context: BuildContext, tmp_path: Path, damaged: str
) -> None:
    folder = _copy(build_context, tmp_path)
    (folder / damaged).write_bytes(b"{" + (folder / damaged).read_bytes()[:1000])
    with pytest.raises((ModelNotFoundError, ConfigurationError), match="copy"):
        build(FasterWhisperSettings(model=str(folder)), build_context)


def _copy(context: BuildContext, to: Path) -> Path:
    return Path(shutil.copytree(context.model_path("starter/asr"), to / "copy"))


def test_a_device_or_number_format_that_cannot_work_is_a_configuration_error(
    build_context: BuildContext,
) -> None:
    with pytest.raises(ConfigurationError, match="cannot load"):
        build(FasterWhisperSettings(compute_type="int3"), build_context)
