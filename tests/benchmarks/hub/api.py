# SPDX-License-Identifier: Apache-2.0
"""The API over a full database: lists and details of calls, through HTTP, an API key and row-level security.

The client is open-loop: requests are sent when they are due, and timed from then. Organizations take
turns, so no tenant's pages are warmer than in life.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.benchmarks.hub.fill import Customer, fill
from tests.benchmarks.hub.stand import Stand
from tests.benchmarks.report import Report

ASKING = 20
"""Organizations that ask."""

LARGEST_PAGE = 200
WARM_UP = 20
"""Requests that are not counted."""

Parameters = dict[str, str | int]


@dataclass(frozen=True)
class Asker:
    """An organization that asks.

    Attributes:
        deep: a cursor from the middle of its list.
        ids: calls from all over the list.
    """

    customer: Customer
    deep: str
    ids: Sequence[str]

    @property
    def headers(self) -> dict[str, str]:
        """What shows who it is."""
        return {"Authorization": f"Bearer {self.customer.key}"}


async def api(
    report: Report, stand: Stand, *, calls: int, organizations: int, rate: float, requests: int
) -> None:
    """Measure lists and details.

    Args:
        report: takes the results.
        stand: the hub.
        calls: in all.
        rate: requests a second.
        requests: of each sort.
    """
    customers = await fill(stand, calls, organizations)
    async with httpx.AsyncClient(base_url=f"{stand.url}/v1", timeout=60) as client:
        each = calls // organizations
        askers = [await _asker(client, one, each) for one in customers[:ASKING]]
        chance = random.Random(0)
        for name, ask in _SORTS.items():
            turns = itertools.cycle(askers)
            await _timed(client, ask, turns, chance, rate, WARM_UP)
            taken = await _timed(client, ask, turns, chance, rate, requests)
            report.add(f"trunkline/api_{name}@{calls}calls", "ms", [1000 * one for one in taken])
            middle = sorted(taken)[len(taken) // 2]
            print(f"  {name}: half of the answers within {1000 * middle:.1f} ms", flush=True)


async def _asker(client: httpx.AsyncClient, customer: Customer, calls: int) -> Asker:
    """Walk to the middle of its list, as a program would that reads all of it."""
    ids: list[str] = []
    cursor: str | None = None
    headers = {"Authorization": f"Bearer {customer.key}"}
    while len(ids) < calls // 2:
        parameters: Parameters = {"limit": LARGEST_PAGE if calls > 2 * LARGEST_PAGE else 5}
        if cursor is not None:
            parameters["cursor"] = cursor
        answer = await client.get("/calls", params=parameters, headers=headers)
        answer.raise_for_status()
        page = answer.json()
        ids += [each["id"] for each in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            raise RuntimeError(f"the list ends after {len(ids)} of {calls} calls")
    assert cursor is not None
    return Asker(customer, cursor, ids)


def _first(_: Asker, __: random.Random) -> tuple[str, Parameters]:
    return "/calls", {}


def _deep(asker: Asker, _: random.Random) -> tuple[str, Parameters]:
    return "/calls", {"cursor": asker.deep}


def _by_caller(_: Asker, chance: random.Random) -> tuple[str, Parameters]:
    return "/calls", {"caller": f"+4416329{chance.randrange(2000):05}"}


def _by_box(asker: Asker, chance: random.Random) -> tuple[str, Parameters]:
    since = datetime.now(UTC) - timedelta(days=chance.randrange(2, 60))
    box = str(asker.customer.box_id)
    return "/calls", {"appliance_id": box, "started_before": since.isoformat()}


def _by_duration(_: Asker, __: random.Random) -> tuple[str, Parameters]:
    return "/calls", {"min_duration_ms": 200_000, "recorded": "true"}


def _detail(asker: Asker, chance: random.Random) -> tuple[str, Parameters]:
    return f"/calls/{chance.choice(asker.ids)}", {}


def _transcript(asker: Asker, chance: random.Random) -> tuple[str, Parameters]:
    return f"/calls/{chance.choice(asker.ids)}/transcript", {}


_SORTS: dict[str, Callable[[Asker, random.Random], tuple[str, Parameters]]] = {
    "list_first": _first,
    "list_deep": _deep,
    "list_by_caller": _by_caller,
    "list_by_box_and_time": _by_box,
    "list_by_duration": _by_duration,
    "detail": _detail,
    "transcript": _transcript,
}


async def _timed(
    client: httpx.AsyncClient,
    ask: Callable[[Asker, random.Random], tuple[str, Parameters]],
    turns: Iterator[Asker],
    chance: random.Random,
    rate: float,
    requests: int,
) -> list[float]:
    """Ask at the rate; return seconds from when each request was due."""
    taken: list[float] = []

    async def one(path: str, parameters: Any, headers: dict[str, str], due: float) -> None:
        answer = await client.get(path, params=parameters, headers=headers)
        taken.append(time.monotonic() - due)
        answer.raise_for_status()

    due = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(requests):
            due += chance.expovariate(rate)
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            asker = next(turns)
            group.create_task(one(*ask(asker, chance), asker.headers, due))
    return taken
