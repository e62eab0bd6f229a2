# SPDX-License-Identifier: Apache-2.0
"""The piper provider on a voice of tones: Piper's own graph inputs, phonemizer and voice file."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from trunkline_piper import PiperSettings, build

from appliance.plugin import (
    BuildContext,
    ConfigurationError,
    ModelNotFoundError,
    Pcm,
    SpeechChunk,
    TextToSpeech,
    TtsRequest,
    UnavailableError,
)
from tests.engines.make_piper_voice import FRAMES_PER_ID, HOP, RATE, make_voice


def load(path: Path, **settings: object) -> TextToSpeech:
    context = BuildContext(model_path=Path, data_dir=path)
    return build(PiperSettings.model_validate({"model": str(path), **settings}), context)


@pytest.fixture
async def piper(tmp_path: Path) -> AsyncIterator[TextToSpeech]:
    make_voice(tmp_path)
    provider = load(tmp_path)
    yield provider
    await provider.aclose()


async def clauses(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield text


async def speak(provider: TextToSpeech, *texts: str, **request: object) -> list[SpeechChunk]:
    stream = provider.speak(clauses(*texts), TtsRequest(**request))  # type: ignore[arg-type]
    return [chunk async for chunk in stream]


def sound(pcm: Pcm) -> tuple[int, int]:
    """First and last sample that is no silence."""
    heard = np.flatnonzero(np.abs(pcm.astype(int)) > 104)
    return int(heard[0]), int(heard[-1])


async def test_each_sentence_is_a_chunk_and_a_pause_parts_them(piper: TextToSpeech) -> None:
    chunks = await speak(piper, "Good morning. How are you?", "Fine,", "thanks.")
    assert len(chunks) == 4
    pauses = [sound(chunk.pcm)[0] / RATE for chunk in chunks]
    assert pauses == pytest.approx([0.0, 0.25, 0.25, 0.12], abs=0.011)
    assert piper.capabilities.sample_rate == RATE


async def test_the_samples_are_those_of_the_phonemes_at_the_level_set(tmp_path: Path) -> None:
    make_voice(tmp_path)
    piper = load(tmp_path, peak=0.5)
    (chunk,) = await speak(piper, "Yes.")
    (ids,) = piper._engine.sentences("Yes.")  # type: ignore[attr-defined]
    tones = [at for at, phoneme in enumerate(ids) if phoneme > 13]  # the others are silent
    first, last = sound(chunk.pcm)
    length = (tones[-1] - tones[0] + 1) * FRAMES_PER_ID * HOP
    assert last - first == pytest.approx(length, abs=8)
    assert np.abs(chunk.pcm).max() == pytest.approx(0.5 * 32767, rel=0.02)
    await piper.aclose()


async def test_silence_around_a_sentence_is_cut(tmp_path: Path) -> None:
    make_voice(tmp_path, lead=40)
    piper = load(tmp_path)
    (chunk,) = await speak(piper, "Yes.")
    first, last = sound(chunk.pcm)
    assert first <= RATE * 0.02
    assert chunk.pcm.size - last <= RATE * 0.021
    await piper.aclose()


async def test_speed_shortens_and_text_without_words_is_silent(piper: TextToSpeech) -> None:
    (normal,) = await speak(piper, "We are open on Monday.")
    (fast,) = await speak(piper, "We are open on Monday.", speed=2.0)
    assert fast.pcm.size == pytest.approx(normal.pcm.size / 2, rel=0.05)
    assert await speak(piper, "...", " ", "!") == []


async def test_a_speaker_is_picked_by_name_or_number(tmp_path: Path) -> None:
    make_voice(tmp_path, speakers=2)
    piper = load(tmp_path)
    assert piper.capabilities.voices == ("tone0", "tone1")
    (low,) = await speak(piper, "Ah.")
    (high,) = await speak(piper, "Ah.", voice="tone1")
    (same,) = await speak(piper, "Ah.", voice="1")
    crossings = [np.count_nonzero(np.diff(np.signbit(c.pcm))) for c in (low, high)]
    assert crossings[1] == pytest.approx(1.5 * crossings[0], rel=0.05)
    np.testing.assert_array_equal(high.pcm, same.pcm)
    (stranger,) = await speak(piper, "Ah.", voice="en-us+f3")
    np.testing.assert_array_equal(stranger.pcm, low.pcm)
    await piper.aclose()
    with pytest.raises(ConfigurationError, match=r"no speaker 'tone7'.*tone0, tone1"):
        load(tmp_path, speaker="tone7")


async def test_two_streams_at_once_do_not_mix(piper: TextToSpeech) -> None:
    texts = ("Monday. Tuesday. Wednesday.", "One. Two. Three.")
    alone = [await speak(piper, text) for text in texts]
    both = await asyncio.gather(*(speak(piper, text) for text in texts))
    for expected, got in zip(alone, both, strict=True):
        for a, b in zip(expected, got, strict=True):
            np.testing.assert_array_equal(a.pcm, b.pcm)


async def test_cancelling_ends_the_running_graph(piper: TextToSpeech) -> None:
    endless = " and ".join(["nine"] * 1000)
    task = asyncio.create_task(speak(piper, endless))
    await asyncio.sleep(0)  # the task hands its work to the thread and waits
    assert piper._running  # type: ignore[attr-defined]
    start = time.perf_counter()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.perf_counter() - start < 0.02
    assert await speak(piper, "Yes.")


async def test_terminating_a_run_raises_unavailable(piper: TextToSpeech) -> None:
    engine = piper._engine  # type: ignore[attr-defined]
    import onnxruntime  # type: ignore[import-untyped]  # noqa: PLC0415

    options = onnxruntime.RunOptions()
    options.terminate = True
    with pytest.raises(UnavailableError):
        list(engine.render([1, 0, 14, 0, 2], engine.default_scales(), None, options))


async def test_closing_ends_the_thread(tmp_path: Path) -> None:
    make_voice(tmp_path)
    before = set(threading.enumerate())
    piper = load(tmp_path)
    assert await speak(piper, "Hello.")
    await piper.aclose()
    await piper.aclose()
    assert set(threading.enumerate()) == before
    with pytest.raises(UnavailableError):
        await speak(piper, "Gone.")


def test_a_missing_or_damaged_voice_is_named_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"holds 0 \.onnx"):
        load(tmp_path)
    voice = make_voice(tmp_path)
    voice.write_bytes(b"not a graph")
    with pytest.raises(ModelNotFoundError, match=r"tones.onnx cannot be loaded.*models verify"):
        load(tmp_path)
    voice.with_name("tones.onnx.json").unlink()
    with pytest.raises(ModelNotFoundError, match=r"tones.onnx.json is missing.*models pull"):
        load(voice)


def test_the_test_voice_is_tiny_and_always_the_same(tmp_path: Path) -> None:
    one, two = make_voice(tmp_path / "a"), make_voice(tmp_path / "b")
    assert one.read_bytes() == two.read_bytes()
    assert one.stat().st_size < 200_000
