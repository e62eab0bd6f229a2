# SPDX-License-Identifier: Apache-2.0
"""Fixtures of all hub tests: one PostgreSQL and one NATS a run, one database a module."""

from __future__ import annotations

import itertools
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.db import embedded
from cloud_hub.db.session import create_engine
from tests.hub.servers import (
    TEMPLATE,
    Database,
    Nats,
    database_for_tests,
    folder_for_server,
    nats_running,
)

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[embedded.Cluster]:
    """A server with the roles and a migrated template. Nothing of it must outlive the run."""
    quick = {
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        "authentication_timeout": "10s",  # who was cancelled while signing in holds up DROP DATABASE
    }
    with folder_for_server("all") as folder:
        cluster = embedded.start(folder, settings=quick)
        try:
            embedded.prepare(cluster, TEMPLATE)
            yield cluster
        finally:
            cluster.stop(immediately=True)


@pytest.fixture(scope="module")
def hub_database(postgres: embedded.Cluster, request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty, migrated database for this module."""
    name = re.sub(r"\W+", "_", request.module.__name__.rpartition(".")[2])
    with database_for_tests(postgres, f"{name}_{next(_numbers)}"[-60:]) as database:
        yield database


@pytest_asyncio.fixture
async def api_engine(hub_database: Database) -> AsyncIterator[AsyncEngine]:
    """Connections as `trunkline_api`."""
    async for engine in _engine(hub_database, "trunkline_api"):
        yield engine


@pytest_asyncio.fixture
async def ingest_engine(hub_database: Database) -> AsyncIterator[AsyncEngine]:
    """Connections as `trunkline_ingest`."""
    async for engine in _engine(hub_database, "trunkline_ingest"):
        yield engine


@pytest_asyncio.fixture
async def jobs_engine(hub_database: Database) -> AsyncIterator[AsyncEngine]:
    """Connections as `trunkline_jobs`."""
    async for engine in _engine(hub_database, "trunkline_jobs"):
        yield engine


@pytest.fixture(scope="session")
def nats() -> Iterator[Nats]:
    """A NATS server without authentication; for one with accounts, use `nats_running`."""
    folder = Path(tempfile.mkdtemp(prefix="hub-tests-nats-"))
    try:
        with nats_running(folder) as server:
            yield server
    finally:
        shutil.rmtree(folder)


async def _engine(database: Database, role: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database.dsn(role))
    try:
        yield engine
    finally:
        await engine.dispose()
