# SPDX-License-Identifier: Apache-2.0
"""The store that a running box owns: everything a `Reader` can, and writing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from appliance.store.database import FileLock
from appliance.store.errors import SlotTakenError
from appliance.store.reader import Reader, appointment
from appliance.store.records import CRASHED, Appointment, EventLike, from_text, to_text
from appliance.store.writer import Writer

STORE_FILE = "trunkline.db"
"""Its name in the box's data folder."""

UNITS = frozenset({"seconds", "tokens", "characters"})


class Store(Reader):
    """Calls, events, usage and appointments of one box.

    What reports a fact (`begin_call`, `append`, ...) never blocks and is on the disk within 200 ms, or
    after `sync`. Facts of a call are committed in the order they were reported. While the disk
    fails they wait in memory and `fault` says why. Only one process at a time can open a store.
    """

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open or make the store; blocks for as long as the check of the file takes.

        A damaged file is renamed, with a loud log entry, and a new one begun.

        Raises:
            StoreError: see `appliance.store.errors`.
        """
        lock = FileLock(path)
        try:
            writer = Writer(path)
            return cls(path, writer, lock)
        except BaseException:
            lock.release()
            raise

    def __init__(self, path: Path, writer: Writer, lock: FileLock) -> None:
        super().__init__(path)
        self._writer = writer
        self._lock_file = lock
        self._opened = writer.opened

    @property
    def fault(self) -> str:
        """Why facts cannot be written now, with the remedy, or ""."""
        return self._writer.fault

    @property
    def lost(self) -> int:
        """Facts lost because they could not be written for too long."""
        return self._writer.lost

    def close(self) -> None:
        """Commit everything and release the file. Blocks; idempotent."""
        self._writer.close()
        super().close()
        self._lock_file.release()

    async def aclose(self) -> None:
        """`close`, without blocking the event loop."""
        await asyncio.to_thread(self.close)

    async def sync(self) -> None:
        """Wait until all facts reported so far are on the disk.

        Raises:
            StoreError: they are not, and why; they stay in memory and are tried again.
        """
        await asyncio.wrap_future(self._writer.request("sync", lambda _: None))

    # -- facts -------------------------------------------------------------------------------

    def begin_call(
        self,
        call_id: str,
        *,
        agent: str,
        started_at: datetime,
        caller: str = "",
        called: str = "",
        direction: str = "inbound",
        agent_version: str = "",
        transport: str = "",
        trunk: str = "",
        protocol_id: str = "",
        recording_path: str = "",
    ) -> None:
        """A call exists from here on. The arguments are those of `CallRecord`."""
        row = {
            "id": call_id,
            "agent": agent,
            "agent_version": agent_version,
            "transport": transport,
            "trunk": trunk,
            "direction": direction,
            "caller": caller,
            "called": called,
            "protocol_id": protocol_id,
            "started_at": to_text(started_at),
            "recording_path": recording_path,
        }
        self._writer.put(f"call {call_id}", lambda db: db.table("calls").insert(row))

    def answer_call(self, call_id: str, answered_at: datetime) -> None:
        """Media flows: `t_ms` of the call's events counts from here."""
        self._update_call(call_id, answered_at=to_text(answered_at))

    def end_call(
        self, call_id: str, *, cause: str, ended_at: datetime, recording_path: str | None = None
    ) -> None:
        """The call is over. `recording_path` changes what `begin_call` said, where it is given."""
        changes = {"cause": cause, "ended_at": to_text(ended_at)}
        if recording_path is not None:
            changes["recording_path"] = recording_path
        self._update_call(call_id, **changes)

    def append(self, call_id: str, events: Iterable[EventLike]) -> None:
        """Add events to a call's log. Their data is taken as it is now.

        Raises:
            TypeError: an event's data is not JSON.
        """
        rows = [
            (call_id, event.seq, event.t_ms, event.kind, _to_json(event.data)) for event in events
        ]
        if rows:
            self._writer.put(f"events of {call_id}", lambda db: _insert_events(db, rows))

    def record_usage(
        self, call_id: str, *, provider: str, kind: str, unit: str, quantity: int
    ) -> None:
        """Add to what a call used of a provider; `kind` tells apart what is priced apart (`prompt`).

        Raises:
            ValueError: the unit is none of `UNITS`, or the quantity is negative.
        """
        if unit not in UNITS or quantity < 0:
            raise ValueError(f"cannot record {quantity} {unit}; units are {sorted(UNITS)}")
        row = (call_id, provider, kind, unit, quantity)
        self._writer.put(
            f"usage of {call_id}",
            lambda db: db.execute(
                "INSERT INTO usage VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET quantity = quantity + excluded.quantity",
                row,
            ),
        )

    # -- requests ----------------------------------------------------------------------------

    async def book(
        self,
        *,
        name: str,
        on: date,
        at: time,
        call_id: str,
        idempotency_key: str,
        calendar: str = "",
    ) -> Appointment:
        """Enter an appointment; it is on the disk when this returns.

        The same `idempotency_key` again changes nothing and returns the first booking.

        Args:
            name: for whom.
            on: the day.
            at: the time of day, to the minute.
            call_id: the call that books.
            idempotency_key: unique to this wish.
            calendar: which calendar: an agent's name.

        Raises:
            SlotTakenError: somebody has that time in that calendar.
            StoreError: it could not be written; nothing is booked.
        """
        row = {
            "idempotency_key": idempotency_key,
            "calendar": calendar,
            "date": on.isoformat(),
            "time": at.strftime("%H:%M"),
            "name": name,
            "call_id": call_id,
            "created_at": to_text(datetime.now(UTC)),
        }
        return await asyncio.wrap_future(
            self._writer.request("appointment", lambda db: _book(db, row))
        )

    async def recover(self) -> list[str]:
        """Close the calls that a crash left open; return their ids. For the start, before any call.

        Each ends with cause `crashed` at the time of its last event, and its log says so.
        """
        return await asyncio.wrap_future(self._writer.request("recovery", _recover))

    def _update_call(self, call_id: str, **changes: str) -> None:
        self._writer.put(f"call {call_id}", lambda db: db.table("calls").update(call_id, changes))

    def _rows(self, sql: str, parameters: Any) -> list[dict[str, Any]]:
        if self._opened != self._writer.opened:  # a damaged file was set aside: read the new one
            self._opened = self._writer.opened
            super().close()
        return super()._rows(sql, parameters)


