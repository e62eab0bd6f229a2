# SPDX-License-Identifier: Apache-2.0
"""Reading the store, beside the writer or from another process. Quick queries; any thread may ask."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Self

from sqlite_utils import Database

from appliance.store import database
from appliance.store.outbox import ROW_BYTES, OutboxPart
from appliance.store.records import Appointment, CallRecord, Event, Line, Usage, from_text
from appliance.store.transcript import transcript
from appliance.wire.ids import to_text


class Reader:
    """Read-only access to a store.

    Sees what was committed: after `Store.append`, call `Store.sync` first if it must be there. It is a
    context manager.

    Args:
        path: the file.

    Raises:
        StoreError: there is none, or it cannot be read. Queries raise the same.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._db: Database | None = database.open_for_reading(path)

    def close(self) -> None:
        """Release the file; a later query opens it again. Idempotent."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def calls(
        self,
        limit: int = 50,
        *,
        id_prefix: str = "",
        agent: str = "",
        caller: str = "",
        called: str = "",
        cause: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        going_on: bool | None = None,
    ) -> list[CallRecord]:
        """Return calls, newest first.

        Args:
            limit: how many at most.
            id_prefix: only those whose id begins so.
            agent: only this agent's.
            caller: only callers whose address contains this.
            called: only those that dialled this number.
            cause: only those that ended so.
            since: only those that began at this time or later.
            until: only those that began before.
            going_on: True for those not ended, False for those ended, None for both.
        """
        filters: list[tuple[str, object]] = []
        for column, value in (("agent", agent), ("called", called), ("cause", cause)):
            if value:
                filters.append((f"{column} = ?", value))
        if id_prefix:
            filters.append(("instr(id, ?) = 1", id_prefix))
        if caller:
            filters.append(("instr(caller, ?) > 0", caller))
        if since is not None:
            filters.append(("started_at >= ?", to_text(since)))
        if until is not None:
            filters.append(("started_at < ?", to_text(until)))
        if going_on is not None:
            filters.append(("(ended_at IS NULL) = ?", int(going_on)))
        where = " AND ".join(condition for condition, _ in filters) or "1"
        rows = self._rows(
            f"SELECT * FROM calls WHERE {where} ORDER BY started_at DESC, id DESC LIMIT ?",  # noqa: S608 - values are bound
            [*(value for _, value in filters), limit],
        )
        return [_call(row) for row in rows]

    def call(self, call_id: str) -> CallRecord | None:
        """Return one call, or None."""
        rows = self._rows("SELECT * FROM calls WHERE id = ?", [call_id])
        return _call(rows[0]) if rows else None

    def events(self, call_id: str) -> list[Event]:
        """Return a call's log, in order."""
        rows = self._rows("SELECT * FROM events WHERE call_id = ? ORDER BY seq", [call_id])
        return [Event(**{**row, "data": json.loads(row["data"])}) for row in rows]

    def transcript(self, call_id: str) -> list[Line]:
        """Return what was said in a call, read from its log."""
        return transcript(self.events(call_id))

    def usage(self, call_id: str) -> list[Usage]:
        """Return what a call used."""
        sql = "SELECT * FROM usage WHERE call_id = ? ORDER BY provider, kind, unit"
        return [Usage(**row) for row in self._rows(sql, [call_id])]

    def appointments(
        self, calendar: str | None = None, *, since: date | None = None, until: date | None = None
    ) -> list[Appointment]:
        """Return appointments in order of time, from day `since` up to and including day `until`."""
        rows = self._rows(
            "SELECT * FROM appointments WHERE calendar = coalesce(?, calendar) "
            "AND date BETWEEN ? AND ? ORDER BY date, time, calendar",
            [calendar, (since or date.min).isoformat(), (until or date.max).isoformat()],
        )
        return [appointment(row) for row in rows]

    def outbox_parts(self, box_id: str | None = None) -> list[OutboxPart]:
        """Return what each life of the program wrote for the hub and is still here, oldest first.

        Args:
            box_id: only what is for this hub identity.
        """
        sql = (
            "SELECT stream, epoch, floor, last, acked, bytes FROM outbox_parts "
            "WHERE box = coalesce(?, box) ORDER BY id"
        )
        return [OutboxPart(**row) for row in self._rows(sql, [box_id])]

    def outbox_rows(
        self, stream: str, epoch: str, first: int, *, most: int, max_bytes: int
    ) -> list[tuple[int, str, str, str]]:
        """Return (seq, kind, at, data as JSON text) from `first` on, in order.

        As many as fit in `max_bytes`, but at least one, and `most` at most.
        """
        rows = self._rows(
            "SELECT seq, kind, at, data FROM outbox WHERE part = (SELECT id FROM outbox_parts "
            "WHERE stream = ? AND epoch = ?) AND seq >= ? ORDER BY seq LIMIT ?",
            [stream, epoch, first, most],
        )
        found: list[tuple[int, str, str, str]] = []
        size = 0
        for row in rows:
            size += len(row["data"]) + ROW_BYTES
            if found and size > max_bytes:
                break
            found.append((row["seq"], row["kind"], row["at"], row["data"]))
        return found

    def _rows(self, sql: str, parameters: Sequence[object]) -> list[dict[str, Any]]:
        with self._lock:
            try:
                if self._db is None:
                    self._db = database.open_for_reading(self.path)
                return list(self._db.query(sql, parameters))
            except sqlite3.Error as error:
                raise database.explain(error, self.path) from error


def _call(row: Mapping[str, Any]) -> CallRecord:
    times = {
        key: from_text(row[key]) if row[key] else None
        for key in ("started_at", "answered_at", "ended_at")
    }
    return CallRecord(**{**row, **times})


def appointment(row: Mapping[str, Any]) -> Appointment:
    """Return the appointment that a row of its table holds."""
    return Appointment(
        calendar=row["calendar"],
        date=date.fromisoformat(row["date"]),
        time=time.fromisoformat(row["time"]),
        name=row["name"],
        call_id=row["call_id"],
        idempotency_key=row["idempotency_key"],
        created_at=from_text(row["created_at"]),
    )
