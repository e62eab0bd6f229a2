# SPDX-License-Identifier: Apache-2.0
"""Limits hold over all API processes together, and go on holding without the database."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from cloud_hub.auth.limits import SharedBuckets
from cloud_hub.db.session import create_engine
from tests.hub.servers import Database

DEADLINE_S = 180.0


@pytest.fixture(autouse=True)
def full_buckets(hub_database: Database) -> None:
    with psycopg.connect(hub_database.dsn("postgres")) as connection:
        connection.execute("DELETE FROM rate_limits")


def rewind(database: Database, seconds: float) -> None:
    """Let time have passed for the buckets."""
    with psycopg.connect(database.dsn("postgres")) as connection:
        connection.execute(
            "UPDATE rate_limits SET full_at = full_at - make_interval(secs => %s)", (seconds,)
        )


async def test_two_processes_draw_from_one_bucket(
    api_engine: AsyncEngine, hub_database: Database
) -> None:
    other_engine = create_engine(hub_database.dsn("trunkline_api"))
    first, second = (SharedBuckets(each, "key", 6) for each in (api_engine, other_engine))
    taken = [await each.take("ada") for each in (first, second) * 4]
    assert [each.allowed for each in taken] == [True] * 6 + [False] * 2
    assert 1 <= taken[-1].retry_after_s <= 10
    assert (await first.take("eve")).allowed
    other_kind = SharedBuckets(api_engine, "address", 6)
    assert (await other_kind.take("ada")).allowed
    rewind(hub_database, 10.0)
    fresh = SharedBuckets(other_engine, "key", 6)
    assert [(await fresh.take("ada")).allowed for _ in range(2)] == [True, False]
    await other_engine.dispose()


async def test_a_busy_key_costs_few_statements_and_loses_nothing(
    api_engine: AsyncEngine, hub_database: Database
) -> None:
    buckets = SharedBuckets(api_engine, "key", 600)
    taken = await asyncio.gather(*(buckets.take("ada") for _ in range(600)))
    assert all(each.allowed for each in taken)
    other = SharedBuckets(api_engine, "key", 600)
    more = [(await other.take("ada")).allowed for _ in range(200)]
    assert sum(more) < 100, "the rest of a minute's tokens came from the first process"


async def test_each_process_bounds_alone_while_the_database_is_away() -> None:
    engine = create_async_engine("postgresql+psycopg://nobody@127.0.0.1:1/nowhere")
    buckets = SharedBuckets(engine, "key", 3)
    assert [(await buckets.take("ada")).allowed for _ in range(4)] == [True] * 3 + [False]
    await engine.dispose()


async def test_the_table_tells_no_addresses(
    api_engine: AsyncEngine, hub_database: Database
) -> None:
    await SharedBuckets(api_engine, "address", 60).take("192.0.2.7")
    with psycopg.connect(hub_database.dsn("postgres")) as connection:
        rows = connection.execute("SELECT name FROM rate_limits").fetchall()
    assert [len(row[0]) for row in rows] == [32]


@asynccontextmanager
async def api_process(environment: dict[str, str]) -> AsyncIterator[str]:
    """The API alone; gives its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cloud_hub", "api", stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_S):
            line = (await process.stdout.readline()).decode()
        found = re.search(r"(http://\S+/v1)", line)
        assert found, line
        yield found[1]
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.slow
async def test_an_address_gets_its_rate_once_and_not_once_a_process(
    hub_database: Database, tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "TRUNKLINE_HUB_DATABASE_API_URL": hub_database.dsn("trunkline_api"),
        "TRUNKLINE_HUB_DATA_FOLDER": str(tmp_path),
        "TRUNKLINE_HUB_API_PORT": "0",
        "TRUNKLINE_HUB_ADDRESS_RATE": "10",
    }
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(api_process(environment)) for _ in range(2)]
        client = await stack.enter_async_context(httpx.AsyncClient())
        answers = [await client.get(f"{url}/health") for _ in range(10) for url in urls]
    served = [answer.status_code for answer in answers].count(200)
    # Tokens flow in while the requests are made, one each six seconds; twice the rate would be 20.
    spent_s = sum(answer.elapsed.total_seconds() for answer in answers)
    assert 10 <= served <= 11 + spent_s / 6
    assert {answer.status_code for answer in answers} == {200, 429}
