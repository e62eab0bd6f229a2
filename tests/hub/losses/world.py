# SPDX-License-Identifier: Apache-2.0
"""A hub, its boxes and the network between them, as one thing to hit; and how it is hit."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from appliance.store import OutboxPart
from tests.hub.losses import witness
from tests.hub.losses.box_process import HUB, Plan, Quiet
from tests.hub.losses.hub import Part, RealHub, wait_for
from tests.hub.losses.processes import Supervised, kill
from tests.hub.losses.proxy import Network
from tests.hub.losses.witness import Verdict

Victim = Part | Literal["box"]
VICTIMS: tuple[Victim, ...] = ("box", "hub", "ingest", "broker", "postgres")

ORGANIZATIONS = 5
BOXES_START_S = 120.0
VICTIM_APPEARS_S = 120.0
"""How long a blow waits for somebody to hit: a supervisor may be pausing, a busy machine be slow."""


@dataclass(frozen=True)
class Scale:
    """How many and how much.

    Attributes:
        boxes: all together. processes: that they share. rate: rows a second of all together.
        nodes: servers of a NATS cluster, or 0. workers: ingest processes.
        patience, reconnect_max_s, clock_off_s, repeat: see `Plan`.
    """

    boxes: int = 10
    processes: int = 2
    rate: float = 100.0
    nodes: int = 0
    workers: int = 1
    patience: float = 1.0
    reconnect_max_s: float = 120.0
    clock_off_s: float = 0.0
    repeat: bool = False


class World:
    """Everything, running. See `running`."""

    def __init__(self, folder: Path, scale: Scale) -> None:
        self.folder = folder
        self.scale = scale
        self.hub = RealHub(folder, nodes=scale.nodes, workers=scale.workers)
        self.network = Network(self.hub.mqtt_ports)
        self.boxes: dict[str, Path] = {}
        self.processes: list[Supervised] = []
        self.kills: Counter[str] = Counter()
        self._produce = folder / "produce"
        self._full = folder / "full"

    async def start(self) -> None:
        """Return when all boxes have joined and their processes run."""
        await self.hub.start()
        await asyncio.to_thread(witness.install, self.hub.administrator)
        await self.network.start()
        organizations = [await self.hub.organization() for _ in range(ORGANIZATIONS)]
        folders = [self.folder / f"box{number}" for number in range(self.scale.boxes)]
        for number, folder in enumerate(folders):
            box = await self.hub.join(organizations[number % ORGANIZATIONS], folder / HUB)
            self.boxes[box] = folder
        await self._start_boxes()

    async def stop(self) -> None:
        """Stop everything."""
        await asyncio.gather(*(process.stop() for process in self.processes))
        await self.network.stop()
        await self.hub.stop()

    async def boxes_as(self, **changes: Any) -> None:
        """Have all boxes begin a new life, with other settings of `Scale`."""
        self._produce.unlink(missing_ok=True)
        self.scale = replace(self.scale, **changes)
        await asyncio.gather(*(process.stop() for process in self.processes))
        self.processes.clear()
        await self._start_boxes()

    def produce(self) -> None:
        """Let the boxes talk."""
        for number in range(self.scale.processes):
            self._quiet(number).unlink(missing_ok=True)
        self._produce.touch()

    def fill_disks(self) -> None:
        """Let no file of any box grow."""
        self._full.touch()

    def free_disks(self) -> None:
        """Give room again."""
        self._full.unlink(missing_ok=True)

    def waiting(self) -> int:
        """Return how many rows are not acknowledged."""
        return sum(part.last - part.acked for part in self._parts())

    def written(self) -> int:
        """Return how many rows the outboxes hold."""
        return sum(part.last for part in self._parts())

    def _parts(self) -> Iterator[OutboxPart]:
        for folder in self.boxes.values():
            yield from witness.parts(folder)

    async def settle(self, deadline_s: float) -> float:
        """Let the boxes fall silent and wait until all is acknowledged; return the seconds it took.

        Raises:
            TimeoutError: it is not in time.
        """
        began = time.monotonic()
        self._produce.unlink(missing_ok=True)
        await wait_for(self._all_quiet, "the boxes to fall silent", deadline_s)

        async def acknowledged() -> bool:
            return await asyncio.to_thread(self.waiting) == 0

        left = deadline_s - (time.monotonic() - began)
        try:
            await wait_for(acknowledged, "the last acknowledgement", left, every=0.5)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self.waiting()} rows wait") from None
        return time.monotonic() - began

    async def count(self) -> Verdict:
        """Compare all boxes with the database, and what was reported with the boxes."""
        verdict = await asyncio.to_thread(witness.count, self.hub.administrator, self.boxes)
        for number in range(len(self.processes)):
            said = self._said(number)
            verdict.lost_by_box += said.short if said is not None else 0
        return verdict

    async def strike(self, victim: Victim) -> None:
        """SIGKILL one process of that part."""

        async def struck() -> bool:
            pid = self._pid(victim)
            return pid is not None and kill(pid)

        await wait_for(struck, f"a process of {victim} to kill", VICTIM_APPEARS_S, every=0.05)
        self.kills[victim] += 1

    def _pid(self, victim: Victim) -> int | None:
        if victim == "box":
            return random.choice(self.processes).pid
        return self.hub.pid(victim)

    def _quiet(self, number: int) -> Path:
        return self.folder / f"quiet{number}"

    async def _all_quiet(self) -> bool:
        return all(
            (said := self._said(number)) is not None and said.pid == process.pid
            for number, process in enumerate(self.processes)
        )

    def _said(self, number: int) -> Quiet | None:
        try:
            return Quiet(**json.loads(self._quiet(number).read_bytes()))
        except (FileNotFoundError, ValueError):  # it is being written
            return None

    async def _start_boxes(self) -> None:
        folders = list(self.boxes.values())
        for number in range(self.scale.processes):
            self._quiet(number).unlink(missing_ok=True)
            await self._start_process(number, folders[number :: self.scale.processes])
        await wait_for(self._all_quiet, "the boxes", BOXES_START_S)

    async def _start_process(self, number: int, folders: Sequence[Path]) -> None:
        scale = self.scale
        plan = Plan(
            folders=[str(folder) for folder in folders],
            port=self.network.port,
            rate=scale.rate / scale.boxes,
            produce=str(self._produce),
            quiet=str(self._quiet(number)),
            full=str(self._full),
            patience=scale.patience,
            reconnect_max_s=scale.reconnect_max_s,
            clock_off_s=scale.clock_off_s,
            repeat=scale.repeat,
        )
        file = self.folder / f"plan{number}.json"
        plan.write(file)
        command = [sys.executable, "-m", "tests.hub.losses.box_process", str(file)]
        process = Supervised(command, self.folder / f"boxes{number}.log", {"OMP_NUM_THREADS": "1"})
        await process.start()
        self.processes.append(process)


@asynccontextmanager
async def running(folder: Path, scale: Scale) -> AsyncIterator[World]:
    """Run a hub and boxes in an empty folder for the length of the block."""
    world = World(folder, scale)
    try:
        await world.start()
        yield world
    finally:
        await world.stop()


async def under_fire(
    world: World, blows: Sequence[Callable[[], Awaitable[None]]], seconds: float, every: float
) -> None:
    """Let the boxes talk for `seconds`, and strike one blow after the other, one `every` seconds.

    On a slow machine it takes longer: each blow is struck at least once.
    """
    world.produce()
    end, number = time.monotonic() + seconds, 0
    while number < len(blows) or time.monotonic() < end:
        await asyncio.sleep(every)
        if number < len(blows) or (blows and time.monotonic() < end):
            await blows[number % len(blows)]()
            number += 1


def killing(world: World, victims: Sequence[Victim]) -> list[Callable[[], Awaitable[None]]]:
    """Return blows that kill these in turn."""
    return [lambda victim=victim: world.strike(victim) for victim in victims]  # type: ignore[misc]
