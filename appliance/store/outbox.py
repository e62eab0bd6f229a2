# SPDX-License-Identifier: Apache-2.0
"""The outbox: facts for the hub, written in the transaction of the fact they report.

Jobs of the writer put rows here while they run; at the end of their transaction all are numbered and
inserted by one statement. Each life of the program writes under an epoch of its own, so that a box
restored from a backup never gives a number twice.

Rows stay until the hub has acknowledged them, and then as long as `Upkeep.keep` says, so that a hub that was
restored from an older backup can be told again. Out of room, acknowledged rows go first, then the events of
calls, oldest first, each replaced by a row that says so. Everything else stays, whatever the size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlite_utils import Database

from appliance.store.policy import Gate, Policy
from appliance.store.records import from_text
from appliance.wire.ids import new_id, to_text
from appliance.wire.link import DROPPED, MAX_ROW_BYTES

ROW_BYTES = 80
"""What a row takes beside its data, about."""

STEP = 1000
"""Rows that one step of the upkeep may touch: calls' facts wait for it."""

EXPENDABLE = "call.event"
"""The one kind that may be given up: transcript, usage and how a call went are in other rows."""

Listener = Callable[[str, str, int], None]


@dataclass(frozen=True, slots=True)
class OutboxPart:
    """What one life of the program wrote to one stream; see the table."""

    stream: str
    epoch: str
    floor: int
    last: int
    acked: int
    bytes: int


_CLOCK = 0
"""The part under which `outbox_marks` keeps the time of the last step; real parts begin at 1."""

_NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Upkeep:
    """How long and how much.

    Attributes:
        keep: acknowledged rows stay so long, in time that the box was running.
        max_bytes: what all rows may take together.
        gap: the most that can pass between two steps; if the clock says more, it was set or the box was off.
    """

    keep: timedelta = timedelta(days=7)
    max_bytes: int = 8 * 2**30
    gap: timedelta = timedelta(hours=1)


@dataclass(slots=True)
class _Part:
    """The part that this life writes to."""

    id: int
    last: int


