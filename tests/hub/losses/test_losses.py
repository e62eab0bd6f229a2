# SPDX-License-Identifier: Apache-2.0
"""A real hub and ten real boxes: whatever happens to them, every row arrives once, in order, as it was.

One hub and the same boxes serve all tests of this file: each adds its rows, and all rows are counted again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio

from tests.hub.losses import witness
from tests.hub.losses.hub import wait_for
from tests.hub.losses.proxy import State
from tests.hub.losses.world import (
    VICTIMS,
    Scale,
    Victim,
    World,
    killing,
    running,
    under_fire,
)
from tests.hub.servers import folder_for_server

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

SECONDS = 9.0
EVERY = 2.5
SETTLED_S = 120.0
TEN_YEARS_S = 10 * 365.25 * 86400


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    scale = Scale(boxes=10, processes=2, rate=100, patience=0.2, reconnect_max_s=2.0)
    with folder_for_server("losses") as folder:
        async with running(folder, scale) as world:
            yield world


async def assert_nothing_is_lost(world: World, before: int) -> None:
    await world.settle(SETTLED_S)
    verdict = await world.count()
    assert verdict.clean, verdict
    assert verdict.rows > before + 100


@pytest.mark.parametrize("victim", VICTIMS)
async def test_with_one_part_killed_again_and_again_every_row_arrives_once(
    world: World, victim: Victim
) -> None:
    before, kills = world.written(), world.kills[victim]
    await under_fire(world, killing(world, [victim] * 3), SECONDS, EVERY)
    assert world.kills[victim] == kills + 3
    await assert_nothing_is_lost(world, before)


async def test_with_all_parts_killed_in_turn_every_row_arrives_once(world: World) -> None:
    before = world.written()
    await under_fire(world, killing(world, VICTIMS), 2 * len(VICTIMS) + 3, 2.0)
    await assert_nothing_is_lost(world, before)


async def test_a_network_that_cuts_stalls_swallows_and_delays_loses_nothing(world: World) -> None:
    before = world.written()
    states: list[State] = ["cut", "good", "still", "good", "deaf", "good", "mute", "slow", "good"]
    blows = [lambda state=state: world.network.become(state) for state in states]
    await under_fire(world, blows, 1.5 * (len(states) + 1), 1.5)
    assert world.network.swallowed
    await assert_nothing_is_lost(world, before)


async def test_messages_that_boxes_send_again_and_out_of_order_are_applied_once_and_in_order(
    world: World,
) -> None:
    before = world.written()
    await world.boxes_as(repeat=True)
    await under_fire(world, [], 6, 6)
    await assert_nothing_is_lost(world, before)
    await world.boxes_as(repeat=False)


async def test_while_the_boxes_disks_are_full_facts_wait_and_none_is_lost(world: World) -> None:
    before = world.written()

    async def fill() -> None:
        world.fill_disks()

    async def free() -> None:
        world.free_disks()

    await under_fire(world, [fill, free], 7.5, 2.5)
    await assert_nothing_is_lost(world, before)


async def test_while_the_hubs_database_takes_no_writes_boxes_keep_everything(world: World) -> None:
    before = world.written()

    async def refuse() -> None:
        await world.hub.query("ALTER SYSTEM SET default_transaction_read_only = on")
        await world.hub.query("SELECT pg_reload_conf()")

    async def take() -> None:
        await world.hub.query("ALTER SYSTEM RESET default_transaction_read_only")
        await world.hub.query("SELECT pg_reload_conf()")

    await under_fire(world, [refuse, take], 7.5, 2.5)
    await assert_nothing_is_lost(world, before)


async def test_a_hub_whose_disk_is_full_goes_on_when_there_is_room(world: World) -> None:
    before, postmaster = world.written(), world.hub.pid("postgres")

    async def fill() -> None:
        world.hub.fill_log_volume()

    async def another() -> bool:
        return world.hub.pid("postgres") not in {None, postmaster}

    await under_fire(world, [fill], 5, 3)
    await wait_for(another, "the database to fail and to be started again", 60)
    await assert_nothing_is_lost(world, before)


async def test_with_the_boxes_clocks_ten_years_off_every_row_arrives_once(world: World) -> None:
    for off in (TEN_YEARS_S, -TEN_YEARS_S):
        before = world.written()
        await world.boxes_as(clock_off_s=off)
        await under_fire(world, [], 4, 4)
        await assert_nothing_is_lost(world, before)


@pytest.mark.parametrize(
    ("tampering", "wrong"),
    [
        (
            "DELETE FROM turns WHERE (call_id, seq) = (SELECT call_id, seq FROM turns LIMIT 1)",
            "missing",
        ),
        (
            "UPDATE usage SET quantity = quantity + 1 WHERE id = (SELECT id FROM usage LIMIT 1)",
            "changed",
        ),
        (
            "INSERT INTO call_events (organization_id, call_id, seq, t_ms, kind)"  # noqa: ISC004
            " SELECT organization_id, call_id, 999, t_ms, kind FROM call_events LIMIT 1",
            "invented",
        ),
        (
            "INSERT INTO call_events SELECT * FROM call_events LIMIT 1 ON CONFLICT DO NOTHING",
            "twice",
        ),
        ("UPDATE witness.offered SET n = -n", "disordered"),
        ("UPDATE stream_positions SET applied_seq = applied_seq + 1", "invented"),
    ],
    ids=["removed", "changed", "added", "offered again", "reversed", "counted too far"],
)
async def test_the_count_sees_what_somebody_changed(
    world: World, tampering: str, wrong: str
) -> None:
    """Otherwise the zeros above would prove nothing."""
    if not world.written():
        await under_fire(world, [], 3, 3)
    await world.settle(SETTLED_S)
    with psycopg.connect(world.hub.administrator) as connection:
        connection.execute(tampering.encode())
        verdict = witness.compare(connection, world.boxes)
        connection.rollback()
    assert verdict.wrongs()[wrong]