def _to_json(data: object) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def _insert_events(db: Database, rows: list[tuple[str, int, int, str, str]]) -> None:
    db.conn.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)


def _book(db: Database, row: dict[str, str]) -> Appointment:
    same = list(
        db.table("appointments").rows_where("idempotency_key = ?", [row["idempotency_key"]])
    )
    if same:
        return appointment(same[0])
    slot = [row["calendar"], row["date"], row["time"]]
    if db.table("appointments").count_where("calendar = ? AND date = ? AND time = ?", slot):
        raise SlotTakenError(f"{row['date']} at {row['time']} is taken")
    db.table("appointments").insert(row)
    return appointment(row)


def _recover(db: Database) -> list[str]:
    calls = list(db.query("SELECT * FROM calls WHERE ended_at IS NULL ORDER BY id"))
    for call in calls:
        found = db.execute("SELECT max(seq), max(t_ms) FROM events WHERE call_id = ?", [call["id"]])
        last_seq, last_ms = found.fetchone()
        began = from_text(call["answered_at"] or call["started_at"])
        ended = to_text(began + timedelta(milliseconds=last_ms or 0))
        db.table("calls").update(call["id"], {"cause": CRASHED, "ended_at": ended})
        seq = 0 if last_seq is None else last_seq + 1
        event = (call["id"], seq, last_ms or 0, "call.ended", _to_json({"cause": CRASHED}))
        _insert_events(db, [event])
    return [str(call["id"]) for call in calls]
