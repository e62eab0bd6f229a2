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


class PowerfulRoleError(ValueError):
    """A role of the hub exists with more power than it may have."""


def create_roles(admin_dsn: str, passwords: Mapping[str, str]) -> None:
    """Make the roles, or set them right.

    Args:
        admin_dsn: of a superuser, or of a role with CREATEROLE (managed databases).
        passwords: of `OWNER` and each of `SERVICES`.

    Raises:
        KeyError: a password is missing.
        PowerfulRoleError: a role was there before, with rights that would undo row-level security.
    """
    with psycopg.connect(libpq_url(admin_dsn)) as connection:
        for role in (OWNER, *SERVICES):
            _ensure(connection, role)
            verifier = sql.Literal(_scram(connection, passwords[role]))
            _alter(connection, role, sql.SQL("LOGIN PASSWORD {}").format(verifier))
        _ensure(connection, LOOKUP)
        _alter(connection, LOOKUP, sql.SQL("NOLOGIN"))
        # The owner may make functions for it, but does not see with its eyes.
        _grant(connection, LOOKUP, sql.Identifier(OWNER))
        for role, limits in _LIMITS.items():
            for name, value in {**limits, "idle_in_transaction_session_timeout": "60s"}.items():
                setting = sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
                _alter(connection, role, setting)
        _refuse_power(connection)


def create_database(admin_dsn: str, name: str, *, template: str = "template0") -> None:
    """Make a database that belongs to the owner and that only these roles may enter.

    `admin_dsn` is of who made the roles, with CREATEDB.
    """
    draft, database, owner = map(sql.Identifier, (f"{name}_new", name, OWNER))
    with psycopg.connect(libpq_url(admin_dsn), autocommit=True) as connection:
        # Under its own name it is only ever seen whole, whatever was interrupted before.
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(draft))
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(draft, sql.Identifier(template))
        )
        with connection.transaction():
            connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(draft, database))
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
            services = sql.SQL(", ").join(map(sql.Identifier, SERVICES))
            connection.execute(
                sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, services)
            )
            # Who is no superuser may give away only to a role that it could be itself.
            _grant(connection, OWNER, sql.SQL("CURRENT_USER"))
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, owner))
            connection.execute(sql.SQL("REVOKE {} FROM CURRENT_USER").format(owner))


def database_exists(admin_dsn: str, name: str) -> bool:
    """Whether there is a database of that name."""
    with psycopg.connect(libpq_url(admin_dsn), autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        return found.fetchone() is not None


def _ensure(connection: psycopg.Connection, role: str) -> None:
    found = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
    if found is None:
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))


def _alter(connection: psycopg.Connection, role: str, change: sql.Composable) -> None:
    connection.execute(sql.SQL("ALTER ROLE {} {}").format(sql.Identifier(role), change))


def _grant(connection: psycopg.Connection, role: str, to: sql.Composable) -> None:
    connection.execute(
        sql.SQL("GRANT {} TO {} WITH INHERIT FALSE, SET TRUE").format(sql.Identifier(role), to)
    )


def _refuse_power(connection: psycopg.Connection) -> None:
    found = connection.execute(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) AND (rolsuper OR rolbypassrls"
        " OR rolcreaterole OR rolcreatedb OR rolreplication) ORDER BY rolname",
        ([OWNER, *SERVICES, LOOKUP],),
    )
    names = ", ".join(row[0] for row in found)
    if names:
        raise PowerfulRoleError(
            f"{names}: these roles exist and are superuser, bypass row-level security, or may make"
            " roles, databases or replicas; take that from them (ALTER ROLE ... NOSUPERUSER"
            " NOBYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION) and try again"
        )


def _scram(connection: psycopg.Connection, password: str) -> str:
    """The verifier instead of the password, so that no log can hold the password."""
    verifier = connection.pgconn.encrypt_password(password.encode(), b"", b"scram-sha-256")
    return verifier.decode()
