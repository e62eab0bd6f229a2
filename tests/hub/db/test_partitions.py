# SPDX-License-Identifier: Apache-2.0
"""Monthly partitions: made ahead, strays moved home, months dropped, one partition read by id."""

from __future__ import annotations

from datetime import UTC, date, datetime
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.db import lint, partitions
from cloud_hub.db.ids import derived, first_of, moment_of, uuid7
from cloud_hub.db.models import Call, CallEvent, Turn, Usage
from cloud_hub.db.roles import OWNER
from cloud_hub.db.session import tenant
from tests.hub.db.sample import Sample
from tests.hub.servers import Database

LARGE = ("calls", "turns", "call_events", "usage")


def call_id_at(moment: datetime) -> UUID:
    return derived(UUID(int=first_of(moment).int), str(uuid7()))


async def ingest_call(engine: AsyncEngine, ours: Sample, call_id: UUID) -> None:
    """A call with all that belongs to it, as the ingest writes it."""
    at = moment_of(call_id)
    organization_id, appliance_id = ours.organization_id, ours.appliance_id
    async with tenant(engine, organization_id) as session:
        session.add(
            Call(
                organization_id=organization_id,
                id=call_id,
                appliance_id=appliance_id,
                direction="inbound",
                status="ended",
                started_at=at,
            )
        )
        await session.flush()
        session.add_all(
            [
                Turn(
                    organization_id=organization_id,
                    call_id=call_id,
                    seq=0,
                    role="caller",
                    text="hello",
                    started_ms=0,
                ),
                CallEvent(
                    organization_id=organization_id, call_id=call_id, seq=0, t_ms=0, kind="began"
                ),
                Usage(
                    organization_id=organization_id,
                    id=derived(call_id, "usage", "1"),
                    appliance_id=appliance_id,
                    call_id=call_id,
                    provider="local",
                    kind="llm",
                    unit="tokens",
                    quantity=7,
                    occurred_at=at,
                ),
            ]
        )


def places(database: Database, call_id: UUID) -> dict[str, str]:
    """In which partition each row of the call lies."""
    with psycopg.connect(database.dsn("postgres")) as connection:
        return {
            table: row[0].removeprefix(table)
            for table in LARGE
            for row in connection.execute(
                f"SELECT tableoid::regclass::text FROM {table} WHERE %s IN"
                f" ({'id' if table == 'calls' else 'call_id'})",
                (call_id,),
            )
        }


async def test_the_coming_months_are_there_after_migration(
    jobs_engine: AsyncEngine, ingest_engine: AsyncEngine, hub_database: Database, ours: Sample
) -> None:
    assert await partitions.ensure_ahead(jobs_engine, datetime.now(UTC).date()) == []

    call_id = uuid7()
    await ingest_call(ingest_engine, ours, call_id)

    month = datetime.now(UTC).strftime("_%Y_%m")
    assert places(hub_database, call_id) == dict.fromkeys(LARGE, month)


async def test_a_clock_ten_years_off_loses_nothing_and_is_noticed(
    jobs_engine: AsyncEngine, ingest_engine: AsyncEngine, hub_database: Database, ours: Sample
) -> None:
    assert set((await partitions.strays(jobs_engine)).values()) == {0}
    ids = [
        call_id_at(datetime(year, 5, 31, 23, 59, 59, 999000, tzinfo=UTC)) for year in (2016, 2041)
    ]
    for call_id in ids:
        await ingest_call(ingest_engine, ours, call_id)

    assert await partitions.strays(jobs_engine) == dict.fromkeys(LARGE, 2)

    made = await partitions.ensure(jobs_engine, date(2041, 5, 1), date(2041, 6, 1))

    assert sorted(made) == sorted(f"{t}_2041_{m}" for t in LARGE for m in ("05", "06"))
    assert places(hub_database, ids[0]) == dict.fromkeys(LARGE, "_default")
    assert places(hub_database, ids[1]) == dict.fromkeys(LARGE, "_2041_05")
    assert await partitions.strays(jobs_engine) == dict.fromkeys(LARGE, 1)
    assert lint.check(hub_database.dsn(OWNER)) == []
    async with tenant(ingest_engine, ours.organization_id) as session:
        for call_id in ids:
            assert await session.get(Call, (ours.organization_id, call_id)) is not None


async def test_a_month_is_dropped_with_its_calls_but_not_their_usage(
    jobs_engine: AsyncEngine, ingest_engine: AsyncEngine, hub_database: Database, ours: Sample
) -> None:
    await partitions.ensure(jobs_engine, date(2020, 2, 1), date(2020, 2, 29))
    gone, stays = (call_id_at(datetime(2020, 2, 29, 12, tzinfo=UTC)), uuid7())
    for call_id in (gone, stays):
        await ingest_call(ingest_engine, ours, call_id)

    dropped = await partitions.drop_month(jobs_engine, date(2020, 2, 14))

    assert dropped == ["turns_2020_02", "call_events_2020_02", "calls_2020_02"]
    assert places(hub_database, gone) == {"usage": "_2020_02"}
    assert len(places(hub_database, stays)) == 4


async def test_a_month_that_is_not_over_cannot_be_dropped(jobs_engine: AsyncEngine) -> None:
    with pytest.raises(DataError, match="not over"):
        await partitions.drop_month(jobs_engine, datetime.now(UTC).date())


@pytest.mark.parametrize(
    "statement", ["SELECT app.drop_month('2020-02-01')", "SELECT app.stray_rows()"]
)
async def test_partitions_are_the_jobs_business_alone(
    api_engine: AsyncEngine, ours: Sample, statement: str
) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with tenant(api_engine, ours.organization_id) as session:
            await session.execute(text(statement))


async def test_a_call_and_its_transcript_are_read_from_one_month(
    api_engine: AsyncEngine, ours: Sample
) -> None:
    async with tenant(api_engine, ours.organization_id) as session:
        for query in (
            f"SELECT * FROM calls WHERE id = '{ours.call_id}'",
            f"SELECT * FROM turns WHERE call_id = '{ours.call_id}' ORDER BY seq",
        ):
            plan = "\n".join((await session.execute(text(f"EXPLAIN {query}"))).scalars())
            assert plan.count("Scan") == 1, plan
            assert "Append" not in plan


async def test_the_list_of_calls_uses_an_index_through_row_level_security(
    api_engine: AsyncEngine, ours: Sample
) -> None:
    async with tenant(api_engine, ours.organization_id) as session:
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = await session.execute(
            text(
                "EXPLAIN SELECT id, caller FROM calls WHERE caller = '+1' ORDER BY id DESC LIMIT 50"
            )
        )
        assert "caller" in "\n".join(plan.scalars()).partition("Index Cond")[2]
