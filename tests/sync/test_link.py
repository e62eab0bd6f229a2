# SPDX-License-Identifier: Apache-2.0
"""The real link: the box's store, paho over MQTT, a real NATS server, and a small hub."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.store import Event, Store, Upkeep
from appliance.sync import link as link_module
from appliance.wire import Desired, Presence, new_id, topics
from tests.hub.servers import Nats
from tests.sync.lab import BOX, linked, start_again, until
from tests.sync.small_hub import SmallHub

_seq = itertools.count()


def talk(store: Store, events: int) -> None:
    """Report events of one call; their numbers rise over the whole test."""
    for _ in range(events):
        seq = next(_seq)
        store.append("c1", [Event("c1", seq, seq * 20, "x", {"text": "word " * 5})])


def told(hub: SmallHub, store: Store) -> bool:
    return [fact["seq"] for fact in hub.facts()] == [event.seq for event in store.events("c1")]


async def test_a_call_reaches_the_hub_whole_and_in_order(
    store: Store, nats: Nats, hub: SmallHub
) -> None:
    call, noon = new_id(), datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
    async with hub.running(), linked(store, nats) as link:
        store.begin_call(call, agent="desk", started_at=noon, caller="sip:200@pbx")
        store.answer_call(call, noon)
        heard = {"text": "book a table"}
        store.append(call, [Event(call, 0, 900, "turn.committed", heard)])
        store.record_usage(call, provider="asr", kind="speech", unit="seconds", quantity=3)
        store.end_call(call, cause="caller", ended_at=noon)
        await until(lambda: hub.facts("call.ended"), "the call ended at the hub")
        await until(lambda: link.state().waiting_rows == 0, "the box knows that the hub has it")
        assert link.state().connected
        assert not link.state().fault
    with contextlib.closing(hub.database()) as db:
        kinds = [row[0] for row in db.execute("SELECT kind FROM facts ORDER BY id")]
    assert kinds == [
        *("call.began", "call.answered", "call.event", "usage", "call.turn", "call.ended"),
    ]
    assert hub.facts("call.turn")[0]["text"] == "book a table"
    assert hub.facts("usage")[0]["quantity"] == 3


async def test_the_hub_sees_the_box_come_and_go(store: Store, nats: Nats, hub: SmallHub) -> None:
    async with hub.running():
        async with linked(store, nats, software="trunkline 1"):
            await until(lambda: hub.presence, "the hub hears of the box")
        await until(lambda: len(hub.presence) == 2, "the hub hears that it went")
    here, gone = (Presence.decode(message) for message in hub.presence)
    assert (here.online, gone.online) == (True, False)
    assert here.session == gone.session
    assert here.software == "trunkline 1"


async def test_what_the_hub_sends_reaches_its_handler(
    store: Store, nats: Nats, hub: SmallHub
) -> None:
    got: list[bytes] = []
    desired = Desired(version=3, bundle_url="/v1/box/bundle", sha256="0" * 64)
    async with hub.running(), linked(store, nats, handlers={topics.DESIRED: got.append}):
        await until(lambda: hub.presence, "the box is there")
        await hub.send(BOX, topics.DESIRED, desired.encode())
        await until(lambda: got, "the handler is called")
    assert Desired.decode(got[0]) == desired


async def test_a_hub_that_dies_before_its_commit_gets_everything_again(
    store: Store, nats: Nats, hub: SmallHub
) -> None:
    def die(_: object) -> None:
        raise RuntimeError("killed")

    async with linked(store, nats) as link:
        hub.before_commit = die
        async with hub.running() as worker:
            talk(store, 50)
            await until(worker.done, "the hub is dead")
        assert hub.count() == 0
        hub.before_commit = lambda _: None
        async with hub.running():
            talk(store, 50)
            await until(lambda: link.state().waiting_rows == 0, "everything is acknowledged")
    assert told(hub, store)


async def test_a_broker_killed_again_and_again_loses_and_repeats_nothing(
    tmp_path: Path, store: Store, nats: Nats, hub: SmallHub
) -> None:
    process = nats.process
    async with hub.running(), linked(store, nats) as link:
        try:
            for _ in range(4):
                talk(store, 300)
                await until(lambda: link.state().connected, "the box is connected")
                process.kill()
                process.wait()
                shutil.rmtree(tmp_path / "nats" / "jetstream")
                talk(store, 100)
                process = start_again(nats)
            await until(lambda: hub.count() == 1600, "all is told", 60)
            await until(lambda: link.state().waiting_rows == 0, "and acknowledged")
        finally:
            process.kill()
            process.wait()
    assert told(hub, store)


async def test_a_hub_restored_from_an_older_backup_is_told_again_what_it_lost(
    tmp_path: Path, store: Store, nats: Nats, hub: SmallHub
) -> None:
    async with linked(store, nats) as link:
        async with hub.running():
            talk(store, 200)
            await until(lambda: hub.count() == 200, "the first half is there")
        shutil.copy(hub.path, tmp_path / "backup.db")
        async with hub.running():
            talk(store, 200)
            await until(lambda: hub.count() == 400, "all is there")
            await until(lambda: link.state().waiting_rows == 0, "and acknowledged")
        shutil.copy(tmp_path / "backup.db", hub.path)
        async with hub.running():
            await until(lambda: hub.count() == 400, "the hub has all again")
    assert told(hub, store)


async def test_a_box_restored_from_an_older_backup_neither_repeats_nor_mistakes_anything(
    tmp_path: Path, nats: Nats, hub: SmallHub
) -> None:
    path = tmp_path / "old.db"
    store = Store.open(path, outbox=True)
    await store.own_outbox(BOX)
    async with hub.running():
        async with linked(store, nats):
            talk(store, 100)
            await until(lambda: hub.count() == 100, "the first facts are there")
            await store.sync()
            backup = tmp_path / "backup.db"
            with (
                contextlib.closing(sqlite3.connect(path)) as source,
                contextlib.closing(sqlite3.connect(backup)) as target,
            ):
                source.backup(target)
            talk(store, 100)
            await until(lambda: hub.count() == 200, "and those after the backup")
        await store.aclose()
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        shutil.copy(backup, path)
        store = Store.open(path, outbox=True)
        await store.own_outbox(BOX)
        async with linked(store, nats) as link:
            talk(store, 50)
            await until(
                lambda: hub.count() == 250 and link.state().waiting_rows == 0, "the new ones came"
            )
        await store.aclose()
    numbers = [fact["seq"] for fact in hub.facts()]
    assert len(numbers) == len(set(numbers)) == 250


async def test_a_new_hub_identity_does_not_get_the_facts_of_the_former_one(
    store: Store, nats: Nats, hub: SmallHub
) -> None:
    await store.own_outbox(new_id())
    talk(store, 20)
    await store.sync()
    assert await store.own_outbox(BOX) == 20
    async with hub.running(), linked(store, nats) as link:
        talk(store, 5)
        await until(lambda: hub.count() == 5, "what was written for it comes")
        await until(lambda: link.state().waiting_rows == 0, "and is acknowledged")
    assert hub.count() == 5


async def test_without_a_broker_the_state_says_why_and_what_waits(store: Store, nats: Nats) -> None:
    nats.process.kill()
    nats.process.wait()
    async with linked(store, nats) as link:
        talk(store, 10)
        await until(lambda: link.state().waiting_rows == 10, "ten facts wait")
        await until(lambda: "cannot be reached" in link.state().fault, "the reason is told")
        assert not link.state().connected


def dropped(store: Store) -> bool:
    (part,) = store.outbox_parts()
    rows = store.outbox_rows("calls", part.epoch, 1, most=3000, max_bytes=2**30)
    return any(kind == "dropped" for _, kind, _, _ in rows)


async def test_out_of_room_the_state_says_what_is_given_up_and_the_hub_is_told_too(
    store: Store, nats: Nats, hub: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "SIZE_EVERY_S", 0.05)
    store.record_usage("c1", provider="p", kind="prompt", unit="tokens", quantity=7)
    talk(store, 2000)
    await store.sync()
    small = Upkeep(max_bytes=100_000)
    async with linked(store, nats, upkeep=small) as link:
        await until(lambda: "given up" in link.state().fault, "the state says so")
        await until(lambda: dropped(store), "events are given up")
        async with hub.running():
            await until(lambda: link.state().waiting_rows == 0, "the rest is told")
    assert hub.count() == 2001
    assert len(hub.facts("dropped")) + len(hub.facts()) == 2000
    assert hub.facts("usage")
