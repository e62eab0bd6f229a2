# SPDX-License-Identifier: Apache-2.0
"""Transactions in somebody's name. Without one of these, row-level security shows nothing.

The name is set for the transaction alone, so a pooled connection never carries it to the next.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from cloud_hub.db.dsn import sqlalchemy_url

_SET_NAMES = text(
    "SELECT set_config('app.organization_id', :organization, true),"
    " set_config('app.user_id', :person, true)"
)


def create_engine(dsn: str, *, pool_size: int = 10, max_overflow: int = 10) -> AsyncEngine:
    """A pool of connections, one to a process and role."""
    return create_async_engine(
        sqlalchemy_url(dsn), pool_size=pool_size, max_overflow=max_overflow, pool_pre_ping=True
    )


@asynccontextmanager
async def tenant(
    engine: AsyncEngine, organization_id: UUID | str, *, user_id: UUID | str | None = None
) -> AsyncIterator[AsyncSession]:
    """One transaction that sees this organization's rows, and with `user_id` that person's own.

    It is committed at the end of the block, and rolled back when the block raises.

    Raises:
        ValueError: an id is not a UUID.
    """
    async with _named(engine, organization_id, user_id) as session:
        yield session


@asynccontextmanager
async def person(engine: AsyncEngine, user_id: UUID | str) -> AsyncIterator[AsyncSession]:
    """One transaction that sees this person's own rows, and no tenant's."""
    async with _named(engine, None, user_id) as session:
        yield session


@asynccontextmanager
async def nobody(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """One transaction that sees no row: for the lookup functions, before anybody is known."""
    async with _named(engine, None, None) as session:
        yield session


@asynccontextmanager
async def _named(
    engine: AsyncEngine, organization_id: UUID | str | None, user_id: UUID | str | None
) -> AsyncIterator[AsyncSession]:
    names = {"organization": _text(organization_id), "person": _text(user_id)}
    async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
        await session.execute(_SET_NAMES, names)
        yield session


def _text(identifier: UUID | str | None) -> str:
    if identifier is None:
        return ""
    return str(identifier if isinstance(identifier, UUID) else UUID(identifier))
