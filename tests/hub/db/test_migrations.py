# SPDX-License-Identifier: Apache-2.0
"""Migrations with data in the tables: up, down, half-way, twice at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.schema import SchemaItem

from cloud_hub.db import embedded, lint, migrate, roles
from cloud_hub.db.dsn import sqlalchemy_url
from cloud_hub.db.models import Base
from tests.hub.db.sample import fill
from tests.hub.servers import Database, database_for_tests

REVISIONS = ["0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008"]


@pytest.fixture
def database(postgres: embedded.Cluster) -> Iterator[Database]:
    """A database of one test's own: nothing that others use is migrated down."""
    with database_for_tests(postgres, "one_test") as database:
        yield database


def rows(database: Database) -> dict[str, int]:
    """How many rows each table holds, of those there are."""
    with psycopg.connect(database.dsn("postgres")) as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = {row[0] for row in found} & set(Base.metadata.tables)
        counted: dict[str, int] = {}
        for table in tables:
            row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
            assert row is not None
            counted[table] = row[0]
        return counted


def test_the_newest_revision_is_what_a_fresh_database_gets(hub_database: Database) -> None:
    assert migrate.newest() == REVISIONS[-1]
    assert migrate.current(hub_database.dsn(roles.OWNER)) == migrate.newest()


def test_the_tables_are_as_the_models_say(hub_database: Database) -> None:
    def modelled(
        _: SchemaItem, name: str | None, kind: str, reflected: bool, other: SchemaItem | None
    ) -> bool:
        """Partitions are the database's own business, and so are their keys and indexes."""
        if reflected and other is None and kind in {"table", "index", "foreign_key_constraint"}:
            return kind == "table" and not any(
                (name or "").startswith(f"{parent}_") for parent in Base.metadata.tables
            )
        return True

    engine = create_engine(sqlalchemy_url(hub_database.dsn(roles.OWNER)), poolclass=NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_object": modelled, "compare_type": True}
        )
        differences: list[Any] = compare_metadata(context, Base.metadata)

    assert differences == []


@pytest.mark.slow
@pytest.mark.parametrize("revision", ["base", *REVISIONS[:-1]])
def test_down_and_up_again_keeps_what_the_older_tables_hold(
    database: Database, revision: str
) -> None:
    fill(database.dsn("postgres"), "ours")
    before = rows(database)

    migrate.downgrade(database.dsn(roles.OWNER), revision)

    kept = rows(database)
    expected = None if revision == "base" else revision
    assert migrate.current(database.dsn(roles.OWNER)) == expected
    assert kept == {table: before[table] for table in kept}

    migrate.upgrade(database.dsn(roles.OWNER))

    assert rows(database) == {table: kept.get(table, 0) for table in before}
    assert lint.check(database.dsn(roles.OWNER)) == []
    lost = [table for table in before if table not in kept]
    if "users" in lost:
        fill(database.dsn("postgres"), "again")
        assert rows(database) == before


def test_a_migration_that_fails_leaves_everything_as_it_was(database: Database) -> None:
    fill(database.dsn("postgres"), "ours")
    before = rows(database)
    with psycopg.connect(database.dsn("postgres")) as connection:
        connection.execute("CREATE VIEW in_the_way AS SELECT id FROM agents")

    with pytest.raises(psycopg.Error, match="in_the_way"):
        migrate.downgrade(database.dsn(roles.OWNER), "base")

    assert migrate.current(database.dsn(roles.OWNER)) == migrate.newest()
    assert rows(database) == before


def test_two_processes_that_start_at_once_migrate_one_database_once(
    postgres: embedded.Cluster,
) -> None:
    administrator = postgres.dsn(embedded.ADMINISTRATOR, "postgres")
    roles.create_database(administrator, "twice")
    database = Database(postgres, "twice")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(migrate.upgrade, [database.dsn(roles.OWNER)] * 2))

    assert migrate.current(database.dsn(roles.OWNER)) == migrate.newest()


@pytest.mark.parametrize("role", roles.SERVICES)
def test_no_service_can_migrate(hub_database: Database, role: str) -> None:
    with pytest.raises((DBAPIError, psycopg.Error), match=r"permission denied|must be owner"):
        migrate.downgrade(hub_database.dsn(role), "base")

    assert migrate.current(hub_database.dsn(role)) == migrate.newest()


def test_the_address_of_another_kind_of_database_is_refused() -> None:
    with pytest.raises(ValueError, match="mysql is not PostgreSQL"):
        migrate.upgrade("mysql://host/trunkline")
