# SPDX-License-Identifier: Apache-2.0
"""What the writer does in its transactions: each changes the tables and puts the fact into the outbox."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import structlog
from sqlite_utils import Database

from appliance.store.errors import SlotTakenError
from appliance.store.outbox import Outbox
from appliance.store.reader import appointment
from appliance.store.records import CRASHED, Appointment, Event, from_text
from appliance.store.transcript import transcript
from appliance.wire.ids import to_text
from appliance.wire.topics import CALLS

_log = structlog.get_logger(__name__)


def to_json(data: object) -> str:
    """Return compact JSON.

    Raises:
        TypeError: the data is not JSON.
    """
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def now_text() -> str:
    """Return the clock's time as the file keeps it."""
    return to_text(datetime.now(UTC))


def end_call(
    db: Database, outbox: Outbox, call_id: str, changes: Mapping[str, str], at: str
) -> None:
    """Close a call; once it is closed, note only a new place of its recording."""
    before = db.table("calls").get(call_id)
    db.table("calls").update(call_id, dict(changes))
    recording = changes.get("recording_path", before["recording_path"])
    if before["ended_at"] is None:
        _report_end(db, outbox, call_id, {**changes, "recording_path": recording}, at)
    elif recording != before["recording_path"]:
        outbox.add(CALLS, "call.recording", {"call_id": call_id, "uri": recording}, at)


def _report_end(
    db: Database, outbox: Outbox, call_id: str, ended: Mapping[str, str], at: str
) -> None:
    """Put the transcript, then the end, into the outbox."""
    if not outbox.enabled:
        return
    rows = db.query("SELECT * FROM events WHERE call_id = ? ORDER BY seq", [call_id])
    try:
        lines = transcript(Event(**{**row, "data": json.loads(row["data"])}) for row in rows)
    except (KeyError, TypeError, ValueError) as error:  # the call still ended
        _log.error("no transcript for the hub", call_id=call_id, error=repr(error))
        lines = []
    for n, line in enumerate(lines):
        outbox.add(CALLS, "call.turn", {"call_id": call_id, "n": n, **asdict(line)}, at)
    fact = {
        "call_id": call_id,
        "cause": ended["cause"],
        "ended_at": ended["ended_at"],
        "recording": bool(ended["recording_path"]),
    }
    outbox.add(CALLS, "call.ended", fact, at)


def insert_events(
    db: Database, outbox: Outbox, rows: list[tuple[str, int, int, str, str]], at: str
) -> None:
    """Insert (call id, seq, t_ms, kind, data as JSON text)."""
    db.conn.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)
    if not outbox.enabled:
        return
    for call_id, seq, t_ms, kind, data in rows:
        fact = (
            f'{{"call_id":{json.dumps(call_id)},"seq":{seq},"t_ms":{t_ms},'
            f'"kind":{json.dumps(kind)},"data":{data}}}'
        )
        outbox.add_text(CALLS, "call.event", fact, at)


def book(db: Database, outbox: Outbox, row: dict[str, str]) -> Appointment:
    """Enter an appointment; the same wish again returns the first.

    Raises:
        SlotTakenError: somebody has that time in that calendar.
    """
    same = list(
        db.table("appointments").rows_where("idempotency_key = ?", [row["idempotency_key"]])
    )
    if same:
        return appointment(same[0])
    slot = [row["calendar"], row["date"], row["time"]]
    if db.table("appointments").count_where("calendar = ? AND date = ? AND time = ?", slot):
        raise SlotTakenError(f"{row['date']} at {row['time']} is taken")
    db.table("appointments").insert(row)
    outbox.add(CALLS, "booking", row, row["created_at"])
    return appointment(row)


def recover(db: Database, outbox: Outbox) -> list[str]:
    """End the calls that a crash left open; return their ids."""
    at = now_text()
    calls = list(db.query("SELECT * FROM calls WHERE ended_at IS NULL ORDER BY id"))
    for call in calls:
        found = db.execute("SELECT max(seq), max(t_ms) FROM events WHERE call_id = ?", [call["id"]])
        last_seq, last_ms = found.fetchone()
        began = from_text(call["answered_at"] or call["started_at"])
        ended = to_text(began + timedelta(milliseconds=last_ms or 0))
        changes = {"cause": CRASHED, "ended_at": ended}
        db.table("calls").update(call["id"], changes)
        seq = 0 if last_seq is None else last_seq + 1
        event = (call["id"], seq, last_ms or 0, "call.ended", to_json({"cause": CRASHED}))
        insert_events(db, outbox, [event], at)
        changes["recording_path"] = call["recording_path"]
        _report_end(db, outbox, call["id"], changes, at)
    return [str(call["id"]) for call in calls]
