# SPDX-License-Identifier: Apache-2.0
"""What the store writes down for the hub, how long it stays, and what goes first when there is no room."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.store import Event, Reader, Store, StoreFullError, Upkeep, writer
from appliance.store.schema import MIGRATIONS
from tests.store.full_disk import disk

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
LATER = datetime.now(UTC) + timedelta(days=1)
ROOM = Upkeep(keep=timedelta(days=7), gap=timedelta(days=20_000))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store.open(tmp_path / "box.db", outbox=True)
    yield store
    await store.aclose()


def events(call_id: str, count: int, size: int = 10) -> list[Event]:
    return [Event(call_id, seq, seq * 20, "x", {"text": "y" * size}) for seq in range(count)]


def rows(store: Reader, stream: str = "calls") -> list[tuple[int, str, dict[str, Any]]]:
    """All rows of a stream, oldest epoch first, as (seq, kind, data)."""
    return [
        (seq, kind, json.loads(data))
        for part in store.outbox_parts()
        if part.stream == stream
        for seq, kind, _, data in store.outbox_rows(
            stream, part.epoch, part.floor, most=100_000, max_bytes=2**30
        )
    ]


def kinds(store: Reader, stream: str = "calls") -> list[str]:
    return [kind for _, kind, _ in rows(store, stream)]


async def test_every_fact_of_a_call_is_written_once_and_in_order(store: Store) -> None:
    store.begin_call("c1", agent="desk", started_at=NOON, recording_path="/r/c1.wav")
    store.answer_call("c1", NOON)
    said = {"text": "a table, please"}
    store.append("c1", [Event("c1", 0, 900, "turn.committed", said)])
    store.record_usage("c1", provider="llm", kind="prompt", unit="tokens", quantity=7)
    await store.book(name="E", on=date(2026, 3, 6), at=time(9), call_id="c1", idempotency_key="k")
    await store.book(name="E", on=date(2026, 3, 6), at=time(9), call_id="c1", idempotency_key="k")
    store.end_call("c1", cause="caller", ended_at=NOON)
    store.end_call("c1", cause="caller", ended_at=NOON, recording_path="s3://b/c1.wav")
    store.report("fleet", "health", {"calls": 0})
    await store.sync()
    assert kinds(store) == [
        *("call.began", "call.answered", "call.event", "usage", "booking"),
        *("call.turn", "call.ended", "call.recording"),
    ]
    assert [seq for seq, _, _ in rows(store)] == list(range(1, 9))
    assert kinds(store, "fleet") == ["health"]
    data = {kind: data for _, kind, data in rows(store)}
    assert data["call.event"] == {
        "call_id": "c1",
        "seq": 0,
        "t_ms": 900,
        "kind": "turn.committed",
        "data": said,
    }
    assert data["call.turn"]["text"] == "a table, please"
    assert data["call.ended"]["recording"] is True
    assert "recording_path" not in data["call.began"]


async def test_a_box_without_a_hub_writes_nothing_for_one(tmp_path: Path) -> None:
    with Store.open(tmp_path / "box.db") as store:
        store.append("c1", events("c1", 3))
        await store.sync()
        assert store.outbox_parts() == []


async def test_each_life_of_the_program_numbers_under_its_own_epoch(tmp_path: Path) -> None:
    for _ in range(3):
        with Store.open(tmp_path / "box.db", outbox=True) as store:
            store.report("fleet", "health", {})
            await store.sync()
    with Store.open(tmp_path / "box.db", outbox=True) as store:
        parts = store.outbox_parts()
        assert [part.last for part in parts] == [1, 1, 1]
        assert len({part.epoch for part in parts}) == 3


async def test_what_was_reported_a_moment_before_another_hub_took_over_stays_the_former_ones(
    store: Store,
) -> None:
    first, second = "019a0000-0000-7000-8000-000000000001", "019a0000-0000-7000-8000-000000000002"
    store.append("c0", events("c0", 1))  # for nobody yet: the first hub's
    await store.own_outbox(first)
    store.append("c1", events("c1", 3))  # in one transaction with what follows
    assert await store.own_outbox(second) == 4
    store.append("c2", events("c2", 2))
    await store.sync()
    assert [part.last for part in store.outbox_parts(first)] == [4]
    assert [part.last for part in store.outbox_parts(second)] == [2]
    assert [data["call_id"] for _, _, data in rows(store)] == ["c0", *["c1"] * 3, *["c2"] * 2]


async def test_a_fact_that_is_refused_leaves_no_row_and_no_gap(store: Store) -> None:
    store.append("c1", events("c1", 1))
    store.append("c1", events("c1", 1))  # the same number again
    store.append("c2", events("c2", 2))
    await store.sync()
    assert [(seq, data["call_id"]) for seq, _, data in rows(store)] == [
        *((1, "c1"), (2, "c2"), (3, "c2")),
    ]


async def test_facts_that_waited_for_a_full_disk_are_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RETRY_SECONDS", 0.05)
    with disk("file size limit", tmp_path / "disk") as full:
        store = Store.open(full.folder / "box.db", outbox=True)
        await store.sync()
        full.fill()
        for event in events("c1", 100, size=2000):
            store.append("c1", [event])
        with pytest.raises(StoreFullError):
            await store.sync()
        full.free()
        await store.aclose()
        with Reader(store.path) as reader:
            assert [data["seq"] for _, _, data in rows(reader)] == list(range(100))
            assert [event.seq for event in reader.events("c1")] == list(range(100))


async def test_a_call_that_a_crash_cut_off_is_reported_as_ended(tmp_path: Path) -> None:
    path = tmp_path / "box.db"
    with Store.open(path, outbox=True) as store:
        store.begin_call("c1", agent="desk", started_at=NOON)
        store.append("c1", [Event("c1", 0, 900, "turn.committed", {"text": "hello"})])
        await store.sync()
    with Store.open(path, outbox=True) as store:
        await store.recover()
        assert kinds(store)[2:] == ["call.event", "call.turn", "call.ended"]
        assert rows(store)[-1][2]["cause"] == "crashed"


async def test_an_end_is_reported_even_when_no_transcript_can_be_read(store: Store) -> None:
    store.begin_call("c1", agent="desk", started_at=NOON)
    store.append("c1", [Event("c1", 0, 900, "turn.committed", {})])
    store.end_call("c1", cause="caller", ended_at=NOON)
    await store.sync()
    assert kinds(store)[-1] == "call.ended"


async def test_a_fact_too_large_for_a_message_is_replaced_by_a_row_that_says_so(
    store: Store,
) -> None:
    store.append("c1", events("c1", 1, size=2**20))
    await store.sync()
    (_, kind, data), *_ = rows(store)
    assert (kind, data["kind"]) == ("dropped", "call.event")
    assert data["size"] > 2**20
    assert len(store.events("c1")[0].data["text"]) == 2**20  # the box itself keeps it


async def test_a_store_from_before_the_outbox_is_brought_up_with_all_it_holds(
    tmp_path: Path,
) -> None:
    path = tmp_path / "box.db"
    with closing(sqlite3.connect(path)) as old:
        for statement in MIGRATIONS[0]:
            old.execute(statement)
        old.execute("INSERT INTO events VALUES ('c0', 0, 0, 'x', '{}')")
        old.execute("PRAGMA user_version = 1")
        old.commit()
    with Store.open(path, outbox=True) as store:
        store.append("c1", events("c1", 1))
        await store.sync()
        assert [event.seq for event in store.events("c0")] == [0]
        assert [data["call_id"] for _, _, data in rows(store)] == ["c1"]


# -- how long rows stay ------------------------------------------------------------------------------


async def acknowledge(store: Store, seq: int) -> None:
    await store.sync()
    store.acknowledged("calls", store.outbox_parts()[-1].epoch, seq)
    await store.sync()


def tidy(store: Store, upkeep: Upkeep, now: datetime) -> int:
    """Run the upkeep to its end; return how many steps it took."""
    steps = 1
    while store.tidy_outbox(upkeep, now):
        steps += 1
    return steps


async def test_acknowledged_rows_stay_seven_days_and_others_for_ever(store: Store) -> None:
    store.append("c1", events("c1", 2500))
    await acknowledge(store, 2300)
    tidy(store, ROOM, LATER)
    tidy(store, ROOM, LATER + timedelta(days=6.9))
    assert len(rows(store)) == 2500
    assert tidy(store, ROOM, LATER + timedelta(days=7)) == 4  # each step a thousand rows at most
    assert [seq for seq, _, _ in rows(store)] == list(range(2301, 2501))
    tidy(store, ROOM, LATER + timedelta(days=10_000))
    assert store.outbox_parts()[0].floor == 2301
    store.append("c2", events("c2", 1))
    await store.sync()
    assert rows(store)[-1][0] == 2501


@pytest.mark.parametrize("jump", [timedelta(days=3650), timedelta(days=-3650), timedelta(days=30)])
async def test_a_clock_that_jumps_makes_no_row_older(store: Store, jump: timedelta) -> None:
    upkeep = Upkeep(keep=timedelta(days=7))
    store.append("c1", events("c1", 10))
    await acknowledge(store, 10)
    tidy(store, upkeep, LATER)
    for hours in range(7 * 24):
        tidy(store, upkeep, LATER + jump + timedelta(hours=hours))
        assert len(rows(store)) == 10 or hours >= 7 * 24 - 1
    tidy(store, upkeep, LATER + jump + timedelta(days=7, hours=1))
    assert rows(store) == []


async def test_what_a_restored_hub_lacks_is_not_deleted(store: Store) -> None:
    store.append("c1", events("c1", 10))
    await acknowledge(store, 10)
    tidy(store, ROOM, LATER)
    await acknowledge(store, 4)
    tidy(store, ROOM, LATER + timedelta(days=8))
    assert store.outbox_parts()[0].acked == 4
    assert len(rows(store)) == 10
    tidy(store, ROOM, LATER + timedelta(days=15))
    assert [seq for seq, _, _ in rows(store)] == list(range(5, 11))


async def test_an_empty_epoch_of_a_former_life_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "box.db"
    with Store.open(path, outbox=True) as store:
        store.append("c1", events("c1", 3))
        await store.sync()
        await acknowledge(store, 3)
    with Store.open(path, outbox=True) as store:
        tidy(store, ROOM, LATER)
        assert len(store.outbox_parts()) == 1
        tidy(store, ROOM, LATER + timedelta(days=7))
        assert store.outbox_parts() == []


# -- too many ----------------------------------------------------------------------------------------


async def test_out_of_room_acknowledged_rows_go_first(store: Store) -> None:
    store.append("c1", events("c1", 2000, size=500))
    await acknowledge(store, 1500)
    tidy(store, Upkeep(max_bytes=800_000), LATER)
    (part,) = store.outbox_parts()
    assert part.floor == 1001  # a step was enough
    assert part.bytes <= 800_000
    assert "dropped" not in kinds(store)


async def test_then_the_oldest_events_and_each_says_so_but_nothing_else_ever(
    store: Store,
) -> None:
    store.begin_call("c1", agent="desk", started_at=NOON)
    store.record_usage("c1", provider="llm", kind="prompt", unit="tokens", quantity=7)
    store.append("c1", events("c1", 3000, size=500))
    store.end_call("c1", cause="caller", ended_at=NOON)
    await store.sync()
    before = store.outbox_parts()[0]
    tidy(store, Upkeep(max_bytes=before.bytes - 200_000), LATER)
    (part,) = store.outbox_parts()
    assert part.bytes <= before.bytes - 200_000
    assert (part.floor, part.last) == (1, before.last)
    found = rows(store)
    assert [seq for seq, _, _ in found] == list(range(1, part.last + 1))
    thinned = [seq for seq, kind, _ in found if kind == "dropped"]
    assert thinned == list(range(3, 1001))
    assert found[2][2]["kind"] == "call.event"

    tidy(store, Upkeep(max_bytes=0), LATER)  # no bound can be kept: what matters stays
    left = [kind for kind in kinds(store) if kind != "dropped"]
    assert left == ["call.began", "usage", "call.ended"]
    assert len(store.events("c1")) == 3000
