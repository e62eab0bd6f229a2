# SPDX-License-Identifier: Apache-2.0
"""Bring a database to a revision, up or down, in one transaction: whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, text

from cloud_hub.db.dsn import sqlalchemy_url

SCRIPTS: Final = Path(__file__).parent / "migrations"
_LOCK: Final = 0x7472756E6B
"""Two processes that start at once migrate one after the other."""

_VERSION_TABLE: Final = """
CREATE TABLE IF NOT EXISTS alembic_version (
    version_num varchar(32) NOT NULL CONSTRAINT alembic_version_pkc PRIMARY KEY
)"""


def upgrade(dsn: str, revision: str = "head") -> None:
    """Apply what is missing up to `revision`. `dsn` signs in as `trunkline_owner`."""
    _migrate(dsn, revision, command.upgrade)


def downgrade(dsn: str, revision: str) -> None:
    """Take back all after `revision`; `base` takes back everything."""
    _migrate(dsn, revision, command.downgrade)


def current(dsn: str) -> str | None:
    """The revision of the database, None before the first."""
    engine = create_engine(sqlalchemy_url(dsn), poolclass=NullPool)
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """The revision that this software is written for."""
    head = ScriptDirectory(str(SCRIPTS)).get_current_head()
    assert head is not None
    return head


def configuration(connection: Connection) -> Config:
    """Alembic's configuration, made here instead of read from a file."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _migrate(dsn: str, revision: str, direction: Callable[[Config, str], None]) -> None:
    engine = create_engine(sqlalchemy_url(dsn), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        connection.execute(text(_VERSION_TABLE))
        direction(configuration(connection), revision)
