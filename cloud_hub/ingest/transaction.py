# SPDX-License-Identifier: Apache-2.0
"""A tenant's transaction with few round trips: statements are sent without waiting for each answer.

It is psycopg's own connection out of SQLAlchemy's pool: for every transaction of ingest the waiting for
answers costs more than the work.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

_NAME = "SELECT set_config('app.organization_id', %(organization)s, true)"


@asynccontextmanager
async def transaction(
    engine: AsyncEngine, organization_id: UUID, *, pipelined: bool = True
) -> AsyncIterator[Connection]:
    """One transaction that sees this organization's rows; committed at the end of the block.

    In a pipeline a statement's error is raised by the next fetch, or at the end of the block, before
    the commit. Then everything is rolled back.

    Args:
        engine: of the ingest role.
        organization_id: in whose name.
        pipelined: send statements without waiting for answers; not for blocks with savepoints.

    Raises:
        psycopg.Error: a statement failed, or the connection was lost.
        SQLAlchemyError: there is no connection.
    """
    async with engine.connect() as pooled:
        connection: Connection | None = (await pooled.get_raw_connection()).driver_connection
        assert connection is not None
        try:
            if pipelined:
                async with connection.pipeline() as pipeline, connection.transaction():
                    await connection.execute(_NAME, {"organization": str(organization_id)})
                    yield connection
                    await pipeline.sync()
            else:
                async with connection.transaction():
                    await connection.execute(_NAME, {"organization": str(organization_id)})
                    yield connection
        finally:
            if connection.closed:
                await pooled.invalidate()
