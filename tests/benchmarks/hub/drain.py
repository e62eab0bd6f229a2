# SPDX-License-Identifier: Apache-2.0
"""A box comes back after days: its own store and link send the backlog; timed to the hub's last commit."""

from __future__ import annotations

import asyncio
import itertools
import time
from uuid import UUID

from appliance.store import Store
from appliance.sync.link import HubLink
from appliance.sync.mqtt import Endpoint
from tests.benchmarks.hub.counts import Miscounts, miscounts
from tests.benchmarks.hub.said import BoxPapers, Told, calls
from tests.benchmarks.hub.stand import Stand, box_context
from tests.benchmarks.report import Report

SYNC_EVERY = 5_000
POLL_S = 0.05
DEADLINE_S = 3600.0
_POSITION = "SELECT coalesce(sum(applied_seq), 0) FROM stream_positions WHERE appliance_id = %s"


async def drain(report: Report, stand: Stand, rows: int, hours: float) -> None:
    """Measure one box with so many rows to send.

    Args:
        report: takes the results.
        stand: the hub.
        rows: of the backlog.
        hours: that it stands for, for the results' names.
    """
    (papers,) = await stand.boxes(await stand.organization(), 1)
    store = await asyncio.to_thread(Store.open, stand.folder / "box.db", outbox=True)
    try:
        await store.own_outbox(papers.box_id)
        told = await _say(store, rows)
        print(f"  one box has {rows} rows to send", flush=True)
        seconds, rates = await _drained(stand, store, papers, rows)
        wrong = await miscounts(stand, {papers.box_id: told})
    finally:
        await store.aclose()
    _add(report, f"{hours:g}h", rows, seconds, rates, wrong)


async def _say(store: Store, rows: int) -> Told:
    told = Told()
    for number, (kind, data) in enumerate(itertools.islice(calls(), rows), start=1):
        store.report("calls", kind, data)
        told.add(kind, data)
        if number % SYNC_EVERY == 0:
            await store.sync()
    await store.sync()
    return told


async def _drained(
    stand: Stand, store: Store, papers: BoxPapers, rows: int
) -> tuple[float, list[float]]:
    """Return seconds from the connection's begin to the last commit, and the rate of each second."""
    link = HubLink(
        store,
        Endpoint(
            "127.0.0.1",
            stand.mqtt_port,
            papers.box_id,
            lambda: box_context(stand.ca, papers.file),
        ),
    )
    rates: list[float] = []
    async with await stand.administrator() as database:
        begun = mark = time.monotonic()
        marked = applied = 0
        link.start()
        try:
            while applied < rows:
                await asyncio.sleep(POLL_S)
                cursor = await database.execute(_POSITION, (UUID(papers.box_id),))
                applied = int(str((await cursor.fetchone() or (0,))[0]))
                now = time.monotonic()
                if now - mark >= 1:
                    rates.append((applied - marked) / (now - mark))
                    mark, marked = now, applied
                if now - begun > DEADLINE_S:
                    raise TimeoutError(f"{applied} of {rows} rows after {DEADLINE_S:.0f} s")
            seconds = time.monotonic() - begun
        finally:
            await asyncio.to_thread(link.close)
    return seconds, rates


def _add(
    report: Report, load: str, rows: int, seconds: float, rates: list[float], wrong: Miscounts
) -> None:
    report.add(f"trunkline/drain_rate@{load}", "rows/s", [rows / seconds])
    report.add(f"trunkline/drain_rate_each_second@{load}", "rows/s", rates)
    report.add(f"trunkline/drain_time@{load}", "s", [seconds])
    report.add(f"trunkline/drain_rows@{load}", "rows", [rows])
    report.add(f"trunkline/drain_missing@{load}", "rows", [wrong.missing])
    report.add(f"trunkline/drain_twice@{load}", "rows", [wrong.twice])
    print(f"  drained in {seconds:.1f} s: {rows / seconds:.0f} rows/s, {wrong}", flush=True)
