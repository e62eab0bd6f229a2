# SPDX-License-Identifier: Apache-2.0
"""What the store does when the disk is full, the file is damaged or locked, or the process is killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import selectors
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from appliance.store import (
    Event,
    OutboxPart,
    Store,
    StoreFullError,
    StoreLockedError,
    database,
    writer,
)
from tests.store.full_disk import KINDS, disk

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


def event(seq: int, size: int = 10) -> Event:
    return Event("c1", seq, seq * 20, "x", {"text": "y" * size})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a thread changes it
            await asyncio.sleep(0.01)


async def booking(store: Store) -> object:
    return await store.book(
        name="Emma",
        on=date(2026, 3, 6),
        at=datetime(2026, 3, 6, 9, 0, tzinfo=UTC).time(),
        call_id="c1",
        idempotency_key="k",
    )


# -- a disk that is full -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_on_a_full_disk_facts_wait_requests_fail_and_all_is_written_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(writer, "RETRY_SECONDS", 0.05)
    with disk(kind, tmp_path / "disk") as full:
        store = Store.open(full.folder / "box.db")
        store.append("c1", [event(0)])
        await store.sync()
        full.fill()
        for seq in range(1, 200):
            store.append("c1", [event(seq, 2000)])
        with pytest.raises(StoreFullError, match="free space"):
            await store.sync()
        with pytest.raises(StoreFullError):
            await booking(store)
        assert re.search(full.message, store.fault)
        assert store.events("c1")[0] == event(0)

        full.free()
        await until(lambda: not store.fault)
        await store.sync()
        assert [e.seq for e in store.events("c1")] == list(range(200))
        assert store.appointments() == []
        assert await booking(store)
        await store.aclose()
        with closing(sqlite3.connect(store.path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_facts_beyond_what_memory_may_hold_are_counted_as_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_WAITING", 50)
    store = Store.open(tmp_path / "box.db")
    with holding_the_lock(store.path):
        for seq in range(120):
            store.append("c1", [event(seq)])
        lost = store.lost
        assert lost >= 20
    await store.sync()
    assert len(store.events("c1")) == 120 - lost
    await store.aclose()


# -- a file that another program locked ---------------------------------------------------------


def holding_the_lock(path: Path) -> closing[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return closing(connection)


async def test_a_database_browser_that_locks_the_file_delays_facts_but_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_MS", 50)
    monkeypatch.setattr(writer, "RETRY_SECONDS", 0.05)
    store = Store.open(tmp_path / "box.db")
    with holding_the_lock(store.path):
        store.append("c1", [event(0), event(1)])
        with pytest.raises(StoreLockedError, match="another program"):
            await store.sync()
        store.append("c1", [event(2)])
        assert store.events("c1") == []
    await until(lambda: not store.fault)
    await store.sync()
    assert [e.seq for e in store.events("c1")] == [0, 1, 2]
    await store.aclose()


# -- a file that is damaged ---------------------------------------------------------------------


def damage(path: Path) -> None:
    """Overwrite all pages but the first with noise."""
    content = bytearray(path.read_bytes())
    content[4096:] = random.Random(1).randbytes(len(content) - 4096)
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["noise in the pages", "not a database", "header cut off"])
async def test_a_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path: Path, how: str) -> None:
    path = tmp_path / "box.db"
    store = Store.open(path)
    store.append("c1", [event(n, 500) for n in range(100)])
    await store.aclose()
    if how == "noise in the pages":
        damage(path)
    elif how == "not a database":
        path.write_bytes(b"this is a letter, not a database. " * 1000)
    else:
        path.write_bytes(path.read_bytes()[50:])
    damaged = path.read_bytes()

    with capture_logs() as logged:
        store = Store.open(path)
    assert [(entry["log_level"], "damaged" in entry["event"]) for entry in logged] == [
        ("error", True)
    ]
    assert store.events("c1") == []
    store.append("c1", [event(0)])
    await store.sync()
    assert len(store.events("c1")) == 1
    await store.aclose()
    aside = [name for name in names(tmp_path) if ".corrupt-" in name]
    assert [(tmp_path / name).read_bytes() for name in aside] == [damaged]


async def test_damage_found_while_running_costs_no_fact_that_is_reported_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RETRY_SECONDS", 0.05)
    path = tmp_path / "box.db"
    store = Store.open(path)
    # more than its page cache holds: what lies in the cache is not damaged
    store.append("old", [event(n, 1000) for n in range(6000)])
    await store.aclose()
    store = Store.open(path)
    damage(path)
    for seq in range(100):
        store.append("c1", [event(seq)])
    await until(lambda: any(".corrupt-" in name for name in names(tmp_path)))
    await until(lambda: not store.fault)
    await store.sync()
    assert [e.seq for e in store.events("c1")] == list(range(100))
    await store.aclose()


# -- a process that is killed -------------------------------------------------------------------


@dataclass
class Witness:
    """What a killed process had said."""

    call_id: str = ""
    appended: list[tuple[float, int]] = field(default_factory=list)
    synced: int = -1
    killed_at: float = 0.0


def run_and_kill(path: Path, seconds: float) -> Witness:
    command = [sys.executable, "-m", "tests.store.writing_process", str(path)]
    witness = Witness()
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        selector = selectors.DefaultSelector()
        selector.register(process.stdout, selectors.EVENT_READ)
        until = time.monotonic() + 30
        rest = b""
        while time.monotonic() < until:
            if not selector.select(max(0.0, until - time.monotonic())):
                break
            said = os.read(process.stdout.fileno(), 65536)
            assert said, "it ended by itself"
            *lines, rest = (rest + said).split(b"\n")
            for what, value in (line.decode().split() for line in lines):
                if what == "call":
                    witness.call_id = value
                    until = time.monotonic() + seconds
                elif what == "appended":
                    witness.appended.append((time.monotonic(), int(value)))
                else:
                    witness.synced = int(value)
        process.kill()
        witness.killed_at = time.monotonic()
    assert witness.call_id
    return witness


def outbox_rows(store: Store, part: OutboxPart) -> list[tuple[str, int]]:
    """The events of calls in one part; its numbers are gapless."""
    found = store.outbox_rows("calls", part.epoch, 1, most=10**6, max_bytes=2**30)
    assert [seq for seq, _, _, _ in found] == list(range(1, part.last + 1))
    facts = [json.loads(data) for _, kind, _, data in found if kind == "call.event"]
    return [(fact["call_id"], fact["seq"]) for fact in facts]


@pytest.mark.slow
async def test_killed_at_any_moment_it_loses_less_than_a_second_and_nothing_is_damaged(
    tmp_path: Path,
) -> None:
    path = tmp_path / "box.db"
    rng = random.Random(7)
    for n in range(20):
        witness = run_and_kill(path, rng.uniform(0.0, 0.6) if n % 4 else rng.uniform(1.1, 1.6))
        copy = tmp_path / f"copy-{n}"
        copy.mkdir()
        for name in names(tmp_path):
            if name.startswith("box.db"):
                shutil.copy(tmp_path / name, copy)
        with closing(sqlite3.connect(copy / "box.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

        store = Store.open(path)
        kept = [e.seq for e in store.events(witness.call_id)]
        assert kept == list(range(len(kept)))
        old = [seq for at, seq in witness.appended if at < witness.killed_at - 1]
        assert len(kept) > max([witness.synced, *old], default=-1)
        reported = [row for part in store.outbox_parts() for row in outbox_rows(store, part)]
        assert [seq for call, seq in reported if call == witness.call_id] == kept
        assert len(reported) == len(set(reported))
        assert await store.recover() == [witness.call_id]
        await store.aclose()
    assert not [name for name in names(tmp_path) if "corrupt" in name]
