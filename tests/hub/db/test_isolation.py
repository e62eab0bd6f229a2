# SPDX-License-Identifier: Apache-2.0
"""What one tenant can learn of another, tried on every table by every role: nothing.

These tests speak SQL as an attacker would who has taken over a service's statements, but not its
choice of tenant.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import psycopg
import pytest
from psycopg import errors, sql

from cloud_hub.db.ids import uuid7
from cloud_hub.db.models import Base
from cloud_hub.db.roles import OWNER, SERVICES
from tests.hub.db.sample import Sample
from tests.hub.servers import Database

TENANT_TABLES = sorted(
    table.name
    for table in Base.metadata.tables.values()
    if "organization_id" in table.columns or table.name == "organizations"
)
PEOPLE = ["credentials", "recovery_codes", "sessions", "totp_factors", "user_tokens", "users"]
LARGE = ("calls", "turns", "call_events", "usage")


def tenant_column(table: str) -> str:
    return "id" if table == "organizations" else "organization_id"


_connections: dict[str, psycopg.Connection] = {}


@pytest.fixture(scope="module", autouse=True)
def _closed_at_the_end() -> Iterator[None]:
    """A connection is signed in once, not once a test."""
    yield
    while _connections:
        _connections.popitem()[1].close()


@contextmanager
def transaction(
    database: Database, role: str, organization_id: UUID | str = "", user_id: UUID | str = ""
) -> Iterator[psycopg.Connection]:
    dsn = database.dsn(role)
    if dsn not in _connections:
        _connections[dsn] = psycopg.connect(dsn)
    connection = _connections[dsn]
    connection.execute(
        "SELECT set_config('app.organization_id', %s, true), set_config('app.user_id', %s, true)",
        (str(organization_id), str(user_id)),
    )
    try:
        yield connection
    finally:
        connection.rollback()


def count(connection: psycopg.Connection, table: str, organization_id: UUID) -> int | None:
    """Rows of that tenant; None where the role may not look at all."""
    query = sql.SQL("SELECT count(*) FROM {} WHERE {} = %s").format(
        sql.Identifier(table), sql.Identifier(tenant_column(table))
    )
    try:
        row = connection.execute(query, (organization_id,)).fetchone()
    except errors.InsufficientPrivilege:
        connection.rollback()
        return None
    assert row is not None
    number: int = row[0]
    return number


@pytest.fixture(autouse=True)
def _both(ours: Sample, theirs: Sample) -> None:
    """Every test here has both organizations in its database."""


@pytest.mark.parametrize("table", TENANT_TABLES)
def test_every_table_has_a_row_of_both_or_the_tests_below_prove_nothing(
    hub_database: Database, ours: Sample, theirs: Sample, table: str
) -> None:
    with transaction(hub_database, "postgres") as connection:
        assert count(connection, table, ours.organization_id)
        assert count(connection, table, theirs.organization_id)


@pytest.mark.parametrize("role", [*SERVICES, OWNER])
@pytest.mark.parametrize("table", TENANT_TABLES)
def test_without_a_tenant_no_row_is_seen(
    hub_database: Database, ours: Sample, role: str, table: str
) -> None:
    with transaction(hub_database, role) as connection:
        assert not count(connection, table, ours.organization_id)


@pytest.mark.parametrize("role", SERVICES)
@pytest.mark.parametrize("table", TENANT_TABLES)
def test_a_tenant_sees_its_rows_and_no_other(
    hub_database: Database, ours: Sample, theirs: Sample, role: str, table: str
) -> None:
    with transaction(hub_database, role, ours.organization_id) as connection:
        own = count(connection, table, ours.organization_id)
    with transaction(hub_database, role, ours.organization_id) as connection:
        foreign = count(connection, table, theirs.organization_id)

    assert own is None or own > 0
    assert not foreign


@pytest.mark.parametrize("role", SERVICES)
@pytest.mark.parametrize("table", TENANT_TABLES)
def test_no_statement_changes_or_removes_another_tenants_rows(
    hub_database: Database, ours: Sample, theirs: Sample, role: str, table: str
) -> None:
    column = sql.Identifier(tenant_column(table))
    first = next(iter(Base.metadata.tables[table].primary_key.columns)).name
    changes = (
        sql.SQL("UPDATE {t} SET {k} = {k} WHERE {c} = %s"),
        sql.SQL("DELETE FROM {t} WHERE {c} = %s"),
    )
    for change in changes:
        statement = change.format(t=sql.Identifier(table), k=sql.Identifier(first), c=column)
        with transaction(hub_database, role, ours.organization_id) as connection:
            try:
                changed = connection.execute(statement, (theirs.organization_id,)).rowcount
            except errors.InsufficientPrivilege:
                changed = 0
        assert changed == 0


@pytest.mark.parametrize("role", SERVICES)
@pytest.mark.parametrize("table", TENANT_TABLES)
def test_no_row_can_be_written_in_another_tenants_name(
    hub_database: Database, ours: Sample, theirs: Sample, role: str, table: str
) -> None:
    """A copy of their row, column by column, offered in our name, must fail on rights alone."""
    with psycopg.connect(hub_database.dsn("postgres"), row_factory=psycopg.rows.dict_row) as admin:
        row = admin.execute(
            sql.SQL("SELECT * FROM {} WHERE {} = %s").format(
                sql.Identifier(table), sql.Identifier(tenant_column(table))
            ),
            (theirs.organization_id,),
        ).fetchone()
    assert row is not None
    skipped = {"seq", "at", "prev_hash", "hash"} if table == "audit_log" else set()
    columns = [name for name in row if name not in skipped]
    values = [
        psycopg.types.json.Jsonb(row[name]) if isinstance(row[name], dict) else row[name]
        for name in columns
    ]
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
    )

    with (
        transaction(hub_database, role, ours.organization_id) as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute(statement, values)


@pytest.mark.parametrize("role", [*SERVICES, OWNER])
@pytest.mark.parametrize("table", LARGE)
def test_a_partition_asked_by_its_own_name_shows_nothing(
    hub_database: Database, ours: Sample, role: str, table: str
) -> None:
    with transaction(hub_database, "postgres") as connection:
        (partition,) = connection.execute(
            sql.SQL("SELECT tableoid::regclass::text FROM {} LIMIT 1").format(sql.Identifier(table))
        ).fetchone() or ("",)

    with transaction(hub_database, role, ours.organization_id) as connection:
        assert not count(connection, partition, ours.organization_id)


def test_a_malformed_tenant_is_an_error_and_not_everybody(hub_database: Database) -> None:
    with (
        transaction(hub_database, "trunkline_api", "%") as connection,
        pytest.raises(errors.InvalidTextRepresentation),
    ):
        connection.execute("SELECT * FROM calls")


REFERENCES = {
    "appliances": ("group_id", "group_id"),
    "deployments": ("agent_id", "agent_id"),
    "deployment_targets": ("appliance_id", "appliance_id"),
    "desired_state": ("bundle_id", "bundle_id"),
    "commands": ("appliance_id", "appliance_id"),
    "recordings": ("upload_id", "upload_id"),
}


@pytest.mark.parametrize("table", REFERENCES)
def test_no_row_can_point_at_another_tenants(
    hub_database: Database, ours: Sample, theirs: Sample, table: str
) -> None:
    """Also as the administrator, whom no policy stops: the keys themselves do not allow it."""
    column, attribute = REFERENCES[table]
    statement = sql.SQL("UPDATE {} SET {} = %s WHERE organization_id = %s").format(
        sql.Identifier(table), sql.Identifier(column)
    )

    with (
        transaction(hub_database, "postgres") as connection,
        pytest.raises(errors.ForeignKeyViolation),
    ):
        connection.execute(statement, (getattr(theirs, attribute), ours.organization_id))


def test_pointing_at_another_tenants_row_fails_like_pointing_at_nothing(
    hub_database: Database, ours: Sample, theirs: Sample
) -> None:
    messages = []
    for target in (theirs.group_id, uuid7()):
        with (
            transaction(hub_database, "trunkline_api", ours.organization_id) as connection,
            pytest.raises(errors.ForeignKeyViolation) as failure,
        ):
            connection.execute("UPDATE appliances SET group_id = %s", (target,))
        diagnosis = failure.value.diag
        messages.append(
            (
                diagnosis.message_primary,
                (diagnosis.message_detail or "").replace(str(target), "ID"),
            )
        )

    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    "insert",
    [
        "INSERT INTO teams (organization_id, id, name) VALUES (%(o)s, %(i)s, 'SUPPORT 2')",
        "INSERT INTO agents (organization_id, id, name) VALUES (%(o)s, %(i)s, 'Their agent')",
        "INSERT INTO appliance_groups (organization_id, id, name) VALUES (%(o)s, %(i)s, 'secret')",
        """INSERT INTO idempotency_keys (organization_id, key, request_hash, expires_at)
            VALUES (%(o)s, 'their key', '', now())""",
    ],
)
def test_a_name_that_another_tenant_uses_is_free(
    hub_database: Database, ours: Sample, theirs: Sample, insert: str
) -> None:
    with psycopg.connect(hub_database.dsn("postgres")) as admin:
        admin.execute(insert, {"o": theirs.organization_id, "i": uuid7()})

        with transaction(hub_database, "trunkline_api", ours.organization_id) as connection:
            connection.execute("SET LOCAL lock_timeout = '2s'")  # nor does it wait for theirs
            connection.execute(insert, {"o": ours.organization_id, "i": uuid7()})
        admin.rollback()


@pytest.mark.parametrize("table", PEOPLE)
def test_a_person_sees_own_rows_alone(
    hub_database: Database, ours: Sample, theirs: Sample, table: str
) -> None:
    key = "id" if table == "users" else "user_id"
    query = sql.SQL("SELECT {} FROM {}").format(sql.Identifier(key), sql.Identifier(table))
    with transaction(hub_database, "trunkline_api", user_id=ours.user_id) as connection:
        assert {row[0] for row in connection.execute(query)} == {ours.user_id}
    with transaction(hub_database, "trunkline_api") as connection:
        assert connection.execute(query).fetchall() == []


def test_members_see_each_other_but_not_each_others_passwords(
    hub_database: Database, ours: Sample, theirs: Sample
) -> None:
    with transaction(hub_database, "trunkline_api", ours.organization_id) as connection:
        people = connection.execute("SELECT id FROM users").fetchall()
        assert people == [(ours.user_id,)]
        assert connection.execute("SELECT 1 FROM credentials").fetchall() == []
        assert connection.execute("SELECT 1 FROM sessions").fetchall() == []


@pytest.mark.parametrize("role", ["trunkline_ingest", "trunkline_jobs"])
@pytest.mark.parametrize("table", [*PEOPLE, "setup_links", "api_keys", "invitations", "claims"])
def test_services_that_need_no_people_may_not_even_ask(
    hub_database: Database, ours: Sample, role: str, table: str
) -> None:
    with (
        transaction(hub_database, role, ours.organization_id, ours.user_id) as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute(sql.SQL("SELECT 1 FROM {}").format(sql.Identifier(table)))


@pytest.mark.parametrize("role", SERVICES)
@pytest.mark.parametrize(
    "statement",
    [
        "SET ROLE trunkline_owner",
        "SET ROLE trunkline_lookup",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "ALTER TABLE calls DISABLE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON calls USING (true)",
        "CREATE TABLE stolen (x text)",
        "CREATE FUNCTION app.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "UPDATE audit_heads SET seq = 0",
        "UPDATE audit_log SET action = ''",
        "UPDATE agent_versions SET content = '{}'",
        "DELETE FROM usage",
        "TRUNCATE calls",
        "COPY calls TO PROGRAM 'cat'",
        "SELECT * FROM pg_authid",
    ],
)
def test_services_cannot_step_out_of_their_role(
    hub_database: Database, ours: Sample, role: str, statement: str
) -> None:
    with (
        transaction(hub_database, role, ours.organization_id) as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


@pytest.mark.parametrize("role", [*SERVICES, OWNER])
def test_a_dump_by_a_role_of_the_hub_fails_rather_than_leave_rows_out(
    hub_database: Database, ours: Sample, role: str
) -> None:
    with transaction(hub_database, role, ours.organization_id) as connection:
        connection.execute("SET LOCAL row_security = off")  # as pg_dump does
        with pytest.raises(errors.InsufficientPrivilege, match="row-level security"):
            connection.execute("SELECT * FROM calls")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE credentials SET password_hash = 'mine' WHERE user_id = %(their)s",
        "UPDATE users SET email = 'mine@example.com' WHERE id = %(their)s",
        "DELETE FROM totp_factors WHERE user_id = %(their)s",
        "UPDATE sessions SET revoked_at = NULL WHERE user_id = %(their)s",
    ],
)
def test_a_person_changes_nothing_of_another(
    hub_database: Database, ours: Sample, theirs: Sample, statement: str
) -> None:
    with transaction(hub_database, "trunkline_api", user_id=ours.user_id) as connection:
        changed = connection.execute(statement.encode(), {"their": theirs.user_id})
        assert changed.rowcount == 0


@pytest.mark.parametrize(
    "statement",
    [
        """INSERT INTO sessions (id, user_id, token_hash, idle_until, absolute_until)
            VALUES (%(id)s, %(their)s, 'mine', now(), now())""",
        """INSERT INTO user_tokens (id, user_id, purpose, token_hash, expires_at)
            VALUES (%(id)s, %(their)s, 'reset_password', 'mine', now())""",
        "UPDATE sessions SET user_id = %(their)s",
        "INSERT INTO setup_links (token_hash, expires_at) VALUES ('mine', now())",
    ],
)
def test_a_person_makes_nothing_in_the_name_of_another(
    hub_database: Database, ours: Sample, theirs: Sample, statement: str
) -> None:
    with (
        transaction(hub_database, "trunkline_api", user_id=ours.user_id) as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode(), {"id": uuid7(), "their": theirs.user_id})
