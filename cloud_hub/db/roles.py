# SPDX-License-Identifier: Apache-2.0
"""The roles of the database, made by an administrator once; again is harmless.

| role | signs in | for |
|---|---|---|
| trunkline_owner | yes | migrations; owns the tables, and sees no row of them |
| trunkline_api | yes | the API processes |
| trunkline_ingest | yes | what boxes send |
| trunkline_jobs | yes | rollouts, retention, partitions |
| trunkline_lookup | no | owns the functions that answer before a tenant is known |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import psycopg
from psycopg import sql

from cloud_hub.db.dsn import libpq_url

OWNER: Final = "trunkline_owner"
SERVICES: Final = ("trunkline_api", "trunkline_ingest", "trunkline_jobs")
LOOKUP: Final = "trunkline_lookup"

_LIMITS: Final[Mapping[str, Mapping[str, str]]] = {
    "trunkline_api": {"statement_timeout": "15s", "lock_timeout": "5s"},
    "trunkline_ingest": {"statement_timeout": "30s", "lock_timeout": "10s"},
    "trunkline_jobs": {"statement_timeout": "5min", "lock_timeout": "10s"},
}
_POWERLESS: Final = sql.SQL("NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS")


def create_roles(admin_dsn: str, passwords: Mapping[str, str]) -> None:
    """Make the roles, or set them right.

    Args:
        admin_dsn: of a role that may create roles.
        passwords: of `OWNER` and each of `SERVICES`.

    Raises:
        KeyError: a password is missing.
    """
    with psycopg.connect(libpq_url(admin_dsn), autocommit=True) as connection:
        for role in (OWNER, *SERVICES):
            _ensure(connection, role)
            connection.execute(
                sql.SQL("ALTER ROLE {} LOGIN {} PASSWORD {}").format(
                    sql.Identifier(role),
                    _POWERLESS,
                    sql.Literal(_scram(connection, passwords[role])),
                )
            )
        _ensure(connection, LOOKUP)
        lookup = sql.Identifier(LOOKUP)
        connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN {}").format(lookup, _POWERLESS))
        # The owner may make functions for it, but does not see with its eyes.
        connection.execute(
            sql.SQL("GRANT {} TO {} WITH INHERIT FALSE, SET TRUE").format(
                lookup, sql.Identifier(OWNER)
            )
        )
        for role, limits in _LIMITS.items():
            for name, value in {**limits, "idle_in_transaction_session_timeout": "60s"}.items():
                connection.execute(
                    sql.SQL("ALTER ROLE {} SET {} = {}").format(
                        sql.Identifier(role), sql.Identifier(name), sql.Literal(value)
                    )
                )


def create_database(admin_dsn: str, name: str, *, template: str = "template0") -> None:
    """Make a database that belongs to the owner and that only these roles may enter."""
    with psycopg.connect(libpq_url(admin_dsn), autocommit=True) as connection:
        database = sql.Identifier(name)
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
                database, sql.Identifier(OWNER), sql.Identifier(template)
            )
        )
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
        for role in SERVICES:
            connection.execute(
                sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, sql.Identifier(role))
            )


def database_exists(admin_dsn: str, name: str) -> bool:
    """Whether there is a database of that name."""
    with psycopg.connect(libpq_url(admin_dsn), autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        return found.fetchone() is not None


def _ensure(connection: psycopg.Connection, role: str) -> None:
    found = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
    if found is None:
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))


def _scram(connection: psycopg.Connection, password: str) -> str:
    """The verifier instead of the password, so that no log can hold the password."""
    verifier = connection.pgconn.encrypt_password(password.encode(), b"", b"scram-sha-256")
    return verifier.decode()
