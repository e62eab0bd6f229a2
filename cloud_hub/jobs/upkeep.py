# SPDX-License-Identifier: Apache-2.0
"""What runs out is removed, what will be needed is made: the jobs but retention, each idempotent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.db import partitions
from cloud_hub.db.models import Command, IdempotencyKey, QuarantinedRow, Upload
from cloud_hub.db.session import nobody, tenant
from cloud_hub.fleet.recordings import RecordingStore
from cloud_hub.jobs.worker import Counts

log = logging.getLogger(__name__)

BATCH: Final = 1000
"""Rows of one transaction: whoever else needs them never waits long."""

_PURGE_ENDED = text("SELECT purged, rows FROM app.purge_ended()")
_PURGE_CLAIMS = text("SELECT count(*) FROM app.purge_claims()")
_PURGE_OLD_CLAIMS = text("SELECT app.purge_old_claims()")
_PURGE_LIMITS = text("SELECT app.purge_limits()")
_ORGANIZATIONS = text("SELECT app.organization_ids()")


class Upkeep:
    """The jobs' bodies.

    Args:
        engine: of the role `trunkline_jobs`.
        store: of recordings.
        quarantine: how long rows that could not be understood are kept.
    """

    def __init__(
        self, engine: AsyncEngine, store: RecordingStore, *, quarantine: timedelta
    ) -> None:
        self._engine, self._store, self._quarantine = engine, store, quarantine

    async def partitions(self) -> Counts:
        """Make the months ahead; say how many rows lie outside all months."""
        made = await partitions.ensure_ahead(self._engine, datetime.now(UTC).date())
        strays = await partitions.strays(self._engine)
        for table, count in strays.items():
            if count:
                log.warning(
                    "%d rows of %s are of no known month: a box's clock is off", count, table
                )
        return {"made": len(made), "strays": sum(strays.values())}

    async def people(self) -> Counts:
        """Remove sessions, links and set-up links a month after they ended."""
        async with nobody(self._engine) as session:
            return {row.purged: row.rows for row in await session.execute(_PURGE_ENDED)}

    async def claims(self) -> Counts:
        """Remove claims that nobody took in time, and taken ones after a month."""
        async with nobody(self._engine) as session:
            expired = (await session.execute(_PURGE_CLAIMS)).scalar_one()
            old = (await session.execute(_PURGE_OLD_CLAIMS)).scalar_one()
        return {"expired": expired, "old": old}

    async def limits(self) -> Counts:
        """Remove the counters of those who have not asked for a minute."""
        async with nobody(self._engine) as session:
            return {"counters": (await session.execute(_PURGE_LIMITS)).scalar_one()}

    async def idempotency(self) -> Counts:
        """Remove the kept answers whose time is over."""
        found = select(IdempotencyKey.key).where(IdempotencyKey.expires_at < func.now())
        removal = delete(IdempotencyKey).where(IdempotencyKey.key.in_(found.limit(BATCH)))
        return {"answers": await self._in_every_organization(removal)}

    async def quarantine(self) -> Counts:
        """Remove rows that could not be understood, when they have been kept long enough."""
        old = QuarantinedRow.created_at < func.now() - self._quarantine
        return {"rows": await self._in_every_organization(delete(QuarantinedRow).where(old))}

    async def commands(self) -> Counts:
        """Close the commands that no box has taken in time."""
        closing = (
            update(Command)
            .where(Command.status.in_(("queued", "sent")), Command.expires_at <= func.now())
            .values(status="expired", finished_at=func.now())
        )
        return {"expired": await self._in_every_organization(closing, once=True)}

    async def uploads(self) -> Counts:
        """Remove uploads that were never finished, with their pieces."""
        removed = 0
        async for organization_id in organizations(self._engine):
            while found := await self._remove_uploads(organization_id):
                removed += found
        return {"uploads": removed}

    async def _remove_uploads(self, organization_id: UUID) -> int:
        # Pieces first: if this process dies in between, the row is still there and is found again. A
        # box that comes back in that moment is told that the whole is wrong, and begins anew.
        async with tenant(self._engine, organization_id) as session:
            rows = list(
                await session.scalars(
                    select(Upload)
                    .where(Upload.status == "receiving", Upload.expires_at < func.now())
                    .order_by(Upload.id)
                    .limit(20)
                    .with_for_update(skip_locked=True)
                )
            )
            for row in rows:
                await asyncio.to_thread(self._store.forget, row.storage_key)
                await session.delete(row)
        return len(rows)

    async def _in_every_organization(self, statement: Any, *, once: bool = False) -> int:
        """Execute in each one's name, until nothing is left or only once; return how many rows."""
        changed = 0
        async for organization_id in organizations(self._engine):
            while True:
                async with tenant(self._engine, organization_id) as session:
                    done = await session.execute(statement)
                    assert isinstance(done, CursorResult)
                changed += done.rowcount
                if once or done.rowcount < BATCH:
                    break
        return changed


async def organizations(engine: AsyncEngine) -> AsyncIterator[UUID]:
    """Return all organizations, without a transaction open in between."""
    async with nobody(engine) as session:
        found = list((await session.execute(_ORGANIZATIONS)).scalars())
    for each in found:
        yield each
