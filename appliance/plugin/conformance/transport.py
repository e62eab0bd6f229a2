# SPDX-License-Identifier: Apache-2.0
"""Checks of a transport: starting, ticking and stopping on loopback. Calls need a far end: not here.

The settings it is started with are those of the manifest's `check` table, or the caller's.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

from appliance.plugin.conformance.drive import loop_stays_free
from appliance.plugin.conformance.findings import Check, check, require
from appliance.plugin.conformance.leaks import held, left_tasks, left_threads
from appliance.plugin.conformance.subject import Subject
from appliance.plugin.transport import (
    FRAME_MS,
    Leg,
    LegEvent,
    MediaFrame,
    Transport,
    TransportStatus,
)

TICKS_S = 1.0


class ListeningHost:
    """A host that takes no calls and counts media ticks."""

    def __init__(self) -> None:
        self.ticks: list[float] = []
        self.threads: set[int] = set()

    def incoming(self, leg: Leg) -> None:
        """Nobody should call here; whoever does is refused."""
        self._refusal = asyncio.ensure_future(leg.reject(503))

    def media(self, frames: Sequence[MediaFrame]) -> None:
        """Note the time and the thread."""
        self.ticks.append(time.perf_counter())
        self.threads.add(threading.get_ident())

    def event(self, leg: Leg, event: LegEvent) -> None:
        """Nothing to do: no leg is wanted."""


async def use(transport: Transport, subject: Subject) -> None:
    """Read its status; starting is a check of its own."""
    transport.status()


def check_status(status: TransportStatus) -> None:
    """Raise `ViolationError` unless a running transport tells what an operator needs."""
    require(status.capacity >= 1, f"its capacity is {status.capacity}")
    require(status.calls == 0, f"it has {status.calls} calls before the first")
    require(bool(status.library.strip()), "it does not say which library does the work")
    require(bool(status.listening), "it does not say where it listens")


@check("it starts, ticks every 20 ms on the loop's thread, and stops; aclose twice is fine")
async def it_starts_and_stops(subject: Subject) -> str:
    """In one check, because some libraries start only once in a process."""
    before = held()
    transport: Transport = subject.provider
    host = ListeningHost()
    await transport.start(host)
    check_status(transport.status())
    host.ticks.clear()
    free = await loop_stays_free(lambda: asyncio.sleep(TICKS_S))
    ticks = len(host.ticks)
    wrong = host.threads - {threading.get_ident()}
    require(not wrong, "media came on another thread than the event loop's")
    require(ticks > 1, "no media ticks came; they are due without calls too")
    mean = (host.ticks[-1] - host.ticks[0]) / (ticks - 1) * 1000
    require(abs(mean - FRAME_MS) < 1, f"ticks came every {mean:.1f} ms on average")
    start = time.perf_counter()
    await transport.aclose()
    closing = time.perf_counter() - start
    require(closing < 10, f"it took {closing:.0f} s to stop")
    await transport.aclose()
    last = len(host.ticks)
    await asyncio.sleep(3 * FRAME_MS / 1000)
    require(len(host.ticks) == last, "media came after aclose")
    tasks = await left_tasks(before)
    require(not tasks, f"tasks are left: {', '.join(tasks)}")
    threads = await left_threads(before)
    require(not threads, f"threads are left: {', '.join(threads)}")
    return f"a tick every {mean:.1f} ms; loop held {free}; stopped in {closing:.2f} s"


CHECKS: tuple[Check, ...] = (it_starts_and_stops,)
