# SPDX-License-Identifier: Apache-2.0
"""What to send next: one stream's side of the link as a plain object. No socket, no clock, no disk.

    down ----connected----> asking ----any answer----> sending ----no answer in time----> asking
     ^                        |  question again, each time later, with jitter               |
     +------- disconnected ---+---------------------------------------------------------------+

A question is a batch without rows; the hub answers it like any batch, with how much it has. Nothing but the
hub's word counts: neither what was sent nor what the broker confirmed. So a lost message, a restarted
hub, and a hub restored from an older backup are all one case: send again from what it says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from appliance.wire.link import Ack, Before


@dataclass(frozen=True, slots=True)
class Limits:
    """The knobs of a stream.

    Attributes:
        batches: in flight at most; it begins with two and doubles with each answer.
        rows: of a batch, at most.
        answer_s: seconds to wait for an answer before asking.
        retry_s: seconds from the first question to the second; each later wait is twice as long.
        retry_max_s: the longest of these waits.
        idle_s: with nothing to send, the hub is asked so often: it may have been restored.
        refused_s: pause after the hub said that it cannot read what we send.
    """

    batches: int = 8
    rows: int = 500
    answer_s: float = 10.0
    retry_s: float = 5.0
    retry_max_s: float = 300.0
    idle_s: float = 300.0
    refused_s: float = 300.0


class Kept(Protocol):
    """What of one epoch is on the box's disk: numbers `floor` to `last`, acknowledged up to `acked`."""

    @property
    def epoch(self) -> str: ...  # noqa: D102
    @property
    def floor(self) -> int: ...  # noqa: D102
    @property
    def last(self) -> int: ...  # noqa: D102
    @property
    def acked(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Want:
    """What to read and send now: rows from `first` on, `most` at most; 0 is a question, without rows."""

    stream: str
    epoch: str
    first: int
    most: int
    floor: int
    before: Before | None


@dataclass(slots=True)
class _Part:
    epoch: str
    floor: int
    last: int
    acked: int


REPEATS = 3
"""Answers that say the same while batches are in flight: one of these was lost."""

_OPENING = 2
"""Batches in flight after a question."""


class Sender:
    """One stream.

    Args:
        stream: its name.
        kept: what is on the disk, oldest epoch first.
        limits: the knobs.
        random: uniform in [0, 1), for the jitter.
    """

    def __init__(
        self, stream: str, kept: Iterable[Kept], limits: Limits, random: Callable[[], float]
    ) -> None:
        self.stream = stream
        self.fault = ""
        """Why the hub does not take what we send, or ""."""
        self._limits = limits
        self._random = random
        self._parts = [_Part(one.epoch, one.floor, one.last, one.acked) for one in kept]
        self._index = 0  # of the first part that is not whole at the hub
        self._up = False
        self._asking = False
        self._due = (
            0.0  # asking: when to ask again; sending: when an answer is late; idle: when to ask
        )
        self._asked = 0
        self._pause_until = 0.0
        self._cursor = 1
        self._flying: deque[int] = deque()  # last number of each batch in flight
        self._window = _OPENING
        self._repeats = 0

    # -- what happened -----------------------------------------------------------------------

    def connected(self, now: float) -> None:
        """The broker is there: ask the hub how far it is."""
        self._up = True
        self._ask(now)

    def disconnected(self) -> None:
        """The broker is gone, and with it perhaps all that was in flight."""
        self._up = False
        self._flying.clear()

    def wrote(self, epoch: str, last: int) -> None:
        """Rows up to `last` are on the disk."""
        part = self._find(epoch)
        if part is None:
            self._parts.append(_Part(epoch, 1, last, 0))
        else:
            part.last = max(part.last, last)

    def refresh(self, kept: Iterable[Kept]) -> None:
        """Old rows were deleted: take over what is still there."""
        there = {one.epoch: one for one in kept}
        current = self._current()
        for part in self._parts:
            one = there.get(part.epoch)
            if one is not None:
                part.floor = max(part.floor, one.floor)
                part.acked = max(part.acked, part.floor - 1)
        self._parts = [
            part for part in self._parts if part.epoch in there or part.acked < part.last
        ]
        self._index = 0
        if self._current() is not current:
            self._rewind()
        elif current is not None:
            self._cursor = max(self._cursor, current.acked + 1)

    def acknowledged(self, ack: Ack, now: float) -> bool:
        """The hub has told how much it has; return whether that is news to be noted on the disk."""
        part = self._find(ack.epoch)
        if part is None:
            return False
        self.fault = ""
        self._pause_until = now + ack.pause_ms / 1000
        seq = max(min(ack.seq, part.last), part.floor - 1)
        news = seq != part.acked
        if seq < part.acked:
            self._lost_by_hub(part, seq, now)
        elif seq > part.acked:
            self._progress(part, seq, now)
        elif self._flying and not self._asking:
            self._repeats += 1
            if self._repeats >= REPEATS:
                self._rewind()
                self._wait(now)
        if self._asking:
            self._asking = False
            self._rewind()
            self._wait(now)
        return news

    def refused(self, why: str, now: float) -> None:
        """The hub cannot read what we send. All is kept, and tried again later."""
        if not self._parts:
            return
        self.fault = why
        self._flying.clear()
        self._ask(now)
        self._pause_until = now + self._limits.refused_s

    # -- what to do --------------------------------------------------------------------------

    def next(self, now: float) -> Want | None:
        """Return what to send now, or None. Tell with `sent` what became of it."""
        if not self._up or now < self._pause_until or not self._parts:
            return None
        if not self._asking and self._late(now):
            self._ask(now)
        if self._asking:
            return self._question() if now >= self._due else None
        part = self._current()
        if part is None or len(self._flying) >= self._window or self._cursor > part.last:
            return None
        self._cursor = max(self._cursor, part.acked + 1)
        return self._want(part, self._cursor, self._limits.rows)

    def sent(self, want: Want, rows: int, now: float) -> None:
        """`rows` rows of `want` were given to the broker; for a question 0."""
        if want.most == 0:
            wait = min(self._limits.retry_s * 2**self._asked, self._limits.retry_max_s)
            self._due = now + wait * (0.5 + self._random() / 2)
            self._asked = min(self._asked + 1, 30)
        elif rows:
            if not self._flying:
                self._wait(now)
            self._cursor = want.first + rows
            self._flying.append(self._cursor - 1)
            self.wrote(want.epoch, self._cursor - 1)  # they may be newer than what we were told

    def wake_at(self, now: float) -> float | None:
        """Return when to call `next` again if nothing happens before; None is never."""
        if not self._up or not self._parts:
            return None
        if now < self._pause_until:
            return self._pause_until
        part = self._current()
        if (
            not self._asking
            and part is not None
            and len(self._flying) < self._window
            and self._cursor <= part.last
        ):
            return now
        return self._due

    # -- within ------------------------------------------------------------------------------

    def _ask(self, now: float) -> None:
        self._asking, self._asked, self._due, self._repeats = True, 0, now, 0

    def _late(self, now: float) -> bool:
        """Whether an answer is late, or with nothing in flight the hub was not asked for long."""
        return now >= self._due and (bool(self._flying) or self._current() is None)

    def _wait(self, now: float) -> None:
        self._due = now + (self._limits.answer_s if self._current() else self._limits.idle_s)

    def _progress(self, part: _Part, seq: int, now: float) -> None:
        part.acked = seq
        self._repeats = 0
        self._window = min(self._window * 2, self._limits.batches)
        before = self._parts[self._index] if self._index < len(self._parts) else None
        if before is not part:  # not the part in flight: only what it lacked has shrunk
            return
        while self._flying and self._flying[0] <= seq:
            self._flying.popleft()
        self._cursor = max(self._cursor, seq + 1)
        if part.acked >= part.last:
            self._rewind()
        self._wait(now)

    def _lost_by_hub(self, part: _Part, seq: int, now: float) -> None:
        """It was restored from an older backup: it lacks the rest of this epoch and all that came later."""
        position = self._parts.index(part)
        part.acked = seq
        for later in self._parts[position + 1 :]:
            later.acked = later.floor - 1
        self._index = min(self._index, position)
        self._rewind()
        self._wait(now)

    def _rewind(self) -> None:
        """Send from what the hub has, carefully at first."""
        self._flying.clear()
        self._repeats = 0
        self._window = _OPENING
        part = self._current()
        if part is not None:
            self._cursor = part.acked + 1

    def _current(self) -> _Part | None:
        while self._index < len(self._parts):
            part = self._parts[self._index]
            if part.acked < part.last:
                return part
            if self._index == len(self._parts) - 1:
                return None
            self._index += 1
            self._cursor = self._parts[self._index].acked + 1
        return None

    def _find(self, epoch: str) -> _Part | None:
        return next((part for part in reversed(self._parts) if part.epoch == epoch), None)

    def _question(self) -> Want:
        part = self._current() or self._parts[-1]
        return self._want(part, part.last + 1, 0)

    def _want(self, part: _Part, first: int, most: int) -> Want:
        position = self._index if part is self._parts[self._index] else self._parts.index(part)
        earlier = self._parts[position - 1] if position else None
        before = None
        if earlier is not None and earlier.floor <= earlier.last:
            before = Before(epoch=earlier.epoch, last=earlier.last)
        return Want(self.stream, part.epoch, first, most, part.floor, before)
