# SPDX-License-Identifier: Apache-2.0
"""Streams of the faster_whisper provider over a model whose every answer the test releases."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import cast

import numpy as np
import pytest
from trunkline_faster_whisper.audio import loudest_dbfs, quietest_point
from trunkline_faster_whisper.provider import WhisperRecognizer
from trunkline_faster_whisper.settings import FasterWhisperSettings
from trunkline_faster_whisper.whisper import Recognized, Utterance, Whisper

from appliance.plugin import (
    Flush,
    Pcm,
    RateLimitedError,
    SttRequest,
    Transcript,
    UnavailableError,
)
from tests.lab.waiting import until

RATE = 16_000
FRAME = 320


class SteppedModel:
    """Says how many samples it heard; computes as long as the test wants."""

    languages = frozenset({"en"})
    uses_hints = False
    batch_size = 1

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.heard: list[int] = []
        self.batches: list[int] = []
        self.error: Exception | None = None
        self.closed = False

    def language_code(self, tag: str | None) -> str | None:
        return tag

    def recognize(self, utterances: Sequence[Utterance]) -> list[Recognized]:
        self.heard += [len(utterance.pcm) for utterance in utterances]
        self.batches.append(len(utterances))
        assert self.free.wait(10)
        if self.error:
            raise self.error
        return [Recognized(f"{len(utterance.pcm)}", 0.5) for utterance in utterances]

    def shape(self, utterance: Utterance) -> int:
        return 0

    def close(self) -> None:
        self.closed = True


class Feed:
    """Audio that the test gives piece by piece."""

    def __init__(self) -> None:
        self._items: asyncio.Queue[Pcm | Flush | None] = asyncio.Queue()

    def speak(self, seconds: float) -> None:
        for _ in range(round(seconds * RATE / FRAME)):
            self._items.put_nowait(np.full(FRAME, 1000, np.int16))

    def flush(self) -> None:
        self._items.put_nowait(Flush())

    def end(self) -> None:
        self._items.put_nowait(None)

    def taken(self) -> bool:
        return self._items.empty()

    async def __aiter__(self) -> AsyncIterator[Pcm | Flush]:
        while (item := await self._items.get()) is not None:
            yield item


@pytest.fixture
def model() -> SteppedModel:
    return SteppedModel()


@pytest.fixture
async def make(model: SteppedModel) -> AsyncIterator[Callable[..., WhisperRecognizer]]:
    built: list[WhisperRecognizer] = []

    def make_one(threads: int = 1, **settings: object) -> WhisperRecognizer:
        checked = FasterWhisperSettings.model_validate(settings)
        built.append(WhisperRecognizer(cast("Whisper", model), checked, threads))
        return built[-1]

    yield make_one
    model.free.set()
    for recognizer in built:
        await recognizer.aclose()


class Listener:
    """Collects the transcripts of one stream in a task of its own."""

    def __init__(self, recognizer: WhisperRecognizer, call_id: str = "") -> None:
        self.feed = Feed()
        self.transcripts: list[Transcript] = []
        self.task = asyncio.create_task(self._follow(recognizer, call_id))

    async def _follow(self, recognizer: WhisperRecognizer, call_id: str) -> None:
        stream = recognizer.transcribe(aiter(self.feed), SttRequest(call_id))
        async for transcript in stream:
            self.transcripts.append(transcript)

    @property
    def finals(self) -> list[float]:
        return [transcript.audio_s for transcript in self.transcripts if transcript.is_final]

    @property
    def interims(self) -> list[float]:
        return [transcript.audio_s for transcript in self.transcripts if not transcript.is_final]

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_each_flush_gets_one_final_of_all_audio_so_far(
    make: Callable[..., WhisperRecognizer],
) -> None:
    listener = Listener(make(interim_every_s=0))
    listener.feed.speak(1)
    listener.feed.flush()
    listener.feed.speak(1)
    listener.feed.flush()
    listener.feed.end()
    await listener.task
    assert [(t.text, t.is_final, t.audio_s) for t in listener.transcripts] == [
        ("16000", True, 1.0),
        ("32000", True, 2.0),
    ]


async def test_audio_after_the_last_flush_gets_a_final_at_the_end(
    make: Callable[..., WhisperRecognizer],
) -> None:
    listener = Listener(make(interim_every_s=0))
    listener.feed.flush()
    listener.feed.speak(0.5)
    listener.feed.end()
    await listener.task
    assert [(t.text, t.audio_s) for t in listener.transcripts] == [("", 0.0), ("8000", 0.5)]


async def test_interims_come_while_audio_arrives_and_cover_the_newest(
    make: Callable[..., WhisperRecognizer], model: SteppedModel
) -> None:
    listener = Listener(make(interim_every_s=0.5))
    listener.feed.speak(0.5)
    await until(lambda: listener.interims == [0.5])
    model.free.clear()
    listener.feed.speak(0.5)
    await until(lambda: len(model.heard) == 2)
    listener.feed.speak(
        2
    )  # three more are asked for while the second is computed: the newest stays
    await until(listener.feed.taken)
    model.free.set()
    await until(lambda: listener.interims == [0.5, 1.0, 3.0])
    assert model.heard == [8000, 16000, 48000]
    await listener.stop()


async def test_an_interim_that_a_final_overtakes_is_not_told(
    make: Callable[..., WhisperRecognizer], model: SteppedModel
) -> None:
    model.free.clear()
    listener = Listener(make(interim_every_s=0.5))
    listener.feed.speak(0.5)
    await until(lambda: model.heard == [8000])
    listener.feed.speak(0.1)
    listener.feed.flush()
    await until(listener.feed.taken)
    model.free.set()
    await until(lambda: listener.finals == [0.6])
    assert listener.interims == []
    await listener.stop()


async def test_finals_are_computed_before_interims_that_were_asked_for_earlier(
    make: Callable[..., WhisperRecognizer], model: SteppedModel
) -> None:
    recognizer = make(interim_every_s=0.5)
    model.free.clear()
    first, second, third = (Listener(recognizer, f"{n}") for n in range(3))
    first.feed.speak(0.3)
    first.feed.flush()
    await until(lambda: model.heard == [4800])
    second.feed.speak(1)
    await until(second.feed.taken)
    third.feed.speak(0.4)
    third.feed.flush()
    await until(third.feed.taken)
    model.free.set()
    await until(lambda: third.finals == [0.4])
    await until(lambda: second.interims == [1.0])
    assert model.heard == [4800, 6400, 16000]
    for listener in (first, second, third):
        await listener.stop()


async def test_above_the_limit_interims_are_left_out_and_then_a_call_is_told(
    make: Callable[..., WhisperRecognizer], model: SteppedModel
) -> None:
    recognizer = make(interim_every_s=0.5, queue_limit=2)
    model.free.clear()
    running, talking, *waiting, late = (Listener(recognizer, f"{n}") for n in range(5))
    running.feed.speak(0.1)
    running.feed.flush()
    await until(lambda: model.heard == [1600])
    talking.feed.speak(0.5)
    await until(talking.feed.taken)
    for number, listener in enumerate(waiting):
        listener.feed.speak(0.2 + number / 10)
        listener.feed.end()
    await until(lambda: all(listener.feed.taken() for listener in waiting))
    late.feed.speak(0.4)
    late.feed.end()
    with pytest.raises(RateLimitedError, match="the recognizer is full: 2 utterances wait"):
        await late.task
    model.free.set()
    await asyncio.gather(*(listener.task for listener in waiting))
    assert model.heard == [1600, 3200, 4800]
    assert talking.interims == []
    await running.stop()
    await talking.stop()


async def test_streams_do_not_mix(make: Callable[..., WhisperRecognizer]) -> None:
    recognizer = make(threads=2, interim_every_s=0)
    listeners = [Listener(recognizer, f"{n}") for n in range(10)]
    for number, listener in enumerate(listeners):
        listener.feed.speak((number + 1) / 10)
        listener.feed.end()
    await asyncio.gather(*(listener.task for listener in listeners))
    texts = [listener.transcripts[0].text for listener in listeners]
    assert texts == [f"{(number + 1) * 1600}" for number in range(10)]


async def test_finals_that_wait_are_computed_together_where_that_helps(
    make: Callable[..., WhisperRecognizer], model: SteppedModel
) -> None:
    model.batch_size = 4
    recognizer = make(interim_every_s=0)
    model.free.clear()
    listeners = [Listener(recognizer, f"{n}") for n in range(9)]
    for listener in listeners:
        listener.feed.speak(0.2)
        listener.feed.end()
    await until(lambda: model.batches and all(one.feed.taken() for one in listeners))
    model.free.set()
    await asyncio.gather(*(listener.task for listener in listeners))
    assert sum(model.batches) == 9
    assert max(model.batches) == 4


async def test_a_cancelled_stream_ends_at_once_and_what_it_waited_for_is_not_computed(
    make: Callable[..., WhisperRecognizer], model: SteppedModel
) -> None:
    recognizer = make(interim_every_s=0)
    model.free.clear()
    first, second = Listener(recognizer), Listener(recognizer)
    first.feed.speak(0.3)
    first.feed.end()
    await until(lambda: model.heard == [4800])
    second.feed.speak(0.4)
    second.feed.end()
    await until(second.feed.taken)
    started = time.monotonic()
    await second.stop()
    await first.stop()
    assert time.monotonic() - started < 0.02
    assert asyncio.all_tasks() == {asyncio.current_task()}
    model.free.set()
    third = Listener(recognizer)
    third.feed.speak(0.5)
    third.feed.end()
    await third.task
    assert model.heard == [4800, 8000]


async def test_a_long_turn_is_cut_while_it_lasts_and_its_texts_are_joined(
    make: Callable[..., WhisperRecognizer], model: SteppedModel
) -> None:
    listener = Listener(make(interim_every_s=0))
    listener.feed.speak(60)
    listener.feed.flush()
    listener.feed.end()
    await listener.task
    final = listener.transcripts[0]
    assert final.audio_s == 60.0
    parts = [int(part) for part in final.text.split()]
    assert sum(parts) == 60 * RATE
    assert len(parts) >= 3
    assert max(parts) <= 28 * RATE


async def test_an_engine_failure_reaches_the_stream_and_only_that(
    make: Callable[..., WhisperRecognizer], model: SteppedModel
) -> None:
    recognizer = make(interim_every_s=0)
    model.error = UnavailableError("the recognizer failed")
    broken = Listener(recognizer)
    broken.feed.speak(0.2)
    broken.feed.end()
    with pytest.raises(UnavailableError, match="failed"):
        await broken.task
    model.error = None
    sound = Listener(recognizer)
    sound.feed.speak(0.2)
    sound.feed.end()
    await sound.task
    assert sound.finals == [0.2]


async def test_audio_that_breaks_off_ends_the_stream_with_that_error(
    make: Callable[..., WhisperRecognizer],
) -> None:
    async def broken() -> AsyncIterator[Pcm | Flush]:
        yield np.zeros(FRAME, np.int16)
        message = "the line is dead"
        raise OSError(message)

    with pytest.raises(OSError, match="the line is dead"):
        async for _ in make().transcribe(broken(), SttRequest()):
            pass


async def test_a_closed_recognizer_says_so_and_leaves_no_thread(
    make: Callable[..., WhisperRecognizer], model: SteppedModel
) -> None:
    before = threading.active_count()
    recognizer = make(threads=2)
    await recognizer.aclose()
    await recognizer.aclose()
    assert model.closed
    assert threading.active_count() == before
    listener = Listener(recognizer)
    listener.feed.speak(0.2)
    listener.feed.end()
    with pytest.raises(UnavailableError, match="closed"):
        await listener.task


def test_the_cut_falls_into_the_pause() -> None:
    random = np.random.default_rng(0)
    pcm = (random.standard_normal(28 * RATE) * 3000).astype(np.int16)
    pcm[20 * RATE : 20 * RATE + 8000] //= 100
    at = quietest_point(pcm, 17 * RATE, 28 * RATE)
    assert 20 * RATE < at < 20 * RATE + 8000


def test_the_level_is_that_of_the_loudest_moment() -> None:
    pcm = np.zeros(RATE, np.int16)
    assert loudest_dbfs(pcm) == -np.inf
    assert loudest_dbfs(pcm[:0]) == -np.inf
    pcm[4800:9600] = 3277
    assert loudest_dbfs(pcm) == pytest.approx(-20, abs=0.1)
    assert loudest_dbfs(pcm[:100]) == -np.inf
