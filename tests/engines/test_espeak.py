# SPDX-License-Identifier: Apache-2.0
"""The espeak provider on the real library."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from trunkline_espeak import CAPABILITIES, EspeakSettings, build, register_providers
from trunkline_espeak.trim import SilenceTrimmer

from appliance.plugin import (
    BuildContext,
    ConfigurationError,
    Pcm,
    SpeechChunk,
    TextToSpeech,
    TtsRequest,
    UnavailableError,
)

RATE = CAPABILITIES.sample_rate
LONG = "We are open Monday to Friday from nine to five, and on Saturday from ten to one. " * 40


def make(tmp_path: Path, **settings: object) -> TextToSpeech:
    context = BuildContext(model_path=Path, data_dir=tmp_path)
    return build(EspeakSettings.model_validate(settings), context)


@pytest.fixture
async def espeak(tmp_path: Path) -> AsyncIterator[TextToSpeech]:
    provider = make(tmp_path)
    yield provider
    await provider.aclose()


async def clauses(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield text


async def speak(provider: TextToSpeech, *texts: str, **request: object) -> list[SpeechChunk]:
    stream = provider.speak(clauses(*texts), TtsRequest(**request))  # type: ignore[arg-type]
    return [chunk async for chunk in stream]


def audio(chunks: list[SpeechChunk]) -> Pcm:
    return np.concatenate([chunk.pcm for chunk in chunks])


def pitch_hz(pcm: Pcm) -> float:
    """Fundamental frequency by the strongest autocorrelation between 60 and 350 Hz."""
    spectrum = np.abs(np.fft.rfft(pcm.astype(float), 1 << 18)) ** 2
    correlation = np.fft.irfft(spectrum)
    low, high = RATE // 350, RATE // 60
    return RATE / (low + int(correlation[low:high].argmax()))


async def test_word_marks_name_every_word_and_stand_where_it_begins(espeak: TextToSpeech) -> None:
    texts = ["Good morning.", " How can I help", " you, sir?"]
    chunks = await speak(espeak, *texts)
    marks = [mark for chunk in chunks for mark in chunk.marks]
    text = "".join(texts)
    assert [text[m.char :].split()[0] for m in marks] == text.split()
    assert all(a.sample < b.sample for a, b in pairwise(marks))
    given = 0
    for chunk in chunks:
        given += chunk.pcm.size
        assert all(mark.sample < given for mark in chunk.marks)
    pause = audio(chunks)[marks[2].sample - int(0.2 * RATE) : marks[2].sample - int(0.02 * RATE)]
    assert np.abs(pause).max() < 104


async def test_speech_begins_and_ends_within_20_ms_of_the_audio(espeak: TextToSpeech) -> None:
    for text in ("Yes.", "Certainly, Sir.", "What is next?"):
        pcm = audio(await speak(espeak, text))
        sound = np.flatnonzero(np.abs(pcm.astype(int)) > 104)
        assert sound[0] <= RATE * 0.02
        assert pcm.size - sound[-1] <= RATE * 0.021


async def test_text_with_nothing_to_say_yields_nothing(espeak: TextToSpeech) -> None:
    assert await speak(espeak, "", " ", "...", "\n") == []


async def test_voice_variant_speed_and_pitch_are_heard(tmp_path: Path) -> None:
    plain, high = make(tmp_path), make(tmp_path, pitch=99, voice="en-us+f3")
    text = "We are open on Monday."
    low_voice = audio(await speak(plain, text))
    assert pitch_hz(audio(await speak(high, text))) > 1.4 * pitch_hz(low_voice)
    fast = audio(await speak(plain, text, speed=2.0))
    assert 0.4 < fast.size / low_voice.size < 0.7
    german = audio(await speak(plain, text, language="de"))
    assert german.size != low_voice.size
    await plain.aclose()
    await high.aclose()


async def test_two_streams_at_once_do_not_mix(espeak: TextToSpeech) -> None:
    texts = ("Monday to Friday, from nine to five.", "Guten Tag.")
    alone = [
        audio(await speak(espeak, t, voice=v)) for t, v in zip(texts, ("en-us", "de"), strict=True)
    ]
    both = await asyncio.gather(
        speak(espeak, texts[0], voice="en-us"), speak(espeak, texts[1], voice="de")
    )
    assert alone[0].size > 1.5 * alone[1].size
    # Two syntheses of one text differ by a few samples: the library adds random breath noise.
    for chunks, pcm in zip(both, alone, strict=True):
        assert audio(chunks).size == pytest.approx(pcm.size, rel=0.02)


async def test_a_cancelled_answer_frees_the_library_within_20_ms(espeak: TextToSpeech) -> None:
    begun = asyncio.Event()

    async def listen() -> None:
        async for _ in espeak.speak(clauses(LONG), TtsRequest()):
            begun.set()

    task = asyncio.create_task(listen())
    await begun.wait()
    start = time.perf_counter()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stopped = time.perf_counter() - start
    assert await speak(espeak, "Yes.")
    assert stopped < 0.02


async def test_a_voice_of_another_synthesizer_is_spoken_in_the_configured_one(
    espeak: TextToSpeech,
) -> None:
    text = "We are open on Monday."
    own = audio(await speak(espeak, text))
    for voice in ("martian", "en-us+f33"):
        other = audio(await speak(espeak, text, voice=voice))
        assert other.size == pytest.approx(own.size, rel=0.02)
        assert pitch_hz(other) == pytest.approx(pitch_hz(own), rel=0.05)


def test_a_wrong_setting_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no voice 'martian'"):
        make(tmp_path, voice="martian")
    with pytest.raises(ConfigurationError, match=r"no voice variant 'f33'.*f3"):
        make(tmp_path, voice="en-us+f33")
    with pytest.raises(ValidationError, match="words_per_minute"):
        EspeakSettings(words_per_minute=1000)


async def test_the_last_provider_to_close_ends_the_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    one, two = make(tmp_path), make(tmp_path)
    assert len(set(threading.enumerate()) - before) == 1
    await one.aclose()
    await one.aclose()
    assert await speak(two, "Still here.")
    await two.aclose()
    assert set(threading.enumerate()) == before
    with pytest.raises(UnavailableError):
        await speak(two, "Gone.")


def test_every_setting_is_described() -> None:
    (offer,) = register_providers()
    assert offer.id == "espeak"
    assert all(field.description for field in offer.settings.model_fields.values())


def test_the_trimmer_keeps_silence_inside_and_cuts_it_outside_whatever_the_chunks() -> None:
    sound = np.full(50, 1000, np.int16)
    quiet = np.zeros(200, np.int16)
    whole = np.concatenate([quiet, sound, quiet, sound, quiet])
    for size in (1, 7, 100, 700):
        trim = SilenceTrimmer(lead=10, tail=20)
        parts = [trim.push(whole[at : at + size]) for at in range(0, whole.size, size)]
        out = np.concatenate([*parts, trim.finish()])
        np.testing.assert_array_equal(out, whole[190:520])
        assert trim.skipped == 190
