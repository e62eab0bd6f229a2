# SPDX-License-Identifier: Apache-2.0
"""Whose name a transaction runs in, and that a pooled connection forgets it."""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.db.ids import uuid7
from cloud_hub.db.models import Call, Credential, Membership, Organization, User
from cloud_hub.db.session import create_engine, nobody, person, tenant
from tests.hub.db.sample import Sample
from tests.hub.servers import Database


async def test_a_person_signs_up_and_makes_an_organization(api_engine: AsyncEngine) -> None:
    user_id, organization_id = uuid7(), uuid7()
    async with person(api_engine, user_id) as session:
        session.add(User(id=user_id, email="Ada@example.com"))
        await session.flush()
        session.add(Credential(user_id=user_id, password_hash="x"))
    async with tenant(api_engine, organization_id, user_id=user_id) as session:
        session.add(Organization(id=organization_id, name="Analytical Engines"))
        await session.flush()
        session.add(Membership(organization_id=organization_id, user_id=user_id, role="owner"))

    async with person(api_engine, user_id) as session:
        mine = await session.execute(
            text("SELECT organization_id, role FROM app.my_organizations()")
        )
        assert mine.all() == [(organization_id, "owner")]
    with pytest.raises(IntegrityError, match="users_email_key"):
        async with person(api_engine, other := uuid7()) as session:
            session.add(User(id=other, email="ada@EXAMPLE.com"))


async def test_a_block_that_raises_is_rolled_back(api_engine: AsyncEngine) -> None:
    organization_id = uuid7()

    async def fail() -> None:
        async with tenant(api_engine, organization_id) as session:
            session.add(Organization(id=organization_id, name="never"))
            await session.flush()
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        await fail()

    async with tenant(api_engine, organization_id) as session:
        assert await session.get(Organization, organization_id) is None


async def test_what_is_not_a_uuid_is_refused_before_the_database_sees_it(
    api_engine: AsyncEngine,
) -> None:
    with pytest.raises(ValueError, match="badly formed"):
        async with tenant(api_engine, "' OR true --"):
            pass


async def test_the_connection_forgets_whose_it_was(hub_database: Database, ours: Sample) -> None:
    engine = create_engine(hub_database.dsn("trunkline_api"), pool_size=1, max_overflow=0)
    try:
        async with tenant(engine, ours.organization_id, user_id=ours.user_id) as session:
            assert (await session.execute(select(Call.id))).scalars().all() == [ours.call_id]
        async with nobody(engine) as session:
            assert (await session.execute(select(Call.id))).scalars().all() == []
            assert (await session.execute(select(User.id))).scalars().all() == []
        async with engine.connect() as bare:
            assert (await bare.execute(select(Call.id))).scalars().all() == []
    finally:
        await engine.dispose()


async def test_hundreds_of_mixed_and_broken_requests_leak_no_row(
    hub_database: Database, ours: Sample, theirs: Sample
) -> None:
    """Errors and cancellations in the middle of a transaction, over few connections."""
    engine = create_engine(hub_database.dsn("trunkline_api"), pool_size=4, max_overflow=0)
    chance = random.Random(4)
    foreign: list[UUID] = []

    async def request(who: Sample, fate: str) -> None:
        async with tenant(engine, who.organization_id) as session:
            seen = set((await session.execute(select(Call.organization_id))).scalars())
            foreign.extend(seen - {who.organization_id})
            assert seen == {who.organization_id}
            if fate == "fails":
                await session.execute(text("SELECT 1/0"))
            if fate == "is cancelled":
                await session.execute(text("SELECT pg_sleep(1)"))

    async def attempt(number: int) -> None:
        fate = chance.choice(["goes well", "goes well", "fails", "is cancelled"])
        task = asyncio.create_task(request(ours if number % 2 else theirs, fate))
        if fate == "is cancelled":
            async with asyncio.timeout(chance.uniform(0.0, 0.2)):
                await task
        await task

    try:
        results = await asyncio.gather(*map(attempt, range(300)), return_exceptions=True)
        assert foreign == []
        assert sum(result is None for result in results) > 100
        assert not [each for each in results if isinstance(each, AssertionError)]
        async with engine.connect() as bare:
            assert (await bare.execute(select(Call.id))).scalars().all() == []
    finally:
        await engine.dispose()
