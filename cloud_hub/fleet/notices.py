# SPDX-License-Identifier: Apache-2.0
"""How processes of the hub tell each other that there is something to do for a box: NOTIFY of PostgreSQL.

A notice is sent with the transaction that gives reason for it. Nothing depends on it alone: what is missed is
found by the sweep of `fleet.driver`, and by the box's next connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from uuid import UUID

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

log = logging.getLogger(__name__)

CHANNEL = "trunkline_fleet"
TRY_AGAIN_S = 1.0
_NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', :payload)")


async def notify(session: AsyncSession, organization_id: UUID, box_id: UUID | None = None) -> None:
    """With this transaction's commit, have the organization's rollouts looked at, and the box told."""
    await session.execute(_NOTIFY, {"payload": f"{organization_id} {box_id or ''}"})


async def listen(engine: AsyncEngine, told: Callable[[UUID, list[UUID]], None]) -> None:
    """Call `told` for every notice, until cancelled; a lost connection is made again."""
    while True:
        try:
            await _listen(engine, told)
        except (SQLAlchemyError, psycopg.Error, OSError) as error:
            log.warning("notices cannot be heard now: %s", str(error).partition("\n")[0])
        await asyncio.sleep(TRY_AGAIN_S)


async def _listen(engine: AsyncEngine, told: Callable[[UUID, list[UUID]], None]) -> None:
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert isinstance(raw, psycopg.AsyncConnection)
        try:
            await raw.set_autocommit(True)
            await raw.execute(f"LISTEN {CHANNEL}")
            async for notice in raw.notifies():
                organization_id, _, box_id = notice.payload.partition(" ")
                told(UUID(organization_id), [UUID(box_id)] if box_id else [])
        finally:
            await connection.invalidate()
