# SPDX-License-Identifier: Apache-2.0
"""Calls are kept as long as their organization says, and no longer: rows, transcripts, recordings.

Usage stays: invoices are made of it. The time of a call is in its id; that of a call whose box had a wrong
clock is when it was received, whichever is later.
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from cloud_hub.db import partitions
from cloud_hub.db.ids import first_of
from cloud_hub.db.models import Call, CallEvent, Organization, Recording, Turn, Upload
from cloud_hub.db.session import nobody, tenant
from cloud_hub.fleet.recordings import RecordingStore
from cloud_hub.jobs.upkeep import organizations
from cloud_hub.jobs.worker import Counts

CALLS: Final = 200
RECORDINGS: Final = 20
"""Of one transaction; files are removed while it is open."""

_MONTHS = text(r"SELECT relname FROM pg_class WHERE relname ~ '^calls_\d{4}_\d{2}$' ORDER BY 1")


class Retention:
    """The job's body.

    Args:
        engine: of the role `trunkline_jobs`.
        store: of recordings.
        days: of organizations that do not say; None keeps their calls.
        months: older ones are dropped, of all organizations; None drops none.
    """

    def __init__(
        self, engine: AsyncEngine, store: RecordingStore, *, days: int | None, months: int | None
    ) -> None:
        self._engine, self._store, self._days, self._months = engine, store, days, months

    async def work(self) -> Counts:
        """Remove what is past its time."""
        now, counts = datetime.now(UTC), {"calls": 0, "recordings": 0, "months": 0}
        oldest = None
        if self._months is not None:
            oldest = partitions.shifted(now.date(), months=-self._months)
        async for organization_id in organizations(self._engine):
            days = await self._days_of(organization_id)
            ends = [now - timedelta(days=days)] if days else []
            if oldest is not None:
                ends.append(datetime(oldest.year, oldest.month, 1, tzinfo=UTC))
            if ends:
                # Recordings before the calls they belong to: what is left can be found again.
                counts["recordings"] += await self._recordings(organization_id, max(ends))
            if days:
                counts["calls"] += await self._calls(organization_id, ends[0])
        if oldest is not None:
            for month in await self._known_months():
                if month < oldest:
                    await partitions.drop_month(self._engine, month)
                    counts["months"] += 1
        return counts

    async def _days_of(self, organization_id: UUID) -> int | None:
        async with tenant(self._engine, organization_id) as session:
            settings = await session.scalar(select(Organization.settings))
        return retention_days(settings or {}) or self._days

    async def _calls(self, organization_id: UUID, end: datetime) -> int:
        removed = 0
        while True:
            async with tenant(self._engine, organization_id) as session:
                old = list(
                    await session.scalars(
                        select(Call.id)
                        .where(Call.id < first_of(end), Call.received_at < end)
                        .order_by(Call.id)
                        .limit(CALLS)
                    )
                )
                await _remove_calls(session, old)
            removed += len(old)
            if len(old) < CALLS:
                return removed

    async def _recordings(self, organization_id: UUID, end: datetime) -> int:
        removed = 0
        while True:
            async with tenant(self._engine, organization_id) as session:
                old = list(
                    await session.scalars(
                        select(Recording)
                        .where(Recording.call_id < first_of(end), Recording.created_at < end)
                        .order_by(Recording.id)
                        .limit(RECORDINGS)
                        .with_for_update(skip_locked=True)
                    )
                )
                for row in old:
                    await asyncio.to_thread(self._store.remove, row.storage_key)
                    await session.delete(row)
                    await session.flush()
                    # The upload goes too: a box that sends the file again must not be told it is here.
                    await session.execute(
                        delete(Upload).where(Upload.storage_key == row.storage_key)
                    )
            removed += len(old)
            if len(old) < RECORDINGS:
                return removed

    async def _known_months(self) -> list[date]:
        async with nobody(self._engine) as session:
            names = (await session.execute(_MONTHS)).scalars()
            found = [re.findall(r"\d+", name) for name in names]
        return [date(int(year), int(month), 1) for year, month in found]


def retention_days(settings: dict[str, object]) -> int | None:
    """Return how long an organization wants its calls kept; None when it does not say."""
    days = settings.get("retention_days")
    return days if isinstance(days, int) and not isinstance(days, bool) and days > 0 else None


async def _remove_calls(session: AsyncSession, call_ids: list[UUID]) -> None:
    if not call_ids:
        return
    for table in (Turn, CallEvent):
        await session.execute(delete(table).where(table.call_id.in_(call_ids)))
    await session.execute(delete(Call).where(Call.id.in_(call_ids)))
