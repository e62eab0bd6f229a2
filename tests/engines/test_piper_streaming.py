# SPDX-License-Identifier: Apache-2.0
"""A Piper voice in pieces: the samples of the whole sentence, the first of them long before the last."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort  # type: ignore[import-untyped]
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, helper
from trunkline_piper import PiperSettings, build
from trunkline_piper.engine import PiperEngine, trimmed
from trunkline_piper.graph import NARROWEST, SplitGraph, WholeGraph, pieces
from trunkline_piper.phrases import Phrases
from trunkline_piper.split import NotSplittableError, split
from trunkline_piper.worker import Supply, Worker

from appliance.plugin import BuildContext, Pcm, TextToSpeech, TtsRequest, UnavailableError
from tests.benchmarks.piper_model import RATE, make_voice
from tests.engines.make_piper_voice import make_voice as make_tones

CLAUSE = "I can book an appointment for you on Friday at half past two."


@pytest.fixture(scope="module", params=[1, 3], ids=["one speaker", "three speakers"])
def voice(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_voice(tmp_path_factory.mktemp("voice"), "tiny", request.param)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_voice(tmp_path_factory.mktemp("single"), "tiny")


def feed(voice: Path, ids: int, *, noise: float = 0.0) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(ids)
    found = {
        "input": random.integers(14, 150, (1, ids)),
        "input_lengths": np.array([ids]),
        "scales": np.array([noise, 1.0, 0.8], np.float32),
    }
    if "sid" in {one.name for one in onnx.load(str(voice)).graph.input}:
        found["sid"] = np.array([1])
    return found


@pytest.fixture(scope="module")
def graphs(voice: Path) -> tuple[WholeGraph, SplitGraph]:
    return WholeGraph(voice, 1), SplitGraph(split(onnx.load(str(voice))), 1, RATE)


@pytest.mark.parametrize("ids", [1, 2, 7, 20, 61, 140])
def test_the_pieces_are_the_samples_of_the_whole_sentence(
    voice: Path, graphs: tuple[WholeGraph, SplitGraph], ids: int
) -> None:
    at_once, in_pieces = graphs
    sentence = feed(voice, ids)
    (whole,) = at_once.run(sentence, ort.RunOptions())
    parts = list(in_pieces.run(sentence, ort.RunOptions()))
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(parts) > 3 or ids < 61


def test_with_noise_the_pieces_join_without_a_seam(
    voice: Path, graphs: tuple[WholeGraph, SplitGraph]
) -> None:
    assert graphs[1].error(feed(voice, 90, noise=0.667)) == 0.0


def test_the_first_piece_is_computed_before_the_rest_is(single: Path) -> None:
    given_ = feed(single, 100)
    graph = SplitGraph(split(onnx.load(str(single))), 1, RATE)
    options = ort.RunOptions()
    stream = graph.run(given_, options)
    first = next(stream)
    assert 0.05 * RATE < first.size < 0.12 * RATE
    options.terminate = True
    with pytest.raises(UnavailableError):
        next(stream)


def _renamed(model: ModelProto) -> ModelProto:
    """Give every node and tensor inside another name, as another exporter would."""
    graph = model.graph
    fixed = {one.name for one in [*graph.input, *graph.output]} | {""}
    for node in graph.node:
        node.name = ""
        for names in (node.input, node.output):
            names[:] = [name if name in fixed else f"x::{hash(name) % 10**9}" for name in names]
    for tensor in graph.initializer:
        tensor.name = f"x::{hash(tensor.name) % 10**9}"
    return model


def test_the_cut_is_found_whatever_things_are_called(single: Path) -> None:
    original, renamed = split(onnx.load(str(single))), split(_renamed(onnx.load(str(single))))
    assert original.flow is not None
    assert renamed.flow is not None
    for one, other in ((original.flow, renamed.flow), (original.vocoder, renamed.vocoder)):
        assert (one.samples, one.left, one.right) == (other.samples, other.left, other.right)


def test_a_voice_without_noise_is_cut_behind_its_upsampling_alone(
    single: Path, tmp_path: Path
) -> None:
    model = onnx.load(str(single))
    noise = next(node for node in model.graph.node if node.op_type == "RandomNormalLike")
    noise.op_type = "Neg"
    assert split(model).flow is None
    path = tmp_path / "silent.onnx"
    onnx.save(model, str(path))
    graph = SplitGraph(split(model), 1, RATE)
    (whole,) = WholeGraph(path, 1).run(feed(single, 40), ort.RunOptions())
    parts = list(graph.run(feed(single, 40), ort.RunOptions()))
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def _last(model: ModelProto, kind: str) -> onnx.NodeProto:
    return [node for node in model.graph.node if node.op_type == kind][-1]


def _softmax_over_time(model: ModelProto) -> None:
    _last(model, "Tanh").op_type = "Softmax"


def _longer(model: ModelProto) -> None:
    pads = next(a for a in _last(model, "Conv").attribute if a.name == "pads")
    pads.ints[:] = [4, 4]


def _noise_in_the_vocoder(model: ModelProto) -> None:
    tanh = _last(model, "Tanh")
    at = list(model.graph.node).index(tanh)
    noise = helper.make_node("RandomNormal", [], ["hiss"], shape=[1])
    model.graph.node.insert(at, noise)
    mixed = helper.make_node("Add", [tanh.input[0], "hiss"], ["mixed"])
    model.graph.node.insert(at + 1, mixed)
    _last(model, "Tanh").input[0] = "mixed"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_softmax_over_time, "Softmax .* is not known to keep the time"),
        (_longer, "changes the length"),
        (_noise_in_the_vocoder, "needs hiss besides the columns"),
    ],
)
def test_a_vocoder_of_another_shape_is_not_cut(
    single: Path, change: Callable[[ModelProto], None], why: str
) -> None:
    model = onnx.load(str(single))
    change(model)
    with pytest.raises(NotSplittableError, match=why):
        split(model)


def test_a_voice_that_cannot_be_cut_speaks_whole_sentences_and_says_why(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        engine = PiperEngine(make_tones(tmp_path), 1, 0.7)
    assert not engine.graph.streams
    assert [(log["event"], log["reason"]) for log in logs] == [
        ("the voice gives whole sentences only", "it has no upsampling")
    ]


def test_a_cut_that_changes_the_sound_is_noticed_and_not_used(single: Path, tmp_path: Path) -> None:
    model = onnx.load(str(single))  # a sum that runs along the time, hidden in a pointwise name
    tanh = _last(model, "Tanh")
    at = list(model.graph.node).index(tanh)
    shifted = helper.make_node("Slice", [tanh.input[0], "from", "to", "axis", "step"], ["late"])
    model.graph.node.insert(at, shifted)
    _last(model, "Tanh").input[0] = "late"
    for name, value in (("from", -1), ("to", -(2**31)), ("axis", 2), ("step", -1)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value]), name))
    path = tmp_path / "reversed.onnx"
    onnx.save(model, str(path))
    path.with_name("reversed.onnx.json").write_text(
        single.with_name("random.onnx.json").read_text("utf-8"), "utf-8"
    )
    with structlog.testing.capture_logs() as logs:
        engine = PiperEngine(path, 1, 0.7)
    assert not engine.graph.streams
    assert "from the whole" in logs[0]["reason"]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5000), st.integers(1, 90), st.integers(0, 900))
def test_pieces_cover_everything_once_and_none_is_smaller_than_the_first(
    count: int, first: int, more: int
) -> None:
    found = pieces(count, first, first + more)
    assert [start for start, _ in found] == [0, *[end for _, end in found][:-1]][: len(found)]
    assert sum(end - start for start, end in found) == count
    sizes = [end - start for start, end in found]
    assert all(size >= first for size in sizes) or len(sizes) == 1
    assert all(size < first + more + first for size in sizes)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([0, 50, -900]), min_size=1, max_size=40), max_size=8),
    st.integers(0, 12),
    st.integers(0, 12),
)
def test_trimming_pieces_gives_what_trimming_the_whole_gives(
    parts: list[list[int]], lead: int, tail: int
) -> None:
    arrays = [np.array(part, np.int16) for part in parts]
    whole = np.concatenate([np.zeros(0, np.int16), *arrays])
    sound = np.flatnonzero(np.abs(whole.astype(int)) > 98)
    expected = whole[max(0, sound[0] - lead) : sound[-1] + 1 + tail] if sound.size else whole[:0]
    found = np.concatenate([np.zeros(0, np.int16), *trimmed(arrays, lead, tail)])
    np.testing.assert_array_equal(found, expected)


def load(path: Path, **options: object) -> TextToSpeech:
    context = BuildContext(model_path=Path, data_dir=path.parent)
    return build(PiperSettings.model_validate({"model": str(path), **options}), context)


async def speak(provider: TextToSpeech, *texts: str, **request: object) -> list[Pcm]:
    async def clauses() -> AsyncIterator[str]:
        for text in texts:
            yield text

    stream = provider.speak(clauses(), TtsRequest(**request))  # type: ignore[arg-type]
    return [chunk.pcm async for chunk in stream]


async def test_an_answer_is_the_same_in_pieces_and_whole(single: Path) -> None:
    streamed = load(single, noise_scale=0, cache_mb=0)
    whole = load(single, noise_scale=0, cache_mb=0)
    engine = whole._engine  # type: ignore[attr-defined]
    engine.graph = WholeGraph(single, 1)
    texts = (CLAUSE, "See you then!")
    in_pieces, at_once = await speak(streamed, *texts), await speak(whole, *texts)
    assert len(in_pieces) > len(at_once)
    assert in_pieces[0].size < 0.12 * RATE
    np.testing.assert_array_equal(np.concatenate(in_pieces), np.concatenate(at_once))
    await streamed.aclose()
    await whole.aclose()


async def test_a_clause_said_before_is_said_again_without_computing(single: Path) -> None:
    piper = load(single)
    first = await speak(piper, "One moment, please.")
    engine = piper._engine  # type: ignore[attr-defined]
    engine.graph = None
    again = await speak(piper, "One moment, please. ")
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(again))
    with pytest.raises(AttributeError):
        await speak(piper, "One moment, please.", speed=1.2)
    await piper.aclose()
    with pytest.raises(UnavailableError):
        await speak(piper, "One moment, please.")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60)), max_size=60), st.integers(0, 200))
def test_the_phrases_kept_are_the_latest_and_never_above_the_limit(
    said: list[tuple[int, int]], limit: int
) -> None:
    phrases = Phrases(limit, rate=5)  # the longest that is kept has 80 bytes
    model: dict[int, int] = {}
    for key, size in said:
        kept = phrases.get(key)
        assert (kept is not None) == (key in model)
        if kept is not None:
            model[key] = model.pop(key)
            continue
        phrases.keep(key, (np.zeros(size, np.int16),))
        if 2 * size <= min(80, limit):
            model[key] = 2 * size
        while sum(model.values()) > limit:
            del model[next(iter(model))]
        assert phrases.size == sum(model.values()) <= limit


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_the_worker_does_what_is_due_first_and_skips_what_was_cancelled(
    jobs: list[tuple[int, bool]],
) -> None:
    worker, gate, done = Worker("test"), threading.Event(), list[int]()
    worker.submit(gate.wait, -1.0)
    futures: list[Future[None]] = [
        worker.submit(lambda at=at: done.append(at), float(due))  # type: ignore[misc]
        for at, (due, _) in enumerate(jobs)
    ]
    for future, (_, cancelled) in zip(futures, jobs, strict=True):
        if cancelled:
            future.cancel()
    last = worker.submit(lambda: None, 99.0)
    gate.set()
    last.result(10)
    alive = [at for at, (_, cancelled) in enumerate(jobs) if not cancelled]
    assert done == sorted(alive, key=lambda at: (jobs[at][0], at))
    worker.close()


def test_silence_between_clauses_gives_an_answer_no_precedence_for_the_rest_of_it() -> None:
    early, late = Supply(now=0.0), Supply(now=6.0)
    early.give(1.0, now=0.2)  # its caller listens until 1.2, then waits for the next clause
    assert early.dry_at == pytest.approx(1.2)
    assert early.dry_at < late.dry_at
    early.give(0.1, now=6.1)
    late.give(0.1, now=6.1)
    late.give(0.2, now=6.1)
    assert early.dry_at == pytest.approx(6.2)
    assert late.dry_at == pytest.approx(6.4)


async def test_a_new_answer_goes_before_one_that_has_audio_in_hand(single: Path) -> None:
    piper = load(single, cache_mb=0)
    long = " and ".join(["nine hundred"] * 8)
    order: list[str] = []

    async def follow(name: str, text: str) -> None:
        async def clauses() -> AsyncIterator[str]:
            yield text

        async for _ in piper.speak(clauses(), TtsRequest()):
            order.append(name)  # noqa: PERF401  one by one, as they come

    first = asyncio.create_task(follow("long", long))
    deadline = time.monotonic() + 20
    while len(order) < 3:
        assert time.monotonic() < deadline
        await asyncio.sleep(0)
    await follow("new", "Yes.")
    assert not first.done()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await piper.aclose()


def test_no_piece_is_so_narrow_that_its_sums_are_rounded_another_way(single: Path) -> None:
    parts = split(onnx.load(str(single)))
    graph = SplitGraph(parts, 1, RATE)
    assert graph._first + parts.vocoder.right >= NARROWEST
