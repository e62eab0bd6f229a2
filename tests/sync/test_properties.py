# SPDX-License-Identifier: Apache-2.0
"""Whatever goes wrong, in whatever order: nothing lost, nothing twice, order kept."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.sync.outbox import Outbox
from appliance.wire import Batch, Row, Verdict, judge, new_id
from tests.sync.world import KEEP_S, LIMITS, STREAM, World

FAULTS = (
    "lose up",
    "lose down",
    "repeat up",
    "repeat down",
    "crash box",
    "crash hub before commit",
    "crash hub after commit",
    "restore hub",
    "restore box",
    "reset box",
    "cut",
    "cut and lose",
    "box disk full",
    "box disk free",
    "hub disk full",
    "hub disk free",
)
WORK = (
    *("write", "send", "deliver", "answer", "flow") * 5,
    *("wait", "connect") * 3,
    *("tidy", "back up") * 2,
)
STEPS = st.lists(
    st.tuples(st.sampled_from(WORK + FAULTS), st.integers(0, 9)), min_size=5, max_size=120
)


def step(world: World, what: str, number: int) -> None:
    """Let one thing happen. `number` says how much of it, or to which message."""
    ups, downs = len(world.up), len(world.down)
    match what:
        case "write":
            world.write(number + 1)
        case "send":
            world.send(number + 1)
        case "deliver" | "crash hub before commit" | "crash hub after commit" if ups:
            # number 0 to 6: in order; above: any of them first
            index = 0 if number < 7 else number % ups
            world.take_batch(
                index,
                crash=what.removeprefix("crash hub ").partition(" ")[0]
                if what != "deliver"
                else "",
            )
        case "answer" if downs:
            world.take_answer(0 if number < 7 else number % downs)
        case "lose up" if ups:
            world.up.pop(number % ups)
        case "lose down" if downs:
            world.down.pop(number % downs)
        case "repeat up" if ups:
            world.up.append(world.up[number % ups])
        case "repeat down" if downs:
            world.down.append(world.down[number % downs])
        case "flow":
            world.connect()
            for _ in range(number + 1):
                world.send(2)
                step(world, "deliver", 0)
                step(world, "answer", 0)
        case "wait":
            world.now += (0.1, 3, 20, 400, 3600, 86_400, KEEP_S / 8)[number % 7]
        case _:
            fault(world, what, number)


def fault(world: World, what: str, number: int) -> None:
    match what:
        case "connect":
            world.connect()
        case "cut":
            world.disconnect(lose=False)
        case "cut and lose":
            world.disconnect(lose=True)
        case "tidy":
            world.tidy()
        case "back up":
            world.back_up_hub() if number % 2 else world.back_up_box()
        case "crash box":
            world.start_box()
        case "restore hub":
            world.restore_hub()
        case "restore box":
            world.restore_box()
        case "reset box":
            world.reset_box()
        case "box disk full" | "box disk free":
            world.disk_full = what.endswith("full")
        case "hub disk full" | "hub disk free":
            world.hub_full = what.endswith("full")
        case _:
            pass


def check(world: World) -> None:
    """Compare what the box has with what the hub has."""
    numbers = [fact.number for fact in world.hub.facts]
    assert len(numbers) == len(set(numbers)), "applied twice"
    there = {(fact.epoch, fact.seq): fact.number for fact in world.hub.facts}
    for part in world.disk:
        for seq, number in part.rows.items():
            assert there.get((part.epoch, seq)) == number, "lost, or mistaken for another"
    assert world.hub.lost == []
    order = [fact for fact in world.hub.facts if fact.epoch in {p.epoch for p in world.disk}]
    for a, b in itertools.pairwise(order):
        assert a.number < b.number, "out of order"


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 2**16))
def test_nothing_is_lost_nothing_applied_twice_and_order_is_kept(
    steps: list[tuple[str, int]], seed: int
) -> None:
    world = World(seed)
    world.connect()
    for what, number in steps:
        step(world, what, number)
    world.heal()
    check(world)


@settings(max_examples=200, deadline=None)
@given(applied=st.integers(0, 30), first=st.integers(1, 30), rows=st.integers(0, 10))
def test_the_hub_applies_exactly_what_comes_next(applied: int, first: int, rows: int) -> None:
    batch = Batch(
        epoch=new_id(),
        stream="calls",
        first=first,
        rows=tuple(
            Row(seq=first + n, kind="x", at="2026-03-02T12:00:00.000Z", data={})
            for n in range(rows)
        ),
    )
    verdict = judge(batch, applied)
    assert [row.seq for row in verdict.rows] == [
        seq for seq in range(applied + 1, first + rows) if first <= applied + 1
    ]
    assert verdict.ack.seq == (verdict.rows[-1].seq if verdict.rows else applied)
    assert verdict.moves == bool(verdict.rows)


# -- the rules are needed: without any one of them the same faults do harm --------------------------


def harm(seeds: int) -> int:
    """Return how many of some random histories end badly."""
    bad = 0
    for seed in range(seeds):
        chance = random.Random(seed)
        world = World(seed)
        world.connect()
        try:
            for _ in range(chance.randrange(5, 150)):
                step(world, chance.choice(WORK + FAULTS), chance.randrange(10))
            world.heal()
            check(world)
        except (AssertionError, LookupError):
            bad += 1
    return bad


def one_epoch_for_ever(self: World) -> None:
    self.epoch = "019a0000-0000-7000-8000-000000000000"
    self.outbox = Outbox(self.disk, LIMITS, self.random.random, streams=(STREAM,))
    self.connected = False


def forget_what_is_acknowledged(self: World) -> None:
    for part in self.disk:
        for seq in range(part.floor, part.acked + 1):
            del part.rows[seq]
            part.floor = seq + 1
    self.disk = [p for p in self.disk if p.floor <= p.last or p.epoch == self.epoch]
    self.outbox.refresh(self.disk)


def without_the_chain_of_epochs(batch: Batch, applied: int, earlier: int) -> Verdict:
    return judge(batch.model_copy(update={"before": None}), applied, earlier)


def test_with_all_rules_random_histories_end_well() -> None:
    assert harm(150) == 0


@pytest.mark.parametrize(
    ("where", "broken"),
    [
        ("World.start_box", one_epoch_for_ever),
        ("World.tidy", forget_what_is_acknowledged),
        ("judge", without_the_chain_of_epochs),
    ],
)
def test_without_one_of_the_rules_they_do_not(
    monkeypatch: pytest.MonkeyPatch, where: str, broken: object
) -> None:
    monkeypatch.setattr(f"tests.sync.world.{where}", broken)
    assert harm(150) > 0
