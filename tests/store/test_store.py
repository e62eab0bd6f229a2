# SPDX-License-Identifier: Apache-2.0
"""What the store keeps, returns and refuses."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from appliance.store import (
    Event,
    Reader,
    SlotTakenError,
    Store,
    StoreClosedError,
    StoreError,
    StoreLockedError,
    StoreVersionError,
    Usage,
)
from appliance.store.schema import MIGRATIONS

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Made:
    """An event as the call makes it."""

    seq: int
    t_ms: int
    kind: str
    data: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store.open(tmp_path / "data" / "box.db")
    yield store
    await store.aclose()


def begin(store: Store, call_id: str, **changes: Any) -> None:
    facts = {"agent": "desk", "caller": "sip:200@pbx", "called": "100", "started_at": NOON}
    store.begin_call(call_id, **{**facts, **changes})


async def test_a_call_is_kept_from_its_beginning_to_its_end(store: Store) -> None:
    begin(store, "c1", trunk="office", agent_version="abc", protocol_id="x@y")
    store.answer_call("c1", NOON + timedelta(seconds=2))
    await store.sync()
    going_on = store.call("c1")
    assert going_on is not None
    assert (going_on.ended_at, going_on.seconds, going_on.cause) == (None, None, "")

    ended = NOON + timedelta(seconds=32.5)
    store.end_call("c1", cause="remote_hangup", ended_at=ended, recording_path="/r/c1.wav")
    await store.sync()
    call = store.call("c1")
    assert call is not None
    assert (call.agent, call.agent_version, call.trunk, call.protocol_id, call.direction) == (
        "desk", "abc", "office", "x@y", "inbound",
    )  # fmt: skip
    assert (call.started_at, call.ended_at, call.seconds) == (NOON, ended, 30.5)
    assert (call.cause, call.recording_path) == ("remote_hangup", "/r/c1.wav")
    assert store.call("unknown") is None


async def test_a_call_that_was_never_answered_lasts_no_time(store: Store) -> None:
    begin(store, "c1")
    store.end_call("c1", cause="cancelled", ended_at=NOON + timedelta(seconds=9))
    await store.sync()
    call = store.call("c1")
    assert call is not None
    assert call.seconds == 0


async def test_events_come_back_in_order_with_their_data_as_it_was_when_appended(
    store: Store,
) -> None:
    begin(store, "c1")
    data = {"text": "Grüße, 10 €", "parts": {"a": 1}, "heard": [[1, "x"]], "none": None}
    store.append("c1", [Made(0, 0, "call.answered", {"codec": "PCMU"}), Made(1, 640, "x", data)])
    store.append("c1", [Made(2, 660, "state", {"from": "idle", "to": "listening"})])
    store.append("c2", [Made(0, 5, "other")])
    kept = {**data}
    data["text"] = "changed afterwards"
    await store.sync()
    assert store.events("c1") == [
        Event("c1", 0, 0, "call.answered", {"codec": "PCMU"}),
        Event("c1", 1, 640, "x", kept),
        Event("c1", 2, 660, "state", {"from": "idle", "to": "listening"}),
    ]
    assert store.events("unknown") == []


async def test_an_event_whose_data_is_not_json_is_refused_where_it_is_appended(
    store: Store,
) -> None:
    with pytest.raises(TypeError):
        store.append("c1", [Made(0, 0, "x", {"bad": object()})])
    store.append("c1", [Made(0, 0, "good")])
    await store.sync()
    assert [event.kind for event in store.events("c1")] == ["good"]


async def test_a_fact_that_the_schema_refuses_takes_no_other_fact_with_it(store: Store) -> None:
    store.append("c1", [Made(0, 0, "first")])
    store.append("c1", [Made(0, 0, "same sequence number again")])
    store.append("c1", [Made(1, 0, "second")])
    await store.sync()
    assert [event.kind for event in store.events("c1")] == ["first", "second"]


async def test_facts_are_committed_without_anybody_waiting_for_them(
    store: Store, tmp_path: Path
) -> None:
    store.append("c1", [Made(0, 0, "x")])
    with Reader(tmp_path / "data" / "box.db") as other:
        async with asyncio.timeout(5):
            while not other.events("c1"):  # noqa: ASYNC110 - another connection: nothing tells it
                await asyncio.sleep(0.01)


async def test_calls_are_listed_newest_first_and_filtered(store: Store) -> None:
    begin(store, "a")
    begin(store, "b", started_at=NOON + timedelta(minutes=1), agent="shop", caller="sip:31@x")
    begin(store, "c", started_at=NOON + timedelta(minutes=2), called="101")
    store.end_call("a", cause="busy", ended_at=NOON)
    await store.sync()

    def ids(**filters: Any) -> str:
        return "".join(call.id for call in store.calls(**filters))

    assert ids() == "cba"
    assert ids(limit=2) == "cb"
    assert ids(agent="shop") == "b"
    assert ids(caller="31@") == "b"
    assert ids(called="101") == "c"
    assert ids(cause="busy") == "a"
    assert ids(going_on=True) == "cb"
    assert ids(going_on=False) == "a"
    assert ids(since=NOON + timedelta(minutes=1)) == "cb"
    assert ids(until=NOON + timedelta(minutes=2), agent="desk") == "a"
    assert ids(agent="' OR 1 --") == ""


async def test_times_are_compared_as_moments_whatever_zone_they_come_in(store: Store) -> None:
    begin(store, "a", started_at=datetime(2026, 3, 2, 14, 0, tzinfo=timezone(timedelta(hours=2))))
    await store.sync()
    assert [call.started_at for call in store.calls(since=NOON, until=NOON + timedelta(1))] == [
        NOON
    ]
    with pytest.raises(ValueError, match="time zone"):
        begin(store, "b", started_at=datetime(2026, 3, 2, 14, 0))  # noqa: DTZ001


async def test_usage_adds_up_by_call_provider_kind_and_unit(store: Store) -> None:
    for quantity in (100, 20):
        store.record_usage("c", provider="llm", kind="prompt", unit="tokens", quantity=quantity)
    store.record_usage("c", provider="tts", kind="speech", unit="characters", quantity=7)
    store.record_usage("d", provider="llm", kind="prompt", unit="tokens", quantity=1)
    await store.sync()
    assert store.usage("c") == [
        Usage("c", "llm", "prompt", "tokens", 120),
        Usage("c", "tts", "speech", "characters", 7),
    ]
    for unit, quantity in (("minutes", 1), ("tokens", -1)):
        with pytest.raises(ValueError, match="cannot record"):
            store.record_usage("c", provider="x", kind="y", unit=unit, quantity=quantity)


async def book(store: Store, key: str, at: time = time(14, 30), **changes: Any) -> Any:
    facts = {"name": "Oliver", "on": date(2026, 3, 6), "call_id": "c1", "calendar": "desk"}
    return await store.book(**{**facts, "at": at, "idempotency_key": key, **changes})


async def test_an_appointment_is_entered_once_and_its_slot_refused_to_others(store: Store) -> None:
    booked = await book(store, "k1")
    assert (booked.name, booked.date, booked.time) == ("Oliver", date(2026, 3, 6), time(14, 30))
    assert await book(store, "k1") == booked
    with pytest.raises(SlotTakenError):
        await book(store, "k2", name="Emma")
    await book(store, "k3", calendar="another desk")
    await book(store, "k4", at=time(15, 0), name="Emma")
    assert [(a.calendar, a.time.hour, a.name) for a in store.appointments()] == [
        ("another desk", 14, "Oliver"),
        ("desk", 14, "Oliver"),
        ("desk", 15, "Emma"),
    ]
    assert len(store.appointments("desk")) == 2
    assert len(store.appointments(since=date(2026, 3, 6), until=date(2026, 3, 6))) == 3
    assert store.appointments(since=date(2026, 3, 7)) == []
    assert store.appointments(until=date(2026, 3, 5)) == []


async def test_of_many_who_want_one_slot_at_once_exactly_one_gets_it(store: Store) -> None:
    wishes = [book(store, f"k{n}", name=f"caller {n}") for n in range(20)]
    outcomes = await asyncio.gather(*wishes, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, SlotTakenError)]
    assert len(refused) == 19
    assert len(store.appointments()) == 1


async def test_calls_left_open_by_a_crash_end_with_their_last_event(tmp_path: Path) -> None:
    path = tmp_path / "box.db"
    store = Store.open(path)
    begin(store, "done")
    store.end_call("done", cause="remote_hangup", ended_at=NOON)
    begin(store, "talking")
    store.answer_call("talking", NOON + timedelta(seconds=3))
    store.append("talking", [Made(0, 0, "call.answered"), Made(1, 8250, "turn.committed")])
    begin(store, "ringing")
    await store.aclose()

    store = Store.open(path)
    assert await store.recover() == ["ringing", "talking"]
    assert await store.recover() == []
    talking, ringing = store.call("talking"), store.call("ringing")
    assert talking is not None
    assert ringing is not None
    assert (talking.cause, talking.ended_at) == ("crashed", NOON + timedelta(seconds=11.25))
    assert (ringing.cause, ringing.ended_at) == ("crashed", NOON)
    last = store.events("talking")[-1]
    assert (last.seq, last.t_ms, last.kind, last.data) == (
        2,
        8250,
        "call.ended",
        {"cause": "crashed"},
    )
    done = store.call("done")
    assert done is not None
    assert done.cause == "remote_hangup"
    await store.aclose()


async def test_a_second_box_is_told_which_process_holds_the_store(store: Store) -> None:
    with pytest.raises(StoreLockedError, match=r"in use by another box \(process \d+\)"):
        Store.open(store.path)
    await store.aclose()
    again = Store.open(store.path)
    await again.aclose()


async def test_a_closed_store_says_so(store: Store) -> None:
    store.append("c1", [Made(0, 0, "x")])
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreClosedError):
        store.append("c1", [Made(1, 0, "y")])
    with pytest.raises(StoreClosedError):
        await store.sync()
    assert len(store.events("c1")) == 1


async def test_a_store_of_a_newer_version_is_left_alone(store: Store) -> None:
    await store.aclose()
    connection = sqlite3.connect(store.path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    before = store.path.read_bytes()
    with pytest.raises(StoreVersionError, match="newer"):
        Store.open(store.path)
    assert store.path.read_bytes() == before


async def test_the_file_is_durable_and_private(store: Store) -> None:
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store.path.stat().st_mode & 0o777 == 0o600


def test_reading_a_store_that_does_not_exist_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no store at .*box.db"):
        Reader(tmp_path / "box.db")


def test_a_reader_names_a_file_that_is_no_store_and_cannot_change_one_that_is(
    tmp_path: Path,
) -> None:
    path = tmp_path / "box.db"
    path.write_text("a letter, not a database\n" * 100)
    with pytest.raises(StoreError, match="is damaged"):
        Reader(path)
    path.unlink()
    Store.open(path).close()
    with Reader(path) as reader, pytest.raises(StoreError, match="readonly"):
        reader._rows("DELETE FROM calls RETURNING id", [])
