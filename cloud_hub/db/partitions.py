# SPDX-License-Identifier: Apache-2.0
"""Upkeep of the monthly partitions: made ahead, watched, and dropped when retention says so.

All months are UTC. Runs as `trunkline_jobs`, once a day or oftener; again is harmless.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.db.session import nobody

MONTHS_BACK: Final = 3
MONTHS_AHEAD: Final = 3


async def ensure(engine: AsyncEngine, first: date, last: date) -> list[str]:
    """Make what is missing from the month of `first` to the month of `last`; return its names.

    Rows of those months that waited in a default partition are moved to where they belong.
    """
    async with nobody(engine) as session:
        made = await session.execute(
            text("SELECT app.ensure_partitions(:first, :last)"), {"first": first, "last": last}
        )
        return list(made.scalars())


async def ensure_ahead(engine: AsyncEngine, today: date) -> list[str]:
    """Make the months around `today` that boxes may send calls of."""
    return await ensure(
        engine, shifted(today, months=-MONTHS_BACK), shifted(today, months=MONTHS_AHEAD)
    )


async def strays(engine: AsyncEngine) -> Mapping[str, int]:
    """How many rows of each large table lie outside all months.

    They are safe and found by every query, but they slow queries down, and their ids say a time
    that cannot be: a box with a wrong clock. Raise an alarm above zero.
    """
    async with nobody(engine) as session:
        rows = await session.execute(text("SELECT parent, stray FROM app.stray_rows()"))
        return {row.parent: row.stray for row in rows}


async def drop_month(engine: AsyncEngine, month: date) -> list[str]:
    """Remove the calls of that month for good, of all tenants; return the partitions dropped.

    Usage is kept: it is what invoices are made of. Retention shorter than the hub's own, of one
    organization, is a DELETE in its name.
    """
    async with nobody(engine) as session:
        dropped = await session.execute(
            text("SELECT app.drop_month(:month)"), {"month": month.replace(day=1)}
        )
        return list(dropped.scalars())


def shifted(day: date, *, months: int) -> date:
    """The first day of the month that many months later."""
    count = day.year * 12 + day.month - 1 + months
    return date(count // 12, count % 12 + 1, 1)
