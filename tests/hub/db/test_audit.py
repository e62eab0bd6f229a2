# SPDX-License-Identifier: Apache-2.0
"""The audit chain: written by the database, checked by hand."""

from __future__ import annotations

from uuid import UUID

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.db import audit
from cloud_hub.db.ids import uuid7
from cloud_hub.db.models import Organization
from cloud_hub.db.session import tenant
from tests.hub.servers import Database


async def organization_with_entries(engine: AsyncEngine, count: int) -> UUID:
    organization_id = uuid7()
    async with tenant(engine, organization_id) as session:
        session.add(Organization(id=organization_id, name="Müller & Co"))
        await session.flush()
        for number in range(count):
            await audit.append(
                session,
                organization_id,
                action="agent.publish",
                actor_kind="user",
                actor_id=str(number),
                detail={"é": [number, 1.50, None], "name": "A: 3:b"},
            )
    return organization_id


async def test_a_chain_that_nobody_touched_is_intact(api_engine: AsyncEngine) -> None:
    organization_id = await organization_with_entries(api_engine, 5)

    async with tenant(api_engine, organization_id) as session:
        chain = await audit.verify(session, organization_id)

    assert chain.intact
    assert chain.entries == 5


async def test_a_chain_without_entries_is_intact(api_engine: AsyncEngine) -> None:
    organization_id = await organization_with_entries(api_engine, 0)

    async with tenant(api_engine, organization_id) as session:
        assert (await audit.verify(session, organization_id)).intact


@pytest.mark.parametrize(
    ("tampering", "broken_at"),
    [
        ("UPDATE audit_log SET detail = '{}' WHERE seq = 3 AND organization_id = %s", 3),
        ("UPDATE audit_log SET at = at - interval '1 h' WHERE seq = 2 AND organization_id = %s", 2),
        ("DELETE FROM audit_log WHERE seq = 4 AND organization_id = %s", 4),
        ("DELETE FROM audit_log WHERE seq = 5 AND organization_id = %s", 5),
        ("DELETE FROM audit_log WHERE organization_id = %s", 1),
        ("UPDATE audit_heads SET hash = '' WHERE organization_id = %s", 6),
    ],
)
async def test_what_an_administrator_changes_by_hand_breaks_the_chain(
    api_engine: AsyncEngine, hub_database: Database, tampering: str, broken_at: int
) -> None:
    organization_id = await organization_with_entries(api_engine, 5)
    with psycopg.connect(hub_database.dsn("postgres")) as connection:
        connection.execute(tampering, (organization_id,))

    async with tenant(api_engine, organization_id) as session:
        chain = await audit.verify(session, organization_id)

    assert chain.broken_at == broken_at
