# SPDX-License-Identifier: Apache-2.0
"""Measuring on synthetic signals: every number is exact to the sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.caller.measure import (
    HEARD_DB,
    SENT_DB,
    Span,
    SpeechTrack,
    answer_latency,
    barge_in_stop,
    reply_to,
    stats,
)
from appliance.plugin import Pcm
from tests.caller.lab import tone


def signal(*parts: tuple[int, int], length: int) -> Pcm:
    """Silence with tones at (start, end)."""
    pcm = np.zeros(length, np.int16)
    for start, end in parts:
        pcm[start:end] = tone(end - start)
    return pcm


def track(pcm: Pcm, size: int = 320, threshold_db: float = HEARD_DB) -> SpeechTrack:
    made = SpeechTrack(threshold_db)
    for at in range(0, pcm.size, size):
        made.push(pcm[at : at + size])
    return made


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(6401, 12000), st.integers(161, 9000)), min_size=1, max_size=4),
    st.integers(7, 4000),
)
def test_stretches_of_speech_are_exact_whatever_the_frames(
    parts: list[tuple[int, int]], size: int
) -> None:
    spans, at = [], 0
    for gap, length in parts:
        spans.append(Span(at + gap, at + gap + length))
        at += gap + length
    pcm = signal(*((s.start, s.end) for s in spans), length=at + 777)
    made = track(pcm, size)
    assert made.spans() == spans
    assert made.silence() == 777
    assert made.position == pcm.size


def test_a_pause_within_speech_does_not_part_it_and_a_click_is_no_speech() -> None:
    pcm = signal((1000, 2000), (2000 + 6300, 9000), (30_000, 30_100), length=40_000)
    made = track(pcm)
    assert made.spans() == [Span(1000, 9000)]
    assert made.silence() == 31_000
    assert made.at(5000) == Span(1000, 9000)
    assert made.at(1000) is None
    assert made.at(9000) is None
    assert made.at(30_050) is None


def test_a_cut_parts_speech_without_a_pause() -> None:
    made = track(tone(3200))
    made.cut()
    made.push(tone(3200))
    assert made.spans() == [Span(0, 3200), Span(3200, 6400)]
    assert made.spans(since=1) == [Span(3200, 6400)]


@pytest.mark.parametrize(("threshold", "level"), [(SENT_DB, 327), (HEARD_DB, 184)])
def test_the_threshold_is_the_level_stated(threshold: float, level: int) -> None:
    assert track(tone(1000, level), threshold_db=threshold).spans() == []
    assert track(tone(1000, level + 1), threshold_db=threshold).spans() == [Span(0, 1000)]
    lowest = np.full(1000, -32768, np.int16)
    assert track(lowest, threshold_db=threshold).spans() == [Span(0, 1000)]


def test_latency_runs_from_the_last_sample_sent_to_the_first_heard() -> None:
    own = Span(16_000, 32_000)
    reply = Span(31_999 + 8000, 60_000)
    assert answer_latency(own, reply) == 0.5
    assert answer_latency(own, Span(31_000, 60_000)) is None


def test_what_the_agent_said_before_or_dropped_is_no_answer() -> None:
    own = Span(16_000, 32_000)
    before, dropped, answer = Span(1000, 40_000), Span(20_000, 30_000), Span(41_000, 50_000)
    assert reply_to(own, [before, dropped, answer]) == answer
    assert reply_to(own, [before, dropped]) is None
    early = Span(31_000, 50_000)
    assert reply_to(own, [dropped, early]) == early


def test_the_stop_runs_from_the_first_sample_sent_to_the_last_of_the_speech() -> None:
    assert barge_in_stop(Span(16_000, 32_000), Span(1000, 19_200)) == 0.2
    assert barge_in_stop(Span(16_000, 32_000), None) is None


def test_statistics_are_in_the_words_of_the_benchmarks() -> None:
    made = stats([float(n) for n in range(1, 101)], "ms")
    assert (made.n, made.unit, made.p50, made.mean) == (100, "ms", 50.5, 50.5)
    assert made.p95 == pytest.approx(95.05)
    assert made.p99 == pytest.approx(99.01)
    with pytest.raises(ValueError, match="no values"):
        stats([], "ms")
