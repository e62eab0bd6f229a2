# SPDX-License-Identifier: Apache-2.0
"""A process with some boxes: real stores, outboxes and links; calls that nobody made.

    python -m tests.hub.losses.box_process PLAN.json

It reports facts while the plan's file `produce` exists; when that is gone it waits until all is on the disk
and says so in its file `quiet` (see `Quiet`). It is made to be killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from appliance import logs
from appliance.store import Event, Store, StoreError
from appliance.store.records import from_text
from appliance.sync import link as link_module
from appliance.sync.identity import HubFiles
from appliance.sync.link import HubLink
from appliance.sync.mqtt import Endpoint
from appliance.sync.sender import Limits
from appliance.wire import new_id, now_text
from tests.hub.losses.ledger import Ledger
from tests.hub.losses.mischief import Repeating, shift_clock

TICK_S = 0.05
EVENTS = 10
"""In a call; every third is something that the caller said."""
STORE = "box.db"
LEDGER = "ledger"
HUB = "hub"


@dataclass(frozen=True)
class Plan:
    """What a process is to do.

    Attributes:
        folders: one a box; its hub identity lies in `hub` there.
        port: where the boxes find the broker.
        rate: rows a second of one box.
        produce, quiet, full: files, see above; while `full` exists no file of the process can grow.
        patience: multiplies the link's waits.
        reconnect_max_s: the longest wait between attempts to connect.
        clock_off_s: by how much the boxes' clock is wrong.
        repeat: whether boxes send messages again and out of order.
    """

    folders: list[str]
    port: int
    rate: float
    produce: str
    quiet: str
    full: str
    patience: float = 1.0
    reconnect_max_s: float = 120.0
    clock_off_s: float = 0.0
    repeat: bool = False

    def write(self, path: Path) -> None:
        """Keep it in a file."""
        path.write_text(json.dumps(asdict(self)))


@dataclass(frozen=True)
class Quiet:
    """What a process says once it has written everything.

    Attributes:
        pid: whose word this is.
        short: rows that it reported in this life and that are not in the outbox; lost by the store.
    """

    pid: int
    short: int


@dataclass
class Box:
    """One box: its store and its link.

    Attributes:
        owed: rows that are to be reported by now.
        expected: rows that the outbox must hold by what was reported.
    """

    store: Store
    link: HubLink
    facts: Iterator[int]
    expected: int
    owed: float = 0.0

    @classmethod
    async def open(cls, folder: Path, plan: Plan) -> Box:
        """Begin a life."""
        files = HubFiles(folder / HUB)
        identity = files.identity()
        assert identity is not None
        store = await asyncio.to_thread(Store.open, folder / STORE, outbox=True)
        await store.own_outbox(identity.box_id)
        await store.recover()
        endpoint = Endpoint("127.0.0.1", plan.port, identity.box_id, files.tls_context)
        limits = Limits(
            answer_s=10 * plan.patience, retry_s=5 * plan.patience, retry_max_s=300 * plan.patience
        )
        link = HubLink(Ledger(store, folder / LEDGER), endpoint, limits=limits, software="losses")
        link.start()
        return cls(store, link, talk(store), _rows(store))

    def work(self, rows: float) -> None:
        """Report facts until what is owed is paid."""
        self.owed += rows
        while self.owed > 0:
            rows = next(self.facts)
            self.owed -= rows
            self.expected += rows

    async def short(self) -> int:
        """Return how many rows the outbox lacks, once all is on the disk.

        Raises:
            StoreError: the disk does not take it.
        """
        await self.store.sync()
        return self.expected - _rows(self.store)

    def close(self) -> None:
        """End the life in peace."""
        self.link.close()
        self.store.close()


def talk(store: Store) -> Iterator[int]:
    """Report calls, a fact at a time; yield how many rows of the outbox each fact makes."""
    for number in itertools.count():
        call, began = new_id(), from_text(now_text())
        store.begin_call(
            call,
            agent="reception",
            agent_version=f"{number:04x}",
            transport="sip",
            trunk="pbx",
            caller=f"sip:{number}@pbx",
            called="100",
            started_at=began,
            protocol_id=new_id(),
        )
        yield 1
        store.answer_call(call, began + timedelta(milliseconds=700))
        yield 1
        for seq in range(EVENTS):
            kind = "level" if seq % 3 else "turn.committed"
            data = {"text": f"{call} sagt „{seq}“ " + "word " * (number % 7), "n": seq}
            store.append(call, [Event(call, seq, seq * 400, kind, data)])
            yield 1
            if seq % 4 == 0:
                store.record_usage(
                    call, provider="llama", kind="prompt", unit="tokens", quantity=seq + number
                )
                yield 1
        store.end_call(call, cause="caller", ended_at=began + timedelta(seconds=EVENTS))
        yield 1 + len(range(0, EVENTS, 3))
        store.report("fleet", "health", {"calls": number, "cpu_percent": number % 100})
        yield 1


async def run(plan: Plan) -> None:
    """Do what the plan says until SIGTERM."""
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    boxes = [await Box.open(Path(folder), plan) for folder in plan.folders]
    before, quiet = loop.time(), False
    while not stopping.is_set():
        await asyncio.sleep(TICK_S)
        now, producing = loop.time(), Path(plan.produce).exists()
        _limit_files(full=Path(plan.full).exists())
        if producing:
            quiet = False
            for box in boxes:
                box.work((now - before) * plan.rate)
        elif not quiet:
            with contextlib.suppress(StoreError):
                said = Quiet(os.getpid(), sum([await box.short() for box in boxes]))
                Path(plan.quiet).write_text(json.dumps(asdict(said)))
                quiet = True
        before = now
    for box in boxes:
        await asyncio.to_thread(box.close)


def _rows(store: Store) -> int:
    return sum(part.last for part in store.outbox_parts())


def _limit_files(*, full: bool) -> None:
    """Let no file grow: what a full disk does, without one."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 if full else most, most))


def main() -> None:
    """Run the plan that is named on the command line."""
    logs.setup()
    plan = Plan(**json.loads(Path(sys.argv[1]).read_bytes()))
    link_module.RECONNECT_MAX_S = plan.reconnect_max_s
    if plan.clock_off_s:
        shift_clock(plan.clock_off_s)
    if plan.repeat:
        vars(link_module)["Connection"] = Repeating
    asyncio.run(run(plan))


if __name__ == "__main__":
    main()
