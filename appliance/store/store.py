# SPDX-License-Identifier: Apache-2.0
"""The store that a running box owns: everything a `Reader` can, and writing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from appliance.store import changes
from appliance.store.database import FileLock
from appliance.store.outbox import (
    Listener,
    Outbox,
    Upkeep,
    acknowledge,
    json_text,
    tidy,
)
from appliance.store.policy import Policy
from appliance.store.reader import Reader
from appliance.store.records import Appointment, EventLike
from appliance.store.writer import Writer
from appliance.wire.ids import to_text
from appliance.wire.topics import CALLS

STORE_FILE = "trunkline.db"
"""Its name in the box's data folder."""

UNITS = frozenset({"seconds", "tokens", "characters"})


class Store(Reader):
    """Calls, events, usage and appointments of one box.

    What reports a fact (`begin_call`, `append`, ...) never blocks and is on the disk within 200 ms, or
    after `sync`. Facts of a call are committed in the order they were reported. While the disk
    fails they wait in memory and `fault` says why. Only one process at a time can open a store.
    With an outbox every fact is written for the hub too, in the same transaction.
    """

    @classmethod
    def open(cls, path: Path, *, outbox: bool = False, policy: Policy | None = None) -> Store:
        """Open or make the store; blocks for as long as the check of the file takes.

        A damaged file is renamed, with a loud log entry, and a new one begun.

        Args:
            path: the file.
            outbox: whether facts are written for a hub, from now on.
            policy: what of them may leave the site; by default everything.

        Raises:
            StoreError: see `appliance.store.errors`.
        """
        lock = FileLock(path)
        try:
            box = Outbox(enabled=outbox, policy=policy)
            return cls(path, Writer(path, box), lock, box)
        except BaseException:
            lock.release()
            raise

    def __init__(self, path: Path, writer: Writer, lock: FileLock, outbox: Outbox) -> None:
        super().__init__(path)
        self._writer = writer
        self._outbox = outbox
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
        agent_version_id: str = "",
        transport: str = "",
        trunk: str = "",
        protocol_id: str = "",
        recording_path: str = "",
    ) -> None:
        """A call exists from here on. The arguments are those of `CallRecord`.

        `agent_version_id` is for the hub alone, and of its making: which version of its agent this is.
        """
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
        at = changes.now_text()
        fact = {"call_id": call_id, **{key: row[key] for key in _BEGAN}}
        if agent_version_id:
            fact["agent_version_id"] = agent_version_id

        def work(db: Database) -> None:
            db.table("calls").insert(row)
            self._outbox.add(CALLS, "call.began", fact, at)

        self._writer.put(f"call {call_id}", work)

    def answer_call(self, call_id: str, answered_at: datetime) -> None:
        """Media flows: `t_ms` of the call's events counts from here."""
        answered, at = {"answered_at": to_text(answered_at)}, changes.now_text()

        def work(db: Database) -> None:
            db.table("calls").update(call_id, answered)
            self._outbox.add(CALLS, "call.answered", {"call_id": call_id, **answered}, at)

        self._writer.put(f"call {call_id}", work)

    def end_call(
        self, call_id: str, *, cause: str, ended_at: datetime, recording_path: str | None = None
    ) -> None:
        """The call is over. `recording_path` changes what `begin_call` said, where it is given."""
        ended = {"cause": cause, "ended_at": to_text(ended_at)}
        if recording_path is not None:
            ended["recording_path"] = recording_path
        at = changes.now_text()
        self._writer.put(
            f"call {call_id}", lambda db: changes.end_call(db, self._outbox, call_id, ended, at)
        )

    def append(self, call_id: str, events: Iterable[EventLike]) -> None:
        """Add events to a call's log. Their data is taken as it is now.

        Raises:
            TypeError: an event's data is not JSON.
        """
        rows = [
            (call_id, event.seq, event.t_ms, event.kind, changes.to_json(event.data))
            for event in events
        ]
        if rows:
            at = changes.now_text()
            self._writer.put(
                f"events of {call_id}", lambda db: changes.insert_events(db, self._outbox, rows, at)
            )

    def record_usage(
        self, call_id: str, *, provider: str, kind: str, unit: str, quantity: int
    ) -> None:
        """Add to what a call used of a provider; `kind` tells apart what is priced apart (`prompt`).

        Raises:
            ValueError: the unit is none of `UNITS`, or the quantity is negative.
        """
        if unit not in UNITS or quantity < 0:
            raise ValueError(f"cannot record {quantity} {unit}; units are {sorted(UNITS)}")
        row: dict[str, Any] = {"call_id": call_id, "provider": provider, "kind": kind}
        row |= {"unit": unit, "quantity": quantity}
        at = changes.now_text()

        def work(db: Database) -> None:
            db.execute(
                "INSERT INTO usage VALUES (:call_id, :provider, :kind, :unit, :quantity) "
                "ON CONFLICT DO UPDATE SET quantity = quantity + excluded.quantity",
                row,
            )
            self._outbox.add(CALLS, "usage", row, at)

        self._writer.put(f"usage of {call_id}", work)

    def report(self, stream: str, kind: str, data: Mapping[str, Any]) -> None:
        """Tell the hub something that no table of the box holds: its state, a command's result.

        Raises:
            TypeError: the data is not JSON.
            ValueError: it holds a number that JSON has not (NaN, infinity).
        """
        text, at = json_text(data), changes.now_text()
        self._writer.put(f"report {kind}", lambda _: self._outbox.add_text(stream, kind, text, at))

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
            self._writer.request("appointment", lambda db: changes.book(db, self._outbox, row))
        )

    async def recover(self) -> list[str]:
        """Close the calls that a crash left open; return their ids. For the start, before any call.

        Each ends with cause `crashed` at the time of its last event, and its log says so.
        """
        return await asyncio.wrap_future(
            self._writer.request("recovery", lambda db: changes.recover(db, self._outbox))
        )

    # -- the outbox --------------------------------------------------------------------------

    def listen_outbox(self, listener: Listener) -> None:
        """Have `listener(stream, epoch, last)` called whenever the outbox grew, on the store's thread."""
        self._outbox.listen(listener)

    async def own_outbox(self, box_id: str) -> int:
        """Give what was written for nobody yet to this hub identity.

        What was written for another stays out of its sight: one tenant's facts never reach another's hub.

        Returns:
            Rows that are kept from it and that no hub has.

        Raises:
            StoreError: the disk fails.
        """
        return await asyncio.wrap_future(
            self._writer.request("outbox", lambda db: self._outbox.own(db, box_id))
        )

    @property
    def kept_back(self) -> Mapping[str, int]:
        """Facts whose content did not leave as it is, by class and choice, since the start."""
        return dict(self._outbox.gate.kept)

    def acknowledged(self, stream: str, epoch: str, seq: int) -> None:
        """Note that the hub has all of (stream, epoch) up to `seq`, and no more."""
        self._writer.put("acknowledgement", lambda db: acknowledge(db, stream, epoch, seq))

    def tidy_outbox(self, upkeep: Upkeep, now: datetime | None = None) -> bool:
        """Forget what was acknowledged long ago, a bounded step at a time. Blocks: not for the event loop.

        Returns:
            Whether there is more to do at once.

        Raises:
            StoreError: the disk fails.
        """
        at = now or datetime.now(UTC)
        step = self._writer.request(
            "outbox upkeep", lambda db: tidy(db, upkeep, self._outbox.epoch, at)
        )
        return step.result()

    def _rows(self, sql: str, parameters: Any) -> list[dict[str, Any]]:
        if self._opened != self._writer.opened:  # a damaged file was set aside: read the new one
            self._opened = self._writer.opened
            super().close()
        return super()._rows(sql, parameters)


_BEGAN = (
    *("agent", "agent_version", "transport", "trunk", "direction", "caller", "called"),
    *("protocol_id", "started_at"),
)
"""What the hub is told of a call that begins."""
