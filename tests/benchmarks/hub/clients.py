# SPDX-License-Identifier: Apache-2.0
"""One client process: some hundreds of boxes on one event loop. Started by `connect`.

Each box decides what to send by `appliance.sync.outbox`, as a real one does; its rows are kept in
memory instead of on a disk. It prints a line when all are connected, begins at the monotonic time
that it reads, and writes what became of it as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.sync.outbox import Outbox
from appliance.sync.sender import Limits, Want
from appliance.wire import Ack, Batch, Presence, encode_batch, new_id, now_text, topics
from tests.benchmarks.hub.mqtt import Mqtt, MqttError
from tests.benchmarks.hub.said import Fact, Told, calls
from tests.benchmarks.hub.stand import box_context

CONNECTING = 20
"""Connections begun at once."""

TICK_S = 0.2
BATCH_ROWS = 300
RECONNECT_S = 2.0
CONNECT_WITHIN_S = 600.0


@dataclass(frozen=True)
class Orders:
    """What a client process is to do.

    Attributes:
        boxes: (box id, file of certificate and key).
        rate: events a second, of all its boxes together.
        seconds: for so long.
        settle_s: to wait for the last acknowledgements.
    """

    ca: str
    port: int
    boxes: Sequence[tuple[str, str]]
    rate: float
    seconds: float
    settle_s: float
    seed: int


class Box:
    """A box of the load."""

    def __init__(self, box_id: str) -> None:
        self.box_id = box_id
        self.told = Told()
        self.acked = 0
        self.sent = 0
        self.delays: list[float] = []
        self.last_ack = 0.0
        self.refused = 0
        self._epoch, self._session = new_id(), new_id()
        self._facts: Iterator[Fact] = calls()
        self._rows: list[tuple[int, str, str, str]] = []
        self._due: list[float] = []
        self._outbox = Outbox((), Limits(), random.random)
        self._mqtt = Mqtt(self._heard)

    async def connect(self, orders: Orders, file: str) -> None:
        """Connect, say so, and say the first fact; the box's stream is set up with it."""
        down = topics.down_all(self.box_id)
        will = (self._topic(topics.PRESENCE), self._presence(online=False))
        context = await asyncio.to_thread(box_context, orders.ca, file)
        deadline = time.monotonic() + CONNECT_WITHIN_S
        while True:
            try:
                await self._mqtt.open(orders.port, context, self.box_id, will, down)
                break
            except (MqttError, OSError):  # thousands come at once: as a real box, it comes again
                if time.monotonic() > deadline:
                    raise
                self.refused += 1
                await asyncio.sleep(RECONNECT_S * (0.5 + random.random() / 2))
        self._mqtt.publish(self._topic(topics.PRESENCE), self._presence(online=True))
        self._outbox.connected(time.monotonic())
        self.say(0.0)

    def say(self, due: float) -> None:
        """Write the next fact down, as due at `due` (0: not measured), and send what may be sent."""
        kind, data = next(self._facts)
        self.told.add(kind, data)
        self._rows.append((len(self._rows) + 1, kind, now_text(), json.dumps(data)))
        self._due.append(due)
        self._outbox.wrote(topics.CALLS, self._epoch, len(self._rows))
        self.send()

    def send(self) -> None:
        """Send what may be sent now."""
        now = time.monotonic()
        while not self._mqtt.fault and (want := self._outbox.next(now)) is not None:
            rows = self._rows[want.first - 1 :][: min(want.most, BATCH_ROWS)]
            self._mqtt.publish(self._topic(want.stream), encode_batch(_head(want), rows))
            self._outbox.sent(want, len(rows), now)
            self.sent += len(rows)

    @property
    def whole(self) -> bool:
        """Whether the hub has all of it."""
        return self.acked == len(self._rows)

    @property
    def fault(self) -> str:
        """What went wrong, or ""."""
        return self._mqtt.fault or self._outbox.fault

    async def close(self) -> None:
        """Disconnect."""
        await self._mqtt.close()

    def result(self) -> dict[str, Any]:
        """Return what became of it, as JSON."""
        return {
            "rows": len(self._rows),
            "sent": self.sent,
            "acked": self.acked,
            "told": {
                "rows": self.told.rows,
                "quantity": self.told.quantity,
                "ended": self.told.ended,
            },
            "delays": self.delays,
            "last_ack": self.last_ack,
            "refused": self.refused,
            "fault": self.fault,
        }

    def _heard(self, topic: str, payload: bytes) -> None:
        if not topic.endswith(f"/{topics.ACK}"):
            return
        now, ack = time.monotonic(), Ack.decode(payload)
        self._outbox.acknowledged(ack, now)
        if ack.epoch == self._epoch and ack.seq > self.acked:
            newly = self._due[self.acked : ack.seq]
            self.delays += [now - due for due in newly if due]
            self.acked, self.last_ack = ack.seq, now
        self.send()

    def _topic(self, what: str) -> str:
        return topics.up(self.box_id, what)

    def _presence(self, *, online: bool) -> bytes:
        return Presence(session=self._session, online=online, at=now_text()).encode()


def _head(want: Want) -> Batch:
    return Batch(
        epoch=want.epoch,
        stream=want.stream,
        first=want.first,
        floor=want.floor,
        before=want.before,
    )


async def run(orders: Orders, output: Path) -> None:
    """Connect all boxes, wait for the word, say facts at the rate, wait for the acknowledgements."""
    boxes = [Box(box_id) for box_id, _ in orders.boxes]
    slots = asyncio.Semaphore(CONNECTING)

    async def connect(box: Box, file: str) -> None:
        async with slots:
            await box.connect(orders, file)

    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for box, (_, file) in zip(boxes, orders.boxes, strict=True):
            group.create_task(connect(box, file))
    connected_s = time.monotonic() - begun
    ticking = asyncio.create_task(_tick(boxes))
    await _whole(boxes, CONNECT_WITHIN_S)
    sys.stdout.write("connected\n")
    sys.stdout.flush()
    start = float(await asyncio.to_thread(sys.stdin.readline))
    late = await _speak(boxes, orders, start)
    await _whole(boxes, orders.settle_s)
    ticking.cancel()
    result = {box.box_id: box.result() for box in boxes}
    output.write_text(json.dumps({"boxes": result, "late": late, "connected_s": connected_s}))
    await asyncio.gather(*(box.close() for box in boxes))


async def _speak(boxes: Sequence[Box], orders: Orders, start: float) -> list[float]:
    """Say facts when they are due, whatever the hub does; return how late each was said."""
    chance = random.Random(orders.seed)
    late, due = [], start
    while (due := due + chance.expovariate(orders.rate)) < start + orders.seconds:
        if (wait := due - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        late.append(time.monotonic() - due)
        chance.choice(boxes).say(due)
    return late


async def _tick(boxes: Sequence[Box]) -> None:
    while True:
        await asyncio.sleep(TICK_S)
        for box in boxes:
            box.send()


async def _whole(boxes: Sequence[Box], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not all(box.whole or box.fault for box in boxes):
        if time.monotonic() > deadline:
            return
        await asyncio.sleep(0.05)


def main() -> None:
    """Do what the file of orders says: ORDERS OUTPUT."""
    orders = Orders(**json.loads(Path(sys.argv[1]).read_text()))
    asyncio.run(run(orders, Path(sys.argv[2])))


if __name__ == "__main__":
    main()
