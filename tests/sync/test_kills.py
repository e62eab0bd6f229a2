# SPDX-License-Identifier: Apache-2.0
"""Box, broker and hub killed with -9, one after the other, while the box talks: every fact is counted."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from appliance.store import Reader, Store
from tests.hub.servers import Nats
from tests.sync.lab import BOX, linked, start_again, until
from tests.sync.small_hub import SmallHub

ROOT = Path(__file__).parents[2]


def start_box(path: Path, nats: Nats) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.sync.box_process", str(path), str(nats.mqtt_port), BOX]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


@pytest.mark.slow
async def test_with_any_of_them_killed_while_it_works_nothing_is_missing_and_nothing_twice(
    tmp_path: Path,
    nats: Nats,
    hub: SmallHub,
) -> None:
    path = tmp_path / "box.db"
    chance = random.Random(11)
    broker = nats.process
    try:
        for life in range(6):
            box = start_box(path, nats)
            try:
                before = hub.count()
                async with hub.running():
                    more = before + chance.randrange(50, 1500)
                    await until(lambda: hub.count() >= more, "some more facts arrived")  # noqa: B023
                    if life % 3 == 1:
                        kill(broker)
                        broker = start_again(nats)
                # here the hub's worker is gone, and the box goes on alone
                await until(lambda: waiting(path) > chance.randrange(10, 200), "some facts wait")
            finally:
                kill(box)
        store = Store.open(path, outbox=True)
        await store.own_outbox(BOX)
        await store.recover()
        async with hub.running(), linked(store, nats) as link:
            await until(lambda: link.state().waiting_rows == 0, "all is acknowledged", 60)
        await store.aclose()
    finally:
        kill(broker)
    compare(path, hub)


def waiting(path: Path) -> int:
    with Reader(path) as reader:
        return sum(part.last - part.acked for part in reader.outbox_parts())


def compare(path: Path, hub: SmallHub) -> None:
    """Count every event and all usage on both sides."""
    with Reader(path) as reader:
        calls = [call.id for call in reversed(reader.calls(100))]
        events = [(call, event.seq) for call in calls for event in reader.events(call)]
        usage = {call: sum(one.quantity for one in reader.usage(call)) for call in calls}
    assert len(calls) == 6
    assert [(fact["call_id"], fact["seq"]) for fact in hub.facts()] == events
    told: Counter[object] = Counter()
    for fact in hub.facts("usage"):
        told[fact["call_id"]] += int(str(fact["quantity"]))
    assert told == usage
    assert [fact["call_id"] for fact in hub.facts("call.ended")] == calls
    with contextlib.closing(hub.database()) as db:
        assert not db.execute("SELECT * FROM lost").fetchall()
