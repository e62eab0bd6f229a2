# SPDX-License-Identifier: Apache-2.0
"""Signed-in sessions: opened, found by their token, kept alive, revoked.

A session ends when it is revoked, unused for the idle time, or at its absolute end, whichever comes
first; the database decides, so every API process agrees at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from cloud_hub.auth.secrets import digest, new_token
from cloud_hub.db.ids import uuid7
from cloud_hub.db.models import Session
from cloud_hub.db.session import nobody, person

TOUCH_EVERY = timedelta(minutes=1)
"""A session in use is written this often, not at each request."""

_BY_TOKEN = text("SELECT * FROM app.session_by_token(:digest)")
_BECOME = text("SELECT set_config('app.user_id', :user_id, true)")
_MINE = text("SELECT * FROM app.my_organizations() ORDER BY organization_id")


@dataclass(frozen=True, slots=True)
class Belonging:
    """An organization and what a person is in it."""

    organization_id: UUID
    name: str
    role: str
    suspended: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A session that is valid now."""

    session_id: UUID
    user_id: UUID
    idle_until: datetime
    absolute_until: datetime
    organizations: tuple[Belonging, ...]


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a session may be unused, and how long it may be at all."""

    idle: timedelta
    absolute: timedelta


async def open_session(
    session: AsyncSession,
    user_id: UUID,
    lifetime: Lifetime,
    *,
    with_second_factor: bool,
    ip: str,
    user_agent: str,
) -> tuple[UUID, str]:
    """Open a session in the person's transaction; return its id and its token."""
    token, now, session_id = new_token(), datetime.now(UTC), uuid7()
    session.add(
        Session(
            id=session_id,
            user_id=user_id,
            token_hash=digest(token),
            idle_until=now + lifetime.idle,
            absolute_until=now + lifetime.absolute,
            mfa_at=now if with_second_factor else None,
            ip=ip,
            user_agent=user_agent[:300],
        )
    )
    await session.flush()
    return session_id, token


async def find(engine: AsyncEngine, token: str, lifetime: Lifetime) -> Found | None:
    """Return the session of a token and the person's organizations; None when it is not valid."""
    async with nobody(engine) as session:
        row = (await session.execute(_BY_TOKEN, {"digest": digest(token)})).one_or_none()
        if row is None:
            return None
        await session.execute(_BECOME, {"user_id": str(row.user_id)})
        found = Found(
            row.session_id,
            row.user_id,
            row.idle_until,
            row.absolute_until,
            await belongings(session),
        )
        await _touch(session, found, lifetime)
    return found


async def belongings(session: AsyncSession) -> tuple[Belonging, ...]:
    """Return a person's organizations, in a transaction of that person."""
    rows = (await session.execute(_MINE)).all()
    return tuple(
        Belonging(row.organization_id, row.name, row.role, row.suspended_at is not None)
        for row in rows
    )


async def revoke_others(session: AsyncSession, user_id: UUID, keep: UUID | None) -> None:
    """End all sessions of a person but `keep`, in the person's transaction."""
    others = Session.id != keep if keep else Session.id.is_not(None)
    await session.execute(
        update(Session)
        .where(Session.user_id == user_id, Session.revoked_at.is_(None), others)
        .values(revoked_at=datetime.now(UTC))
    )


async def revoke(engine: AsyncEngine, user_id: UUID, session_id: UUID) -> bool:
    """End one session of a person; say whether there was one."""
    async with person(engine, user_id) as session:
        ended = await session.execute(
            update(Session)
            .where(
                Session.user_id == user_id,
                Session.id == session_id,
                Session.revoked_at.is_(None),
            )
            .values(revoked_at=datetime.now(UTC))
            .returning(Session.id)
        )
        return ended.one_or_none() is not None


async def current(session: AsyncSession, user_id: UUID) -> list[Session]:
    """Return the person's valid sessions, newest first."""
    now = datetime.now(UTC)
    found = await session.execute(
        select(Session)
        .where(
            Session.user_id == user_id,
            Session.revoked_at.is_(None),
            Session.idle_until > now,
            Session.absolute_until > now,
        )
        .order_by(Session.id.desc())
        .limit(200)
    )
    return list(found.scalars())


async def _touch(session: AsyncSession, found: Found, lifetime: Lifetime) -> None:
    now = datetime.now(UTC)
    until = min(now + lifetime.idle, found.absolute_until)
    if until - found.idle_until < TOUCH_EVERY:
        return
    await session.execute(
        update(Session)
        .where(Session.id == found.session_id)
        .values(idle_until=until, last_seen_at=now)
    )
