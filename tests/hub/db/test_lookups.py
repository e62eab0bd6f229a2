# SPDX-License-Identifier: Apache-2.0
"""The windows through which the hub asks before it knows who asks: what they show, and to whom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.db.ids import uuid7
from cloud_hub.db.models import Claim
from cloud_hub.db.session import nobody, person, tenant
from tests.hub.db.sample import Sample, digest, fill
from tests.hub.servers import Database

SOON = datetime.now(UTC) + timedelta(minutes=15)


async def ask(engine: AsyncEngine, call: str, **values: Any) -> list[tuple[Any, ...]]:
    """What a lookup answers when nobody is signed in."""
    async with nobody(engine) as session:
        return [
            tuple(row) for row in await session.execute(text(f"SELECT * FROM app.{call}"), values)
        ]


def administer(database: Database, statement: str, *values: Any) -> None:
    with psycopg.connect(database.dsn("postgres")) as connection:
        connection.execute(statement.encode(), values)


async def test_a_person_is_found_by_email_in_any_case(
    api_engine: AsyncEngine, ours: Sample
) -> None:
    ((user_id, password_hash, *_, has_totp),) = await ask(
        api_engine, "user_by_email(:e)", e="OURS@Example.com"
    )

    assert (user_id, password_hash, has_totp) == (ours.user_id, "x", False)
    assert await ask(api_engine, "user_by_email(:e)", e="nobody@example.com") == []


async def test_failed_sign_ins_are_counted_until_one_succeeds(
    api_engine: AsyncEngine, ours: Sample
) -> None:
    call = "note_sign_in(:who, :good, :lock)"
    failures = [
        await ask(api_engine, call, who=ours.user_id, good=good, lock=None)
        for good in (False, False, True, False)
    ]

    assert failures == [[(1,)], [(2,)], [(0,)], [(1,)]]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sessions SET revoked_at = now() WHERE user_id = %s",
        "UPDATE sessions SET idle_until = now() WHERE user_id = %s",
        "UPDATE sessions SET absolute_until = now() WHERE user_id = %s",
        "UPDATE users SET disabled_at = now() WHERE id = %s",
    ],
)
async def test_a_session_is_found_by_its_token_while_it_is_good(
    api_engine: AsyncEngine, hub_database: Database, change: str
) -> None:
    name = digest(change).hex()[:8]
    sample = fill(hub_database.dsn("postgres"), name)
    token = digest(name, "session")
    found = await ask(api_engine, "session_by_token(:t)", t=token)
    assert [row[1] for row in found] == [sample.user_id]

    administer(hub_database, change, sample.user_id)

    assert await ask(api_engine, "session_by_token(:t)", t=token) == []


async def test_a_link_to_a_person_works_once_and_for_its_purpose(
    api_engine: AsyncEngine, ours: Sample
) -> None:
    token = digest("ours", "token")
    call = "use_user_token(:t, :p)"

    assert await ask(api_engine, call, t=token, p="verify_email") == [(None,)]
    assert await ask(api_engine, call, t=token, p="reset_password") == [(ours.user_id,)]
    assert await ask(api_engine, call, t=token, p="reset_password") == [(None,)]


async def test_a_key_is_found_by_its_prefix_while_it_is_good(
    api_engine: AsyncEngine, hub_database: Database, ours: Sample
) -> None:
    call = "api_key_by_prefix(:p)"
    ((organization_id, *_),) = await ask(api_engine, call, p=ours.api_key_prefix)
    assert organization_id == ours.organization_id

    for broken, mended in (
        ("api_keys SET expires_at = now() WHERE organization_id", "api_keys SET expires_at = NULL"),
        (
            "organizations SET suspended_at = now() WHERE id",
            "organizations SET suspended_at = NULL",
        ),
        ("api_keys SET revoked_at = now() WHERE organization_id", "api_keys SET revoked_at = NULL"),
    ):
        administer(hub_database, f"UPDATE {broken} = %s", ours.organization_id)
        assert await ask(api_engine, call, p=ours.api_key_prefix) == []
        administer(hub_database, f"UPDATE {mended}")


async def test_an_invitation_is_found_by_its_token(api_engine: AsyncEngine, ours: Sample) -> None:
    ((organization_id, _, name, email, role),) = await ask(
        api_engine, "invitation_by_token(:t)", t=digest("ours", "invitation")
    )

    assert (organization_id, name) == (ours.organization_id, "ours")
    assert (email, role) == ("new@example.com", "viewer")


async def test_a_box_and_its_certificate_name_their_tenant(
    ingest_engine: AsyncEngine, ours: Sample
) -> None:
    assert await ask(ingest_engine, "appliance(:b)", b=ours.appliance_id) == [
        (ours.organization_id, "active")
    ]
    ((organization_id, appliance_id, *_),) = await ask(
        ingest_engine, "certificate(:s)", s=ours.serial
    )
    assert (organization_id, appliance_id) == (ours.organization_id, ours.appliance_id)
    assert await ask(ingest_engine, "appliance(:b)", b=uuid7()) == []


async def test_an_open_claim_is_seen_by_nobody_and_taken_once(
    api_engine: AsyncEngine, ours: Sample, theirs: Sample
) -> None:
    secret = digest("poll")
    async with nobody(api_engine) as session:
        await session.execute(
            insert(Claim).values(code="7K2M", poll_hash=secret, csr="", expires_at=SOON)
        )
    for engine_sees in (nobody(api_engine), tenant(api_engine, theirs.organization_id)):
        async with engine_sees as session:
            seen = await session.execute(select(Claim).where(Claim.code == "7K2M"))
            assert seen.all() == []

    async with tenant(api_engine, ours.organization_id) as session:
        claim_id = await session.scalar(text("SELECT app.take_claim('7K2M')"))
        taken = await session.get_one(Claim, claim_id)
        taken.appliance_id = ours.appliance_id
    async with tenant(api_engine, theirs.organization_id) as session:
        assert await session.scalar(text("SELECT app.take_claim('7K2M')")) is None

    ((_, organization_id, appliance_id, status, _),) = await ask(
        api_engine, "claim_by_secret(:s)", s=secret
    )
    assert (organization_id, appliance_id) == (ours.organization_id, ours.appliance_id)
    assert status == "claimed"


async def test_a_claim_needs_a_tenant_and_cannot_begin_with_a_stolen_one(
    api_engine: AsyncEngine, ours: Sample, theirs: Sample
) -> None:
    async with nobody(api_engine) as session:
        await session.execute(insert(Claim).values(code="9XQA", expires_at=SOON))
        assert await session.scalar(text("SELECT app.take_claim('9XQA')")) is None
    with pytest.raises(ProgrammingError, match="row-level security"):
        async with tenant(api_engine, ours.organization_id) as session:
            await session.execute(
                insert(Claim).values(organization_id=theirs.organization_id, expires_at=SOON)
            )
    with pytest.raises(IntegrityError, match="claims_code_key"):
        async with nobody(api_engine) as session:
            await session.execute(insert(Claim).values(code="9XQA", expires_at=SOON))


async def test_claims_that_nobody_took_in_time_are_removed(api_engine: AsyncEngine) -> None:
    late = datetime.now(UTC) - timedelta(seconds=1)
    async with nobody(api_engine) as session:
        await session.execute(insert(Claim).values(code="LATE", expires_at=late))

    assert len(await ask(api_engine, "purge_claims()")) == 1
    assert await ask(api_engine, "purge_claims()") == []


async def test_the_set_up_link_works_once_and_only_while_there_is_nobody(
    api_engine: AsyncEngine, hub_database: Database, ours: Sample
) -> None:
    link = digest("link")
    assert await ask(api_engine, "add_setup_link(:h, :e)", h=link, e=SOON) == [(None,)]

    with psycopg.connect(hub_database.dsn("postgres")) as admin:  # as on an empty hub
        tables = "users, credentials, totp_factors, recovery_codes, sessions, user_tokens"
        admin.execute(f"TRUNCATE {tables} CASCADE".encode())
    assert await ask(api_engine, "add_setup_link(:h, :e)", h=link, e=SOON) == [(True,)]
    assert await ask(api_engine, "use_setup_link(:h)", h=digest("guess")) == [(None,)]
    assert await ask(api_engine, "use_setup_link(:h)", h=link) == [(True,)]
    assert await ask(api_engine, "use_setup_link(:h)", h=link) == [(None,)]


@pytest.mark.parametrize(
    ("role", "call"),
    [
        ("trunkline_ingest", "user_by_email('a')"),
        ("trunkline_ingest", "session_by_token('')"),
        ("trunkline_ingest", "api_key_by_prefix('a')"),
        ("trunkline_jobs", "use_user_token('', '')"),
        ("trunkline_jobs", "take_claim('a')"),
        ("trunkline_api", "organization_ids()"),
        ("trunkline_ingest", "organization_ids()"),
        ("trunkline_owner", "user_by_email('a')"),
    ],
)
def test_a_lookup_answers_only_who_needs_it(hub_database: Database, role: str, call: str) -> None:
    with (
        psycopg.connect(hub_database.dsn(role)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(f"SELECT * FROM app.{call}".encode())


async def test_what_ended_a_month_ago_is_removed_and_nothing_else(
    jobs_engine: AsyncEngine, hub_database: Database
) -> None:
    sample = fill(hub_database.dsn("postgres"), "purged")
    assert await ask(jobs_engine, "purge_ended()") == [
        ("sessions", 0),
        ("user_tokens", 0),
        ("setup_links", 0),
    ]

    for table, column in (("sessions", "revoked_at"), ("user_tokens", "expires_at")):
        administer(
            hub_database,
            f"UPDATE {table} SET {column} = now() - interval '31 days' WHERE user_id = %s",
            sample.user_id,
        )

    assert await ask(jobs_engine, "purge_ended()") == [
        ("sessions", 1),
        ("user_tokens", 1),
        ("setup_links", 0),
    ]


async def test_nobody_has_organizations(api_engine: AsyncEngine) -> None:
    assert await ask(api_engine, "my_organizations()") == []
    async with person(api_engine, uuid7()) as session:
        assert (await session.execute(text("SELECT * FROM app.my_organizations()"))).all() == []
