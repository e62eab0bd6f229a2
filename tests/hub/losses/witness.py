# SPDX-License-Identifier: Apache-2.0
"""Counts every row: what the boxes' outboxes hold, against what PostgreSQL holds.

The hub's tables refuse a second copy of a row, so a copy would not show in them. Therefore triggers note
every row that a committed transaction offered to a table, whether the table took it or not, and every
move of a position: these notes tell what was applied twice or out of order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from appliance.store import OutboxPart, Reader
from cloud_hub.db.ids import derived
from tests.hub.losses import ledger
from tests.hub.losses.box_process import LEDGER, STORE

INSTALL = """
CREATE SCHEMA witness;
CREATE TABLE witness.offered (n bigserial PRIMARY KEY, what text, call_id uuid, key text,
    commit xid8 DEFAULT pg_current_xact_id());
CREATE TABLE witness.moved
    (n bigserial PRIMARY KEY, box uuid, stream text, epoch uuid, was bigint, seq bigint);
CREATE FUNCTION witness.note_child() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO witness.offered (what, call_id, key) VALUES (TG_ARGV[0], NEW.call_id, NEW.seq::text);
    RETURN NEW;
END $$;
CREATE FUNCTION witness.note_usage() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO witness.offered (what, call_id, key) VALUES ('usage', NEW.call_id, NEW.id::text);
    RETURN NEW;
END $$;
CREATE FUNCTION witness.note_move() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO witness.moved (box, stream, epoch, was, seq) VALUES (NEW.appliance_id, NEW.stream,
        NEW.epoch, CASE TG_OP WHEN 'INSERT' THEN 0 ELSE OLD.applied_seq END, NEW.applied_seq);
    RETURN NULL;
END $$;
CREATE TRIGGER witness BEFORE INSERT ON call_events
    FOR EACH ROW EXECUTE FUNCTION witness.note_child('event');
CREATE TRIGGER witness BEFORE INSERT ON turns
    FOR EACH ROW EXECUTE FUNCTION witness.note_child('turn');
CREATE TRIGGER witness BEFORE INSERT ON usage
    FOR EACH ROW EXECUTE FUNCTION witness.note_usage();
CREATE TRIGGER witness AFTER INSERT OR UPDATE ON stream_positions
    FOR EACH ROW EXECUTE FUNCTION witness.note_move();
"""

CHILDREN = {
    "event": "SELECT call_id, seq::text, jsonb_build_array(t_ms, kind, data) FROM call_events",
    "turn": "SELECT call_id, seq::text, jsonb_build_array(role, text, started_ms, interrupted)"
    " FROM turns",
    "usage": "SELECT call_id, id::text, jsonb_build_array(provider, kind, unit, quantity)"
    " FROM usage",
}
CALLS = """
SELECT id, appliance_id, jsonb_build_array(agent_name, agent_hash, transport, trunk, direction, caller,
    called, protocol_id, to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    to_char(answered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), cause,
    to_char(ended_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), recorded, metadata)
FROM calls
"""
BEGAN = ("agent", "agent_version", "transport", "trunk", "direction", "caller", "called")

Key = tuple[str, str, str]
"""What (`event`, `turn`, `usage`), call, and number or id."""


@dataclass
class Verdict:
    """What the count came to; all but `rows` and `calls` must be zero.

    Attributes:
        rows: in all outboxes. calls: that the boxes told of.
        missing: rows of outboxes that PostgreSQL does not hold.
        twice: rows that were applied more than once.
        changed: rows that PostgreSQL holds with other contents.
        invented: rows that no box wrote. disordered: rows that were applied in another order.
        lost_by_box: rows that a box's ledger knows and its outbox does not.
        set_aside: rows that the hub could not store in their table.
        examples: of what is wrong, a few.
    """

    rows: int = 0
    calls: int = 0
    missing: int = 0
    twice: int = 0
    changed: int = 0
    invented: int = 0
    disordered: int = 0
    lost_by_box: int = 0
    set_aside: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every row is there once, as it was, in order."""
        return not any(self.wrongs().values())

    def wrongs(self) -> dict[str, int]:
        """Return the counts that must be zero."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in {"rows", "calls", "examples"}
        }

    def example(self, text: str) -> None:
        """Note what is wrong, unless there is enough of it."""
        if len(self.examples) < 10:
            self.examples.append(text)


@dataclass
class Written:
    """What one box has in its outbox, in order."""

    box: str
    positions: dict[tuple[str, str], int] = field(default_factory=dict)
    children: dict[Key, list[Any]] = field(default_factory=dict)
    calls: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: int = 0


def install(administrator: str) -> None:
    """Have the database note what is offered to it; before the first box sends."""
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute(INSTALL.encode())


def count(administrator: str, boxes: Mapping[str, Path]) -> Verdict:
    """Compare the outbox of each box (id to folder) with the database."""
    with psycopg.connect(administrator) as connection:
        return compare(connection, boxes)


def compare(connection: psycopg.Connection[Any], boxes: Mapping[str, Path]) -> Verdict:
    """Do the same with what this connection sees."""
    verdict = Verdict()
    written = [_written(box, folder, verdict) for box, folder in boxes.items()]
    _compare_positions(connection, written, verdict)
    _compare_children(connection, written, verdict)
    _compare_calls(connection, written, verdict)
    found = connection.execute("SELECT count(*) FROM quarantined_rows").fetchone()
    assert found is not None
    verdict.set_aside = found[0]
    return verdict


def parts(folder: Path) -> list[OutboxPart]:
    """Return what a box's outbox holds, and how much of it is acknowledged."""
    with Reader(folder / STORE) as reader:
        return reader.outbox_parts()


