# SPDX-License-Identifier: Apache-2.0
"""What a box takes on, by the latency it has."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from appliance.call.admission import FALL_S, RISE_S, Admission, Level


def answer(admission: Admission, since: float, until: float, latency_ms: float) -> list[Level]:
    """Answers ten times a second, all as slow as each other."""
    steps = int((until - since) * 10)
    return [admission.answered(since + i / 10, latency_ms) for i in range(steps)]


def test_fast_answers_change_nothing() -> None:
    assert set(answer(Admission(900), 0, 60, 500)) == {Level.NORMAL}


def test_slow_answers_take_speculation_then_length_then_new_calls() -> None:
    levels = answer(Admission(900), 0, 30, 2000)
    first = [levels.index(level) / 10 for level in Level]
    assert first == sorted(first)
    assert all(later - earlier >= RISE_S for earlier, later in itertools.pairwise(first[1:]))
    assert levels[-1] is Level.FULL


def test_the_way_back_is_a_step_at_a_time_and_slower() -> None:
    admission = Admission(900)
    answer(admission, 0, 30, 2000)
    levels = answer(admission, 30, 100, 300)
    changes = [
        (i / 10, level) for i, level in enumerate(levels) if i and level is not levels[i - 1]
    ]
    assert [level for _, level in changes] == [Level.BRIEF, Level.LEAN, Level.NORMAL]
    times = [at for at, _ in changes]
    assert all(later - earlier >= FALL_S for earlier, later in itertools.pairwise(times))


def test_just_below_the_target_nothing_moves() -> None:
    admission = Admission(900)
    while admission.level is not Level.LEAN:
        answer(admission, 0, 1, 2000)
    assert set(answer(admission, 40, 100, 850)) == {Level.LEAN}


def test_a_few_slow_answers_are_no_load() -> None:
    admission = Admission(900)
    for at in range(4):
        assert admission.answered(at, 9000) is Level.NORMAL


def test_one_slow_answer_in_forty_is_no_load() -> None:
    admission = Admission(900, window_s=1000)
    for at in range(400):
        assert admission.answered(at, 5000 if at % 40 == 39 else 400) is Level.NORMAL


def test_a_few_slow_answers_after_a_step_are_no_calm() -> None:
    admission = Admission(900)
    for at in range(5):
        admission.answered(at, 5000)
    assert admission.level is Level.LEAN
    for at in range(10, 60, 6):
        assert admission.answered(at, 5000) >= Level.LEAN


def test_a_box_whose_calls_have_all_ended_takes_calls_again() -> None:
    admission = Admission(900)
    answer(admission, 0, 30, 2000)
    assert admission.update(100) is Level.FULL
    assert admission.update(100 + FALL_S) is Level.BRIEF


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 10_000)), max_size=200))
def test_the_level_moves_one_step_at_a_time_and_never_faster_than_allowed(
    measured: list[tuple[float, float]],
) -> None:
    admission = Admission(900)
    now, moved, level = 0.0, -1e9, Level.NORMAL
    for wait, latency in measured:
        now += wait
        new = admission.answered(now, latency)
        assert abs(new - level) <= 1
        if new is not level:
            assert now - moved >= min(RISE_S, FALL_S)
            moved, level = now, new
