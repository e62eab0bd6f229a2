# SPDX-License-Identifier: Apache-2.0
"""The search for the highest load, and the judgement of a step: pure."""

import math

import pytest

from appliance.caller.open_loop import Heard
from appliance.capacity.ramp import Ramp
from appliance.capacity.run import Step, bound_by, judge
from appliance.capacity.stages import StageTimes, binding, stage_times


def search(limit: int, most: int = 250) -> tuple[Ramp, list[int]]:
    """Run a search on a machine that holds `limit` calls; return it and what it tried."""
    ramp, tried = Ramp(most), []
    while (load := ramp.next_load()) is not None:
        tried.append(load)
        ramp.add(load, held=load <= limit)
    return ramp, tried


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 11, 40, 100])
def test_the_search_finds_the_limit_to_one_call_in_eight(limit: int) -> None:
    ramp, tried = search(limit)
    assert ramp.held <= limit
    assert limit - ramp.held <= max(1, limit // 8)
    assert len(tried) <= 12
    assert len(set(tried)) == len(tried)


def test_a_machine_that_holds_nothing_is_tried_once() -> None:
    ramp, tried = search(0)
    assert (ramp.held, tried) == (0, [1])


def test_the_search_never_tries_more_than_the_line_holds() -> None:
    ramp, tried = search(250, most=6)
    assert ramp.held == 6
    assert max(tried) == 6


def answer(**parts: float) -> dict[str, object]:
    return {"total": sum(parts.values()), "parts": parts}


def test_the_stage_that_grew_most_with_the_load_binds() -> None:
    light = stage_times([{"recognition_wait": 10, "first_text": 30, "first_clause": 20}])
    heavy = stage_times([{"recognition_wait": 60, "first_text": 400, "first_clause": 300}])
    assert heavy.p95_ms["model"] == 700
    assert binding(light, heavy) == "model"


def test_no_stage_binds_when_nothing_grew() -> None:
    same = stage_times([{"synthesis": 40.0}])
    assert binding(same, same) == ""
    assert binding(same, StageTimes({})) == ""


def test_what_the_caller_waits_beyond_the_box_is_the_medias() -> None:
    heard = [Heard(latencies_s=[0.9], missed=[False], seconds=40)]
    step = judge(1, heard, [answer(end_of_turn=300, synthesis=100)], 0.5, 100, 950)
    assert step.held
    assert step.stages.p95_ms["media"] == pytest.approx(500)


@pytest.mark.parametrize(
    "heard",
    [
        Heard(latencies_s=[1.2], missed=[False]),
        Heard(latencies_s=[0.5], missed=[False, True]),
        Heard(latencies_s=[0.5], missed=[False], failed=True),
        Heard(),
    ],
    ids=["too slow", "a question without an answer", "a call that was refused", "nothing heard"],
)
def test_a_load_is_not_held_when(heard: Heard) -> None:
    step = judge(1, [heard], [], 0.5, 100, 900)
    assert not step.held
    assert math.isnan(step.p95_ms) == (not heard.latencies_s)


def step_of(calls: int, *, held: bool, **stages: float) -> Step:
    return Step(calls, (400, 500), 400, 500, 0, 0, 0.5, 100, StageTimes(stages), held)


def test_what_ends_the_search_is_named() -> None:
    light = step_of(1, held=True, recognition=300, model=10)
    heavy = step_of(2, held=False, recognition=400, model=800)
    ramp = Ramp(most=8)
    ramp.add(1, held=True)
    assert bound_by([light], ramp, 8, unfinished=True) == "time"
    ramp.add(2, held=False)
    assert bound_by([light, heavy], ramp, 8, unfinished=False) == "model"
    full = Ramp(most=1)
    full.add(1, held=True)
    assert bound_by([light], full, 1, unfinished=False) == "phone line"
    assert bound_by([light], full, 8, unfinished=False) == "most"


def test_where_one_call_is_too_much_the_longest_stage_binds() -> None:
    ramp = Ramp(most=8)
    ramp.add(1, held=False)
    alone = step_of(1, held=False, recognition=1400, model=1000)
    assert bound_by([alone], ramp, 8, unfinished=False) == "recognition"
