# SPDX-License-Identifier: Apache-2.0
"""The Silero detector on its real model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from faster_whisper.vad import SileroVADModel  # type: ignore[import-untyped]
from trunkline_silero import SileroSettings, build
from trunkline_silero.detector import SileroDetector, bundled_model

from appliance.plugin import (
    BuildContext,
    ConfigurationError,
    InvalidRequestError,
    ModelNotFoundError,
    Pcm,
    UnavailableError,
)
from appliance.plugin.conformance import Subject, VoiceActivityConformance

WINDOW = 512


@pytest.fixture
async def detector(build_context: BuildContext) -> AsyncIterator[SileroDetector]:
    provider = build(SileroSettings(), build_context)
    assert isinstance(provider, SileroDetector)
    yield provider
    await provider.aclose()


class TestSileroKeepsTheContract(VoiceActivityConformance):
    @pytest.fixture
    def provider(self, subject: Callable[..., Subject]) -> Subject:
        return subject("trunkline_silero")


def babble(random: np.random.Generator, windows: int, calls: int) -> Pcm:
    """Bursts of harmonics, noise and silence, other ones in each call: shape (windows, calls, 512)."""
    seconds = np.arange(windows * WINDOW) / 16_000
    rows = []
    for _ in range(calls):
        pitch = random.uniform(90, 240)
        voiced = sum(np.sin(2 * np.pi * pitch * k * seconds + k) / k for k in range(1, 20))
        gate = np.repeat(random.integers(0, 2, windows), WINDOW)
        noise = random.standard_normal(len(seconds)) * 40
        rows.append((voiced * gate * 3000 + noise).astype(np.int16).reshape(windows, WINDOW))
    return np.stack(rows, axis=1)


def test_a_call_gets_bit_for_bit_the_score_it_would_get_alone(detector: SileroDetector) -> None:
    audio = babble(np.random.default_rng(1), windows=60, calls=16)
    together = [detector.open() for _ in range(16)]
    alone = [detector.open() for _ in range(16)]
    for windows in audio:
        batch = detector.score(together, windows)
        single = [detector.score([state], windows[n : n + 1])[0] for n, state in enumerate(alone)]
        assert batch.tolist() == single


def test_calls_that_come_and_go_do_not_disturb_the_others(detector: SileroDetector) -> None:
    audio = babble(np.random.default_rng(2), windows=40, calls=8)
    lonely = detector.open()
    expected = [float(detector.score([lonely], windows[3:4])[0]) for windows in audio]

    states = [detector.open() for _ in range(8)]
    found = []
    for step, windows in enumerate(audio):
        present = [3, *(n for n in range(8) if n != 3 and (n + step) % 3)]
        scores = detector.score([states[n] for n in present], windows[present])
        found.append(float(scores[0]))
    assert found == expected


def test_a_call_that_takes_the_place_of_an_ended_one_starts_afresh(
    detector: SileroDetector,
) -> None:
    audio = babble(np.random.default_rng(4), windows=12, calls=40)
    lonely = detector.open()
    expected = [float(detector.score([lonely], windows[7:8])[0]) for windows in audio]
    crowd = [detector.open() for _ in range(40)]  # more than there are places at first
    rows = {state.row for state in crowd}
    assert len(rows | {lonely.row}) == 41
    for windows in audio:
        detector.score(crowd, windows)
    del crowd[5:30]
    late = [detector.open() for _ in range(25)]
    assert {state.row for state in late} | {state.row for state in crowd} == rows
    assert [float(detector.score([late[0]], w[7:8])[0]) for w in audio] == expected


def test_it_agrees_with_the_graph_as_published(detector: SileroDetector) -> None:
    audio = babble(np.random.default_rng(3), windows=50, calls=1)[:, 0]
    state = detector.open()
    ours = [float(detector.score([state], window[None])[0]) for window in audio]
    theirs = SileroVADModel(str(bundled_model()))(audio.reshape(-1).astype(np.float32) / 32768)
    # Theirs clears the end of its last window together with the context that it copies from there.
    assert np.abs(np.array(ours) - theirs.reshape(-1))[:-1].max() < 1e-5


def test_no_calls_give_no_scores(detector: SileroDetector) -> None:
    assert detector.score([], np.zeros((0, WINDOW), np.int16)).shape == (0,)


def test_windows_of_another_shape_are_refused(detector: SileroDetector) -> None:
    with pytest.raises(InvalidRequestError, match="for 1 states"):
        detector.score([detector.open()], np.zeros((2, WINDOW), np.int16))


async def test_a_closed_detector_says_so(build_context: BuildContext) -> None:
    detector = build(SileroSettings(), build_context)
    await detector.aclose()
    with pytest.raises(UnavailableError, match="closed"):
        detector.score([detector.open()], np.zeros((1, WINDOW), np.int16))


def test_a_file_named_in_the_settings_is_used(build_context: BuildContext, tmp_path: Path) -> None:
    path = tmp_path / "copy.onnx"
    path.write_bytes(bundled_model().read_bytes())
    build(SileroSettings(model=str(path)), build_context)


@pytest.mark.parametrize("content", [None, b"", b"not a graph"])
def test_a_missing_or_damaged_file_is_named(
    build_context: BuildContext, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "vad.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((ModelNotFoundError, ConfigurationError), match=r"vad\.onnx"):
        build(SileroSettings(model=str(path)), build_context)


def test_another_graph_is_refused(build_context: BuildContext, tmp_path: Path) -> None:
    model = onnx.load(str(bundled_model()))
    next(n for n in model.graph.node if n.op_type == "LSTM").input[0] = "h"
    path = tmp_path / "other.onnx"
    onnx.save(model, str(path))
    with pytest.raises(ConfigurationError, match="no Transpose feeds its LSTM"):
        build(SileroSettings(model=str(path)), build_context)