def _written(box: str, folder: Path, verdict: Verdict) -> Written:
    result = Written(box)
    with closing(Reader(folder / STORE)) as reader:
        for part in reader.outbox_parts():
            result.positions[part.stream, part.epoch] = part.last
            rows = reader.outbox_rows(part.stream, part.epoch, 1, most=10**9, max_bytes=10**12)
            if [row[0] for row in rows] != list(range(1, part.last + 1)):
                verdict.lost_by_box += part.last - len(rows)
                verdict.example(f"box {box}: the outbox has holes in {part.stream} {part.epoch}")
            for seq, kind, _, text in rows:
                _sort(result, part.epoch, part.stream, seq, kind, json.loads(text))
            result.rows += len(rows)
    for (stream, epoch), last in ledger.read(folder / LEDGER).items():
        gone = last - result.positions.get((stream, epoch), 0)
        if gone > 0:
            verdict.lost_by_box += gone
            verdict.example(f"box {box} lost {gone} rows of {stream} {epoch}")
    verdict.rows += result.rows
    verdict.calls += len(result.calls)
    return result


def _sort(
    result: Written, epoch: str, stream: str, seq: int, kind: str, data: dict[str, Any]
) -> None:
    call = data.get("call_id", "")
    match kind:
        case "call.began":
            result.calls.setdefault(call, {}).update(data)
        case "call.answered" | "call.ended":
            result.calls.setdefault(call, {}).update(data)
        case "call.event":
            contents = [data["t_ms"], data["kind"], data["data"]]
            result.children["event", call, str(data["seq"])] = contents
        case "call.turn":
            contents = [data["who"], data["text"], data["t_ms"], data["interrupted"]]
            result.children["turn", call, str(data["n"])] = contents
        case "usage":
            own = derived(UUID(call), "usage", result.box, epoch, stream, str(seq))
            contents = [data[name] for name in ("provider", "kind", "unit", "quantity")]
            result.children["usage", call, str(own)] = contents


def _compare_positions(
    connection: psycopg.Connection[Any], written: Iterable[Written], verdict: Verdict
) -> None:
    """Each stream ends where its box ended, and every move began where the one before ended."""
    wanted = {
        (each.box, stream, epoch): last
        for each in written
        for (stream, epoch), last in each.positions.items()
        if last
    }
    at: Counter[tuple[str, str, str]] = Counter()
    moves = connection.execute("SELECT box, stream, epoch, was, seq FROM witness.moved ORDER BY n")
    for box, stream, epoch, was, seq in moves:
        key = (str(box), stream, str(epoch))
        if was != at[key] or seq < was:
            verdict.disordered += 1
            verdict.example(f"{key} moved from {was} to {seq} after {at[key]}")
        at[key] = seq
    for key in wanted.keys() | at.keys():
        short = wanted.get(key, 0) - at[key]
        if short:
            verdict.missing += max(short, 0)
            verdict.invented += max(-short, 0)
            verdict.example(f"{key}: the box wrote {wanted.get(key, 0)}, the hub has {at[key]}")


def _compare_children(
    connection: psycopg.Connection[Any], written: Iterable[Written], verdict: Verdict
) -> None:
    wanted: dict[Key, list[Any]] = {}
    for each in written:
        wanted.update(each.children)
    stored: dict[Key, list[Any]] = {}
    for what, sql in CHILDREN.items():
        for call, key, contents in connection.execute(sql.encode()):
            stored[what, str(call), key] = contents
    _compare(wanted, stored, verdict)
    _compare_order(connection, wanted, verdict)


def _compare_order(
    connection: psycopg.Connection[Any], wanted: Mapping[Key, Any], verdict: Verdict
) -> None:
    """Each row was offered once, and no transaction had rows that belong before those of an earlier one.

    Within a transaction the database may join and sort as it likes; nobody sees the difference.
    """
    place: dict[Key, int] = {key: number for number, key in enumerate(wanted)}
    offered: Counter[Key] = Counter()
    newest: dict[tuple[str, str], tuple[int, str]] = {}
    for what, call, number, commit in connection.execute(
        "SELECT what, call_id, key, commit::text FROM witness.offered ORDER BY n"
    ):
        key = (what, str(call), number)
        offered[key] += 1
        if offered[key] > 1:
            verdict.twice += 1
            verdict.example(f"applied twice: {key}")
            continue
        at, (last, whose) = place.get(key, -1), newest.get(key[:2], (-1, ""))
        if at < last and commit != whose:
            verdict.disordered += 1
            verdict.example(f"out of order: {key}")
        if at > last:
            newest[key[:2]] = (at, commit)


def _compare_calls(
    connection: psycopg.Connection[Any], written: Iterable[Written], verdict: Verdict
) -> None:
    wanted = {
        ("call", each.box, call): [
            *(facts.get(name) for name in BEGAN),
            *(facts.get(name) for name in ("protocol_id", "started_at", "answered_at")),
            facts.get("cause", ""),
            facts.get("ended_at"),
            facts.get("recording", False),
            {},
        ]
        for each in written
        for call, facts in each.calls.items()
    }
    stored = {
        ("call", str(box), str(call)): contents
        for call, box, contents in connection.execute(CALLS.encode())
    }
    _compare(wanted, stored, verdict)


def _compare(wanted: Mapping[Key, Any], stored: Mapping[Key, Any], verdict: Verdict) -> None:
    for key, contents in wanted.items():
        if key not in stored:
            verdict.missing += 1
            verdict.example(f"missing: {key}")
        elif stored[key] != contents:
            verdict.changed += 1
            verdict.example(f"changed: {key} {contents} became {stored[key]}")
    for key in stored.keys() - wanted.keys():
        verdict.invented += 1
        verdict.example(f"no box wrote {key}")
