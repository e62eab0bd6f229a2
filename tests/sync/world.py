# SPDX-License-Identifier: Apache-2.0
"""A box, a network and a hub in virtual time, where everything that can go wrong does when it is told to.

The box's disk and the hub's database are plain values, copied for backups. The program between them is the
real one: `Outbox` decides, `judge` applies, messages cross as bytes.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field
from typing import NamedTuple

from appliance.sync.outbox import Outbox
from appliance.sync.sender import Limits
from appliance.wire import Ack, Batch, encode_batch, judge, new_id

STREAM = "calls"
AT = "2026-03-02T12:00:00.000Z"
LIMITS = Limits(batches=4, rows=3)
KEEP_S = 7 * 86_400.0


class Fact(NamedTuple):
    """`number` is unique in the world."""

    epoch: str
    seq: int
    number: int


@dataclass
class Part:
    stream: str
    epoch: str
    floor: int = 1
    last: int = 0
    acked: int = 0
    rows: dict[int, int] = field(default_factory=dict)
    marks: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class Hub:
    """What its database holds."""

    positions: dict[str, int] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    lost: list[tuple[str, int, int]] = field(default_factory=list)


class World:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.disk: list[Part] = []
        self.hub = Hub()
        self.disk_full = False
        self.hub_full = False
        self.up: list[bytes] = []
        self.down: list[bytes] = []
        self.counter = 0
        self.epoch = ""
        self.box_backup: list[Part] = []
        self.hub_backup = (0.0, Hub())
        self.start_box()

    # -- the box -----------------------------------------------------------------------------

    def start_box(self) -> None:
        """Begin a life of the box's program: all it knows is on the disk."""
        self.epoch = new_id()
        self.outbox = Outbox(self.disk, LIMITS, self.random.random, streams=(STREAM,))
        self.connected = False

    def connect(self) -> None:
        if not self.connected:
            self.connected = True
            self.outbox.connected(self.now)

    def disconnect(self, *, lose: bool) -> None:
        self.connected = False
        self.outbox.disconnected()
        if lose:
            self.up.clear()

    def write(self, facts: int) -> None:
        """Report facts; on a full disk they wait elsewhere (the store's tests show it)."""
        if self.disk_full:
            return
        if not self.disk or self.disk[-1].epoch != self.epoch:
            self.disk.append(Part(STREAM, self.epoch))
        part = self.disk[-1]
        for _ in range(facts):
            part.last += 1
            self.counter += 1
            part.rows[part.last] = self.counter
        self.outbox.wrote(STREAM, self.epoch, part.last)

    def send(self, batches: int) -> None:
        """Let the box send what it wants to."""
        for _ in range(batches):
            want = self.outbox.next(self.now)
            if want is None:
                return
            part = self.part(want.epoch)
            rows = [
                (seq, "x", AT, f'{{"n":{part.rows[seq]}}}')
                for seq in range(want.first, min(want.first + want.most, part.last + 1))
            ]
            head = Batch(
                epoch=want.epoch,
                stream=STREAM,
                first=want.first,
                floor=want.floor,
                before=want.before,
            )
            self.up.append(encode_batch(head, rows))
            self.outbox.sent(want, len(rows), self.now)

    def part(self, epoch: str) -> Part:
        return next(part for part in self.disk if part.epoch == epoch)

    def take_answer(self, index: int) -> None:
        ack = Ack.decode(self.down.pop(index))
        if self.outbox.acknowledged(ack, self.now) and not self.disk_full:
            self.note(ack)

    def note(self, ack: Ack) -> None:
        """What the store does with an acknowledgement."""
        position = next(n for n, part in enumerate(self.disk) if part.epoch == ack.epoch)
        part = self.disk[position]
        before, part.acked = part.acked, max(min(ack.seq, part.last), part.floor - 1)
        if part.acked < before:
            part.marks = [mark for mark in part.marks if mark[0] <= part.acked]
            for later in self.disk[position + 1 :]:
                later.acked, later.marks = later.floor - 1, []

    def tidy(self) -> None:
        """Forget what was acknowledged seven days ago."""
        for part in self.disk:
            due = [seq for seq, at in part.marks if at <= self.now - KEEP_S]
            for seq in range(part.floor, max(due, default=0) + 1):
                del part.rows[seq]
                part.floor = seq + 1
            part.marks.append((part.acked, self.now))
        self.disk = [p for p in self.disk if p.floor <= p.last or p.epoch == self.epoch]
        self.outbox.refresh(self.disk)

    # -- the hub -----------------------------------------------------------------------------

    def take_batch(self, index: int, *, crash: str = "") -> None:
        """Receive a batch; with `crash` the hub dies `before` or `after` its commit."""
        payload = self.up.pop(index)
        batch = Batch.decode(payload)
        if crash == "before" or self.hub_full:
            self.up.append(payload)  # the broker delivers again what was not confirmed
            return
        positions = self.hub.positions
        earlier = positions.get(batch.before.epoch, 0) if batch.before else 0
        verdict = judge(batch, positions.get(batch.epoch, 0), earlier)
        for row in verdict.rows:
            self.hub.facts.append(Fact(batch.epoch, row.seq, row.data["n"]))
        if verdict.lost:
            self.hub.lost.append((batch.epoch, *verdict.lost))
        if verdict.moves:
            positions[batch.epoch] = verdict.ack.seq
        if crash == "after":
            self.up.append(payload)
        else:
            self.down.append(verdict.ack.encode())

    # -- backups -----------------------------------------------------------------------------

    def back_up_box(self) -> None:
        self.box_backup = copy.deepcopy(self.disk)

    def restore_box(self) -> None:
        self.disk = copy.deepcopy(self.box_backup)
        self.start_box()

    def reset_box(self) -> None:
        self.disk = []
        self.start_box()

    def back_up_hub(self) -> None:
        self.hub_backup = (self.now, copy.deepcopy(self.hub))

    def restore_hub(self) -> None:
        """From the last backup, if that is younger than what boxes keep."""
        at, saved = self.hub_backup
        if self.now - at < KEEP_S / 2:
            self.hub = copy.deepcopy(saved)

    # -- the end -----------------------------------------------------------------------------

    def heal(self) -> None:
        """All works again: run until the box has nothing more to say."""
        self.disk_full = self.hub_full = False
        self.connect()
        for _ in range(3000):
            self.send(10)
            while self.up:
                self.take_batch(0)
            while self.down:
                self.take_answer(0)
            wake = self.outbox.wake_at(self.now)
            whole = all(self.hub.positions.get(p.epoch, 0) >= p.last for p in self.disk)
            if whole and (wake is None or wake > self.now):
                return
            self.now = max(self.now, wake if wake is not None else self.now + 1)
        raise AssertionError("the box and the hub do not come to rest")
