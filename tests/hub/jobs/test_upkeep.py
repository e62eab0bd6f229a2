# SPDX-License-Identifier: Apache-2.0
"""What each job removes, and what it leaves alone; a second run finds nothing more to do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.db import partitions
from cloud_hub.db.ids import derived, first_of, uuid7
from cloud_hub.db.session import nobody
from cloud_hub.fleet.recordings import RecordingFiles
from cloud_hub.jobs.__main__ import all_jobs
from cloud_hub.jobs.settings import JobSettings
from cloud_hub.jobs.worker import Counts
from tests.hub.db.sample import Sample, fill
from tests.hub.servers import Database

LONG_AGO = "now() - interval '400 days'"


@pytest.fixture(scope="module")
def ours(hub_database: Database) -> Sample:
    return fill(hub_database.dsn("postgres"), "ours")


@pytest.fixture
def files(tmp_path: Path) -> RecordingFiles:
    return RecordingFiles(tmp_path)


class Jobs:
    """All jobs, by name, as the worker would do them."""

    def __init__(self, engine: AsyncEngine, files: RecordingFiles) -> None:
        self.engine, self.files = engine, files

    async def do(self, name: str, **settings: int) -> Counts:
        jobs = all_jobs(self.engine, self.files, JobSettings(**settings))  # type: ignore[arg-type]
        return await next(job for job in jobs if job.name == name).work()


@pytest.fixture
def jobs(jobs_engine: AsyncEngine, files: RecordingFiles) -> Jobs:
    return Jobs(jobs_engine, files)


@pytest.fixture
def admin(hub_database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(hub_database.dsn("postgres"), autocommit=True) as connection:
        yield connection


def count(admin: psycopg.Connection, table: str, condition: str = "true") -> int:
    row = admin.execute(f"SELECT count(*) FROM {table} WHERE {condition}".encode()).fetchone()
    assert row is not None
    return int(row[0])


async def test_nothing_that_is_still_good_is_touched(
    jobs: Jobs, ours: Sample, admin: psycopg.Connection
) -> None:
    tables = [
        row[0]
        for row in admin.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            " AND tablename <> 'job_runs'"
        )
    ]
    before = {table: count(admin, table) for table in tables}
    for job in all_jobs(jobs.engine, jobs.files, JobSettings(retention_days=1, retention_months=3)):
        counts = await job.work()
        assert not any(counts.values()), job.name
    assert {table: count(admin, table) for table in tables} == before


async def test_months_ahead_are_made(jobs: Jobs, admin: psycopg.Connection) -> None:
    last = partitions.shifted(datetime.now(UTC).date(), months=3)
    for parent in ("call_events", "turns", "calls", "usage"):
        month = f"{parent}_{last:%Y_%m}"
        admin.execute(f"ALTER TABLE {parent} DETACH PARTITION {month}".encode())
        admin.execute(f"DROP TABLE {month}".encode())
    assert await jobs.do("partitions") == {"made": 4, "strays": 0}
    assert await jobs.do("partitions") == {"made": 0, "strays": 0}


async def test_commands_that_no_box_took_are_closed(
    jobs: Jobs, ours: Sample, admin: psycopg.Connection
) -> None:
    admin.execute("UPDATE commands SET expires_at = now() - interval '1 s'")
    assert await jobs.do("commands") == {"expired": 1}
    assert await jobs.do("commands") == {"expired": 0}
    assert count(admin, "commands", "status = 'expired' AND finished_at IS NOT NULL") == 1


async def test_kept_answers_are_removed_after_their_time(
    jobs: Jobs, ours: Sample, admin: psycopg.Connection
) -> None:
    admin.execute(
        "INSERT INTO idempotency_keys (organization_id, key, request_hash, expires_at)"
        " SELECT %s, 'old ' || n, '', now() FROM generate_series(1, 2500) n",
        (ours.organization_id,),
    )
    assert await jobs.do("idempotency") == {"answers": 2500}
    assert count(admin, "idempotency_keys") == 1


async def test_claims_sessions_links_and_counters_go_when_they_are_over(
    jobs: Jobs, ours: Sample, admin: psycopg.Connection, api_engine: AsyncEngine
) -> None:
    fill_admin = "INSERT INTO claims (id, status, expires_at) VALUES (%s, 'open', {})"
    admin.execute(fill_admin.format("now() - interval '1 s'").encode(), (uuid7(),))
    admin.execute(fill_admin.format("now() + interval '1 h'").encode(), (uuid7(),))
    assert await jobs.do("claims") == {"expired": 1, "old": 0}
    admin.execute(f"UPDATE claims SET expires_at = {LONG_AGO} WHERE status = 'issued'".encode())
    assert await jobs.do("claims") == {"expired": 0, "old": 1}
    assert count(admin, "claims") == 1
    admin.execute(f"UPDATE sessions SET revoked_at = {LONG_AGO}".encode())
    admin.execute(f"UPDATE user_tokens SET used_at = now(), expires_at = {LONG_AGO}".encode())
    assert await jobs.do("people") == {"sessions": 1, "user_tokens": 1, "setup_links": 0}
    async with nobody(api_engine) as session:
        for name in (b"a", b"b"):
            await session.execute(text("SELECT app.take_tokens(:name, 1, 60)"), {"name": name})
    admin.execute("UPDATE rate_limits SET full_at = now() - interval '1 s' WHERE name = 'a'")
    assert await jobs.do("limits") == {"counters": 1}
    assert count(admin, "rate_limits") == 1


async def test_quarantined_rows_go_after_the_time_that_is_set(
    jobs: Jobs, ours: Sample, admin: psycopg.Connection
) -> None:
    admin.execute("UPDATE quarantined_rows SET created_at = now() - interval '8 days'")
    assert await jobs.do("quarantine") == {"rows": 0}
    assert await jobs.do("quarantine", quarantine_days=7) == {"rows": 1}


async def test_an_upload_that_was_never_finished_goes_with_its_pieces(
    jobs: Jobs, ours: Sample, admin: psycopg.Connection
) -> None:
    jobs.files.write("u/1", 0, b"half")
    admin.execute(f"UPDATE uploads SET storage_key = 'u/1', expires_at = {LONG_AGO}".encode())
    admin.execute("UPDATE uploads SET status = 'complete'")
    assert await jobs.do("uploads") == {"uploads": 0}
    admin.execute("UPDATE uploads SET status = 'receiving'")
    assert await jobs.do("uploads") == {"uploads": 1}
    assert count(admin, "recordings") == 1
    assert not jobs.files.path("u/1.part").exists()


def add_call(admin: psycopg.Connection, ours: Sample, at: datetime) -> UUID:
    """A call of then, with a turn, an event and a recording."""
    call_id = derived(UUID(int=first_of(at).int), str(uuid7()))
    place = (ours.organization_id, call_id)
    admin.execute(
        "INSERT INTO calls (organization_id, id, appliance_id, direction, status, started_at,"
        " received_at) VALUES (%s, %s, %s, 'inbound', 'ended', now(), %s)",
        (*place, ours.appliance_id, at),
    )
    admin.execute(
        "INSERT INTO turns (organization_id, call_id, seq, role, text, started_ms)"
        " VALUES (%s, %s, 0, 'caller', 'words', 0)",
        place,
    )
    admin.execute(
        "INSERT INTO call_events (organization_id, call_id, seq, t_ms, kind)"
        " VALUES (%s, %s, 0, 0, 'began')",
        place,
    )
    admin.execute(
        "INSERT INTO recordings (organization_id, call_id, id, appliance_id, storage_key, sha256,"
        " size, content_type, created_at) VALUES (%s, %s, %s, %s, %s, 'x', 5, 'audio/wav', %s)",
        (*place, uuid7(), ours.appliance_id, f"old/{call_id}", at),
    )
    return call_id


async def test_calls_are_kept_as_long_as_their_organization_says(
    jobs: Jobs, ours: Sample, admin: psycopg.Connection, hub_database: Database
) -> None:
    theirs = fill(hub_database.dsn("postgres"), "theirs")
    now = datetime.now(UTC)
    kept = add_call(admin, ours, now - timedelta(days=29))
    old = add_call(admin, ours, now - timedelta(days=31))
    foreign = add_call(admin, theirs, now - timedelta(days=31))
    # A box whose clock stands in 1980 has just sent this one.
    strange = add_call(admin, ours, datetime(1980, 1, 1, tzinfo=UTC))
    admin.execute("UPDATE calls SET received_at = now() WHERE id = %s", (strange,))
    admin.execute("UPDATE recordings SET created_at = now() WHERE call_id = %s", (strange,))
    jobs.files.write(f"old/{old}", 0, b"sound")
    jobs.files.path(f"old/{old}.part").rename(jobs.files.path(f"old/{old}"))
    assert not any((await jobs.do("retention")).values())
    admin.execute(
        "UPDATE organizations SET settings = '{\"retention_days\": 30}' WHERE id = %s",
        (ours.organization_id,),
    )
    assert await jobs.do("retention") == {"calls": 1, "recordings": 1, "months": 0}
    assert not any((await jobs.do("retention")).values())
    left = {row[0] for row in admin.execute("SELECT id FROM calls")}
    assert left >= {kept, foreign, strange}
    assert old not in left
    for table in ("turns", "call_events", "recordings"):
        assert count(admin, table, f"call_id = '{old}'") == 0
        assert count(admin, table, f"call_id = '{kept}'") == 1
    assert not jobs.files.path(f"old/{old}").exists()
    admin.execute("DELETE FROM recordings WHERE call_id = %s", (strange,))
    assert await jobs.do("retention", retention_days=30) == {
        "calls": 1,
        "recordings": 1,
        "months": 0,
    }, "who does not say gets what the hub says"


async def test_months_that_nobody_may_keep_are_dropped_whole(
    jobs: Jobs, ours: Sample, admin: psycopg.Connection
) -> None:
    today = datetime.now(UTC).date()
    oldest = partitions.shifted(today, months=-5)
    await partitions.ensure(jobs.engine, oldest, today)
    call_id = add_call(
        admin, ours, datetime(oldest.year, oldest.month, 2, tzinfo=UTC) + timedelta(hours=1)
    )
    admin.execute("UPDATE organizations SET settings = '{}'")
    assert not any((await jobs.do("retention", retention_months=5)).values())
    counts = await jobs.do("retention", retention_months=3)
    assert (counts["months"], counts["recordings"]) == (2, 1)
    assert count(admin, "calls", f"id = '{call_id}'") == 0
    assert await jobs.do("partitions") == {"made": 0, "strays": 3}, "what was dropped stays away"