class Outbox:
    """Numbers and writes rows. All but `listen` is called on the writer's thread.

    Args:
        enabled: without it nothing is written: the box belongs to no hub.
        policy: what may leave the site.
    """

    def __init__(self, *, enabled: bool, policy: Policy | None = None) -> None:
        self.enabled = enabled
        self.gate = Gate(policy or Policy())
        self.epoch = ""
        self._box = ""
        self._rows: list[tuple[str, str, str, str]] = []  # stream, kind, at, data
        self._parts: dict[str, _Part] = {}
        self._pending: dict[str, _Part] = {}  # takes effect with the commit
        self._listener: Listener = lambda *_: None

    def listen(self, listener: Listener) -> None:
        """Have `listener(stream, epoch, last)` called after each commit with rows, on the writer's thread."""
        self._listener = listener

    def attach(self, _: Database) -> None:
        """Begin an epoch: a file was opened."""
        self.epoch = new_id()
        self._parts.clear()

    def own(self, db: Database, box_id: str) -> int:
        """Give what was written for nobody to this hub identity; keep from it what was written for another.

        Returns:
            Rows that are kept from it.
        """
        if self._rows:  # reported before, in this very transaction
            self._insert(db)
            self._rows.clear()
        self._box = box_id
        db.execute("UPDATE outbox_parts SET box = ? WHERE box = ''", (box_id,))
        withheld = db.execute(
            "SELECT coalesce(sum(last - acked), 0) FROM outbox_parts WHERE box <> ?", (box_id,)
        ).fetchone()[0]
        db.execute("UPDATE outbox_parts SET acked = last WHERE box <> ?", (box_id,))
        if db.execute(
            "SELECT 1 FROM outbox_parts WHERE epoch = ? AND box <> ?", (self.epoch, box_id)
        ).fetchone():
            self._pending.clear()
            self.attach(db)
        return int(withheld)

    def add(self, stream: str, kind: str, data: Mapping[str, Any], at: str) -> None:
        """Put into the running transaction what may leave of a fact."""
        if self.enabled:
            allowed = self.gate.apply(kind, data)
            if allowed is not None:
                self._put(stream, kind, json_text(allowed), at)

    def add_text(self, stream: str, kind: str, data: str, at: str) -> None:
        """The same with the data as JSON text, which is only parsed where the policy asks for it."""
        if not self.enabled:
            return
        if self.gate.looks_into(kind):
            self.add(stream, kind, json.loads(data), at)
        else:
            self._put(stream, kind, data, at)

    def _put(self, stream: str, kind: str, data: str, at: str) -> None:
        if len(data) > MAX_ROW_BYTES:
            kind, data = DROPPED, _dropped(kind, "too large for one message", len(data))
        self._rows.append((stream, kind, at, data))

    @contextmanager
    def transaction(self, db: Database) -> Iterator[None]:
        """What is added inside is inserted at its end, or forgotten when it fails."""
        self._rows.clear()
        self._pending.clear()
        try:
            yield
            if self._rows:
                self._insert(db)
        finally:
            self._rows.clear()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What is added inside is forgotten when it fails."""
        mark = len(self._rows)
        try:
            yield
        except BaseException:
            del self._rows[mark:]
            raise

    def committed(self) -> None:
        """The transaction is on the disk: its numbers are given."""
        for stream, part in self._pending.items():
            self._parts[stream] = part
            self._listener(stream, self.epoch, part.last)
        self._pending.clear()

    def _insert(self, db: Database) -> None:
        added: dict[str, int] = {}
        values: list[tuple[int, int, str, str, str]] = []
        for stream, kind, at, data in self._rows:
            part = self._pending.get(stream)
            if part is None:
                part = self._pending[stream] = self._part(db, stream)
            part.last += 1
            added[stream] = added.get(stream, 0) + len(data) + ROW_BYTES
            values.append((part.id, part.last, kind, at, data))
        db.conn.executemany("INSERT INTO outbox VALUES (?, ?, ?, ?, ?)", values)
        for stream, size in added.items():
            part = self._pending[stream]
            db.execute(
                "UPDATE outbox_parts SET last = ?, bytes = bytes + ? WHERE id = ?",
                (part.last, size, part.id),
            )

    def _part(self, db: Database, stream: str) -> _Part:
        known = self._parts.get(stream)
        if known is not None:
            return _Part(known.id, known.last)
        row = db.execute(
            "INSERT INTO outbox_parts (stream, epoch, floor, last, acked, thinned, bytes, box) "
            "VALUES (?, ?, 1, 0, 0, 0, 0, ?) RETURNING id",
            (stream, self.epoch, self._box),
        ).fetchone()
        return _Part(int(row[0]), 0)


def acknowledge(db: Database, stream: str, epoch: str, seq: int) -> None:
    """Note how much the hub has. Less than it had means that it was restored from an older backup: what it
    has lost, later epochs included, is unacknowledged again.
    """
    found = db.execute(
        "SELECT id, floor, last, acked FROM outbox_parts WHERE stream = ? AND epoch = ?",
        (stream, epoch),
    ).fetchone()
    if found is None:
        return
    part, floor, last, acked = (int(value) for value in found)
    db.execute(
        "UPDATE outbox_parts SET acked = ? WHERE id = ?", (min(max(seq, floor - 1), last), part)
    )
    if seq < acked:
        db.execute("DELETE FROM outbox_marks WHERE part = ? AND seq > ?", (part, seq))
        later = "SELECT id FROM outbox_parts WHERE stream = ? AND id > ?"
        db.execute(f"DELETE FROM outbox_marks WHERE part IN ({later})", (stream, part))  # noqa: S608
        db.execute(
            "UPDATE outbox_parts SET acked = floor - 1 WHERE stream = ? AND id > ?", (stream, part)
        )


def tidy(db: Database, upkeep: Upkeep, epoch: str, now: datetime) -> bool:
    """Run one bounded step of the upkeep; return whether there is more to do at once.

    Args:
        db: in a transaction.
        upkeep: how long and how much.
        epoch: of this life; its parts stay even when they are empty.
        now: the time.
    """
    _let_time_pass(db, now, upkeep.gap)
    db.execute(
        "INSERT INTO outbox_marks SELECT id, acked, ? FROM outbox_parts WHERE acked >= floor AND "
        "acked > coalesce((SELECT max(seq) FROM outbox_marks WHERE part = id), 0)",
        (to_text(now),),
    )
    due = db.execute(
        "SELECT p.id, max(m.seq) FROM outbox_parts p JOIN outbox_marks m ON m.part = p.id "
        "WHERE m.at <= ? AND m.seq >= p.floor GROUP BY p.id ORDER BY p.id LIMIT 1",
        (to_text(now - upkeep.keep),),
    ).fetchone()
    if due is None and _size(db) > upkeep.max_bytes:
        due = db.execute(
            "SELECT id, acked FROM outbox_parts WHERE acked >= floor ORDER BY id LIMIT 1"
        ).fetchone()
        if due is None:
            return _thin(db)
    if due is not None:
        _delete(db, int(due[0]), int(due[1]))
        return True
    db.execute(
        "DELETE FROM outbox_parts WHERE floor > last AND acked = last AND epoch <> ?", (epoch,)
    )
    db.execute(
        "DELETE FROM outbox_marks WHERE part <> ? AND part NOT IN (SELECT id FROM outbox_parts)",
        (_CLOCK,),
    )
    return False


def _let_time_pass(db: Database, now: datetime, gap: timedelta) -> None:
    """Move all marks by what the clock was set since the last step: that makes no row older."""
    found = db.execute("SELECT at FROM outbox_marks WHERE part = ?", (_CLOCK,)).fetchone()
    passed = now - from_text(found[0]) if found else timedelta()
    if found and timedelta() <= passed < _NOTED_EVERY:
        return
    db.execute("INSERT OR REPLACE INTO outbox_marks VALUES (?, 0, ?)", (_CLOCK, to_text(now)))
    jump = passed - min(max(passed, timedelta()), gap)
    if not jump:
        return
    marks = db.execute("SELECT part, seq, at FROM outbox_marks WHERE part <> ?", (_CLOCK,))
    for part, seq, at in marks.fetchall():
        db.execute(
            "UPDATE outbox_marks SET at = ? WHERE part = ? AND seq = ?",
            (to_text(from_text(at) + jump), part, seq),
        )


def _delete(db: Database, part: int, up_to: int) -> None:
    """Delete the oldest rows of a part, at most `STEP`, not beyond `up_to`."""
    floor = int(db.execute("SELECT floor FROM outbox_parts WHERE id = ?", (part,)).fetchone()[0])
    end = min(up_to, floor + STEP - 1)
    size = db.execute(
        "SELECT coalesce(sum(length(data) + ?), 0) FROM outbox WHERE part = ? AND seq <= ?",
        (ROW_BYTES, part, end),
    ).fetchone()[0]
    db.execute("DELETE FROM outbox WHERE part = ? AND seq <= ?", (part, end))
    db.execute(
        "UPDATE outbox_parts SET floor = ?, bytes = max(bytes - ?, 0) WHERE id = ?",
        (end + 1, size, part),
    )


def _thin(db: Database) -> bool:
    """Replace the oldest events by rows that say so; return whether there are more rows to look at."""
    found = db.execute(
        "SELECT id, max(thinned, acked), last FROM outbox_parts WHERE max(thinned, acked) < last "
        "ORDER BY id LIMIT 1"
    ).fetchone()
    if found is None:
        return False
    part, start, last = (int(value) for value in found)
    end = min(start + STEP, last)
    rows = db.execute(
        "SELECT seq, length(data) FROM outbox WHERE part = ? AND seq > ? AND seq <= ? AND kind = ?",
        (part, start, end, EXPENDABLE),
    ).fetchall()
    freed = 0
    for seq, size in rows:
        said = _dropped(EXPENDABLE, "no room", size)
        freed += size - len(said)
        db.execute(
            "UPDATE outbox SET kind = ?, data = ? WHERE part = ? AND seq = ?",
            (DROPPED, said, part, seq),
        )
    db.execute(
        "UPDATE outbox_parts SET thinned = ?, bytes = bytes - ? WHERE id = ?", (end, freed, part)
    )
    return True


def _size(db: Database) -> int:
    return int(db.execute("SELECT coalesce(sum(bytes), 0) FROM outbox_parts").fetchone()[0])


def _dropped(kind: str, reason: str, size: int) -> str:
    return json_text({"kind": kind, "reason": reason, "size": size})


def json_text(data: object) -> str:
    """Return compact JSON that every database can read.

    Raises:
        TypeError: the data is not JSON.
        ValueError: it holds a number that JSON has not (NaN, infinity).
    """
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
