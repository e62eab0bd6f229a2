# SPDX-License-Identifier: Apache-2.0
"""Rollouts in stages, as the pure functions that they are; and what a bundle holds."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from ruamel.yaml import YAML

from cloud_hub.fleet.bundles import AgentText, agent_yaml, document
from cloud_hub.fleet.rollout import Plan, Target, staged, step

BOXES = [UUID(int=number) for number in range(1, 11)]


def targets(plan: Plan, **status: str) -> list[Target]:
    """Return all boxes waiting, but those named `b1`, `b2`, ..."""
    stages = staged(BOXES, plan)
    return [Target(box, stages[box], status.get(f"b{box.int}", "waiting")) for box in BOXES]


def test_the_first_stage_alone_is_offered_first() -> None:
    plan = Plan(stages=(20, 50, 100))
    assert step(targets(plan), plan).offer == tuple(BOXES[:2])


def test_the_next_stage_waits_for_the_last_box_of_the_one_before() -> None:
    plan = Plan(stages=(20, 50, 100))
    assert step(targets(plan, b1="applied", b2="offered"), plan).offer == ()
    assert step(targets(plan, b1="applied", b2="applied"), plan).offer == tuple(BOXES[2:5])


def test_patience_lets_a_box_that_is_away_hold_nobody_up() -> None:
    plan = Plan(stages=(20, 100), patience=50)
    assert step(targets(plan, b1="applied", b2="offered"), plan).offer == tuple(BOXES[2:])


def test_a_failure_halts_and_nobody_else_is_offered_anything() -> None:
    plan = Plan(stages=(20, 100))
    decided = step(targets(plan, b1="applied", b2="rolled_back"), plan)
    assert (decided.status, decided.offer) == ("halted", ())
    assert "1 box" in decided.reason


def test_it_is_done_when_all_have_it_and_not_before() -> None:
    plan = Plan(halt_after=2)
    every = {f"b{number}": "applied" for number in range(1, 11)}
    assert step(targets(plan, **every), plan).status == "done"
    assert step(targets(plan, **{**every, "b3": "offered"}), plan).status == "rolling_out"
    assert step(targets(plan, **{**every, "b3": "refused"}), plan).status == "done"


@pytest.mark.parametrize("stages", [(), (50,), (100, 100), (50, 20, 100), (0, 100)])
def test_stages_that_do_not_rise_to_all_are_refused(stages: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError):
        Plan(stages=stages)


@settings(deadline=None)
@given(
    st.integers(0, 40),
    st.sets(st.integers(1, 99), max_size=5),
    st.integers(1, 5),
    st.data(),
)
def test_every_rollout_ends_and_offers_each_box_once_at_most(
    count: int, percents: set[int], halt_after: int, data: st.DataObject
) -> None:
    plan = Plan(stages=(*sorted(percents), 100), halt_after=halt_after)
    boxes = [uuid4() for _ in range(count)]
    stages = staged(boxes, plan)
    assert set(stages) == set(boxes)
    status = dict.fromkeys(boxes, "waiting")
    for _ in range(2 * len(plan.stages) + 2 * count + 2):
        now = [Target(box, stages[box], status[box]) for box in boxes]
        decided = step(now, plan)
        if decided.status != "rolling_out":
            break
        for box in decided.offer:
            assert status[box] == "waiting"
            status[box] = "offered"
        for box in boxes:
            if status[box] == "offered":
                status[box] = data.draw(st.sampled_from(["applied", "refused", "rolled_back"]))
    failed = sum(each in {"refused", "rolled_back"} for each in status.values())
    assert decided.status == ("halted" if failed >= halt_after else "done")
    if decided.status == "done":
        assert "waiting" not in status.values()


def test_an_agents_content_is_sent_as_a_file_that_reads_back_the_same() -> None:
    content = {"version": 1, "name": "desk", "prompt": 'Say: "hi" - or:\nno # not', "x": ["1", 1]}
    assert YAML(typ="safe").load(agent_yaml(content)) == content
    assert agent_yaml({"yaml": "a: 1\n"}) == "a: 1\n"
    assert document(AgentText(uuid4(), "desk", 3, content)).version == "3"
    with pytest.raises(ValidationError):
        document(AgentText(uuid4(), "Front Desk", 1, content))
