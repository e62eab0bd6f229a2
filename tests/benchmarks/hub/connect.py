# SPDX-License-Identifier: Apache-2.0
"""Many boxes at once, connected by mutual TLS, speaking at an open-loop rate; timed to the answer."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.benchmarks.hub.clients import CONNECT_WITHIN_S, Orders
from tests.benchmarks.hub.counts import miscounts
from tests.benchmarks.hub.said import BoxPapers, Told
from tests.benchmarks.hub.stand import Stand
from tests.benchmarks.report import Report

BEGIN_IN_S = 1.0
SETTLE_S = 120.0


async def connect(
    report: Report,
    stand: Stand,
    *,
    boxes: int,
    organizations: int,
    rate: float,
    seconds: float,
    clients: int,
) -> None:
    """Measure so many boxes in so many organizations.

    Args:
        report: takes the results.
        stand: the hub.
        rate: events a second, of all boxes together.
        seconds: for so long.
        clients: processes that drive the boxes.
    """
    papers: list[BoxPapers] = []
    for number in range(organizations):
        count = (boxes - len(papers)) // (organizations - number)
        papers += await stand.boxes(await stand.organization(), count)
    print(f"  {boxes} boxes in {organizations} organizations have certificates", flush=True)
    orders = [
        Orders(
            ca=str(stand.ca),
            port=stand.mqtt_port,
            boxes=[(each.box_id, each.file) for each in papers[number::clients]],
            rate=rate / clients,
            seconds=seconds,
            settle_s=SETTLE_S,
            seed=number,
        )
        for number in range(clients)
    ]
    start, results = await _run(stand.folder, orders)
    await _add(report, stand, results, start, f"{boxes}boxes")


async def _run(folder: Path, orders: list[Orders]) -> tuple[float, list[dict[str, Any]]]:
    """Run the clients; return when they began and what each wrote."""
    processes = []
    try:
        for number, each in enumerate(orders):
            (folder / f"orders-{number}.json").write_text(json.dumps(asdict(each)))
            processes.append(await _client(folder, number))
        for process in processes:
            assert process.stdout is not None
            line = await asyncio.wait_for(process.stdout.readline(), CONNECT_WITHIN_S + 60)
            if line.strip() != b"connected":
                raise RuntimeError("a client process ended before its boxes were connected")
        print("  all are connected", flush=True)
        start = time.monotonic() + BEGIN_IN_S
        for process in processes:
            await process.communicate(f"{start}\n".encode())
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
    written = [folder / f"result-{number}.json" for number in range(len(orders))]
    return start, [json.loads(each.read_text()) for each in written]


async def _client(folder: Path, number: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.benchmarks.hub.clients",
        str(folder / f"orders-{number}.json"),
        str(folder / f"result-{number}.json"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def _add(
    report: Report, stand: Stand, results: list[dict[str, Any]], start: float, load: str
) -> None:
    boxes = {box_id: box for each in results for box_id, box in each["boxes"].items()}
    told = {
        box_id: Told(Counter(box["told"]["rows"]), box["told"]["quantity"], box["told"]["ended"])
        for box_id, box in boxes.items()
    }
    wrong = await miscounts(stand, told)
    delays = [1000 * delay for box in boxes.values() for delay in box["delays"]]
    lasted = max(box["last_ack"] for box in boxes.values()) - start
    rate = len(delays) / lasted
    faults = [box["fault"] for box in boxes.values() if box["fault"]]
    unacked = sum(box["rows"] - box["acked"] for box in boxes.values())
    again = sum(box["sent"] - box["rows"] for box in boxes.values())
    report.add(f"trunkline/publish_to_committed@{load}", "ms", delays)
    report.add(f"trunkline/events_committed@{load}", "events/s", [rate])
    report.add(f"trunkline/missing@{load}", "rows", [wrong.missing])
    report.add(f"trunkline/twice@{load}", "rows", [wrong.twice])
    report.add(f"trunkline/unacknowledged@{load}", "rows", [unacked])
    report.add(f"trunkline/sent_again@{load}", "rows", [again])
    report.add(f"trunkline/connections_lost@{load}", "boxes", [len(faults)])
    refused = sum(box["refused"] for box in boxes.values())
    report.add(f"trunkline/connections_refused@{load}", "attempts", [refused])
    report.add(f"trunkline/all_connected_in@{load}", "s", [r["connected_s"] for r in results])
    report.add(
        f"clients/said_late@{load}", "ms", [1000 * one for r in results for one in r["late"]]
    )
    print(f"  {len(delays)} events, {rate:.0f}/s, {wrong}, {faults[:3] or 'no faults'}", flush=True)
