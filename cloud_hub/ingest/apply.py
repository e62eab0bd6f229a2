# SPDX-License-Identifier: Apache-2.0
"""Batches of one organization's boxes into its tables: all of it in one transaction, or none.

The rule of what to apply is the wire's (`appliance.wire.judge`); this holds the lock, looks up the
positions, writes rows and positions together. Data that PostgreSQL refuses is found by trying
smaller pieces, down to the row, which is then kept in quarantine, so that nothing a box can send
holds up its stream or another's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from appliance.wire import Ack, Batch, Row, judge
from cloud_hub.ingest import statements
from cloud_hub.ingest.transaction import Connection, transaction
from cloud_hub.ingest.writes import MAX_BIGINT, Origin, Writes, as_json

log = logging.getLogger(__name__)

Position = tuple[UUID, str, UUID]
"""Box, stream, epoch."""

_POISON = ("22", "23", "54")
"""Classes of SQLSTATE that the data is to blame for: data exception, integrity violation, program limit."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A batch as it arrived. The box is the one whose certificate opened the connection."""

    box_id: UUID
    batch: Batch
    received_at: datetime

    @property
    def origin(self) -> Origin:
        """What is noted with each of its rows."""
        batch = self.batch
        return Origin(self.box_id, batch.stream, UUID(batch.epoch), self.received_at)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch.

    Attributes:
        ack: to be sent now that it is committed.
        gap: what it continues is not there (yet): nothing of it was applied.
        rows: how many were applied.
    """

    ack: Ack
    gap: bool
    rows: int


async def apply(
    engine: AsyncEngine, organization_id: UUID, incoming: Sequence[Incoming]
) -> list[Outcome]:
    """Apply batches of one organization; the outcomes are in the order of the batches.

    Raises:
        psycopg.Error, SQLAlchemyError: the database cannot do it now; nothing was applied, try again
            later.
    """
    try:
        return await _apply_together(engine, organization_id, incoming)
    except (psycopg.Error, UnicodeEncodeError) as error:
        if not _is_poison(error):
            raise
        log.warning("a row cannot be stored as it is (%s): looking for it", _short(error))
    outcomes = []
    for one in incoming:
        try:
            outcomes += await _apply_together(engine, organization_id, [one])
        except (psycopg.Error, UnicodeEncodeError) as error:
            if not _is_poison(error):
                raise
            outcomes.append(await _apply_row_by_row(engine, organization_id, one))
    return outcomes


async def _apply_together(
    engine: AsyncEngine, organization_id: UUID, incoming: Sequence[Incoming]
) -> list[Outcome]:
    async with transaction(engine, organization_id) as connection:
        positions = await _locked_positions(connection, incoming)
        outcomes, rows, losses = [], [], []
        moved: dict[Position, int] = {}
        for one in incoming:
            outcome, applied, lost = _judge(one, positions, moved)
            outcomes.append(outcome)
            origin = one.origin
            rows += [(origin, row) for row in applied]
            if lost is not None:
                losses.append((origin, *lost))
        if moved:
            await _write(connection, rows, losses)
            await _move(connection, moved)
        boxes = sorted({str(one.box_id) for one in incoming})
        await connection.execute(statements.SEEN, {"ids": boxes})
    return outcomes


async def _apply_row_by_row(engine: AsyncEngine, organization_id: UUID, one: Incoming) -> Outcome:
    async with transaction(engine, organization_id, pipelined=False) as connection:
        positions = await _locked_positions(connection, [one])
        moved: dict[Position, int] = {}
        outcome, rows, lost = _judge(one, positions, moved)
        if lost is not None:
            await _write(connection, [], [(one.origin, *lost)])
        for row in rows:
            try:
                async with connection.transaction():
                    await _write(connection, [(one.origin, row)], [])
            except (psycopg.Error, UnicodeEncodeError) as error:
                if not _is_poison(error):
                    raise
                log.warning("row %d of %s set aside: %s", row.seq, one.origin, _short(error))
                kept = Writes()
                kept.quarantine(one.origin, row, "malformed")
                await _execute(connection, kept)
        await _move(connection, moved)
    return outcome


async def _locked_positions(
    connection: Connection, incoming: Iterable[Incoming]
) -> dict[Position, int]:
    names = sorted({f"{one.box_id}/{one.batch.stream}" for one in incoming})
    await connection.execute(statements.LOCK, {"names": names})
    epochs = {one.batch.epoch for one in incoming}
    epochs |= {one.batch.before.epoch for one in incoming if one.batch.before is not None}
    found = await connection.execute(
        statements.POSITIONS,
        {"ids": sorted({str(one.box_id) for one in incoming}), "epochs": sorted(epochs)},
    )
    return {(box_id, stream, epoch): seq for box_id, stream, epoch, seq in await found.fetchall()}


def _judge(
    one: Incoming, positions: dict[Position, int], moved: dict[Position, int]
) -> tuple[Outcome, tuple[Row, ...], tuple[int, int] | None]:
    batch = one.batch
    key = (one.box_id, batch.stream, UUID(batch.epoch))
    before = 0
    if batch.before is not None:
        before = positions.get((one.box_id, batch.stream, UUID(batch.before.epoch)), 0)
    verdict = judge(batch, positions.get(key, 0), before)
    if verdict.moves:
        positions[key] = moved[key] = verdict.ack.seq
    gap = not verdict.moves and bool(batch.rows) and _expected(verdict.ack, batch) < batch.first
    return Outcome(verdict.ack, gap, len(verdict.rows)), verdict.rows, verdict.lost


def _expected(ack: Ack, batch: Batch) -> int:
    return ack.seq + 1 if ack.epoch == batch.epoch else 0


async def _write(
    connection: Connection,
    rows: Sequence[tuple[Origin, Row]],
    losses: Iterable[tuple[Origin, int, int]],
) -> None:
    writes = _sorted_in(rows, frozenset())
    if writes.mentioned:
        ids = {"ids": [str(call_id) for call_id in writes.mentioned]}
        found = await connection.execute(statements.CALL_OWNERS, ids)
        owners = {call_id: str(box_id) for call_id, box_id in await found.fetchall()}
        foreign = frozenset(
            call_id
            for call_id, entry in writes.mentioned.items()
            if owners.get(call_id, entry["appliance_id"]) != entry["appliance_id"]
        )
        if foreign:
            writes = _sorted_in(rows, foreign)
        unbegun = [
            entry
            for call_id, entry in writes.mentioned.items()
            if call_id not in owners and str(call_id) not in writes.calls
        ]
        if unbegun:
            await connection.execute(statements.UNBEGUN_CALLS, {"records": as_json(unbegun)})
    for loss in losses:
        writes.lost(*loss)
    await _execute(connection, writes)


def _sorted_in(rows: Iterable[tuple[Origin, Row]], foreign: frozenset[UUID]) -> Writes:
    writes = Writes(foreign=foreign)
    for origin, row in rows:
        writes.add(origin, row)
    return writes


async def _execute(connection: Connection, writes: Writes) -> None:
    for name, records in writes.records():
        await connection.execute(statements.OF[name], {"records": as_json(records)})


async def _move(connection: Connection, moved: dict[Position, int]) -> None:
    records: list[dict[str, Any]] = [
        {
            "appliance_id": str(box_id),
            "stream": stream,
            "epoch": str(epoch),
            "applied_seq": seq,
        }
        for (box_id, stream, epoch), seq in moved.items()
    ]
    if records:
        await connection.execute(statements.MOVE, {"records": as_json(records)})


def countable(batch: Batch) -> bool:
    """Say whether PostgreSQL can hold the batch's numbers."""
    return max(batch.first + len(batch.rows), batch.floor) < MAX_BIGINT


def _is_poison(error: psycopg.Error | UnicodeEncodeError) -> bool:
    return isinstance(error, UnicodeEncodeError) or str(error.sqlstate)[:2] in _POISON


def _short(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]
