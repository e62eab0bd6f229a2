# SPDX-License-Identifier: Apache-2.0
"""The catalogue lint: the schema passes it, and each way to break the schema is caught by it."""

from __future__ import annotations

import pytest

from cloud_hub.db import lint
from cloud_hub.db.roles import OWNER
from tests.hub.servers import Database


def test_the_schema_breaks_no_rule(hub_database: Database) -> None:
    assert lint.check(hub_database.dsn(OWNER)) == []


NEW_TABLE = """
    CREATE TABLE notes (organization_id uuid REFERENCES organizations (id), id uuid,
        PRIMARY KEY (organization_id, id));
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
"""
POLICY = """
    GRANT SELECT ON notes TO trunkline_api;
    CREATE POLICY tenant_isolation ON notes TO trunkline_api
        USING (organization_id = (SELECT app.organization_id()));
"""
BREAKS = {
    "ALTER TABLE calls NO FORCE ROW LEVEL SECURITY": ("row-level security", "calls"),
    "ALTER TABLE turns_default DISABLE ROW LEVEL SECURITY": ("row-level security", "turns_default"),
    NEW_TABLE + "GRANT SELECT ON notes TO trunkline_jobs": (
        "each role",
        "notes for trunkline_jobs",
    ),
    "GRANT SELECT ON api_keys TO trunkline_ingest": ("each role", "api_keys for trunkline_ingest"),
    "CREATE POLICY support ON calls TO trunkline_api USING (true)": ("no other", "calls.support"),
    "CREATE POLICY all_of_it ON sessions USING (true)": ("no policy is for", "sessions.all_of_it"),
    "GRANT SELECT ON calls_default TO trunkline_api": (
        "partitions are reached",
        "calls_default by trunkline_api",
    ),
    "GRANT SELECT ON agents TO PUBLIC": ("nothing is granted to everybody", "agents"),
    "GRANT TRUNCATE ON calls TO trunkline_jobs": ("no service may", "calls by trunkline_jobs"),
    "GRANT UPDATE (detail) ON audit_log TO trunkline_api": (
        "what must not change",
        "audit_log by trunkline_api",
    ),
    "ALTER TABLE teams ADD lead_id uuid": ("every reference", "teams.lead_id"),
    "ALTER TABLE teams ADD agent_key uuid REFERENCES appliances (id)": (
        "a foreign key to a tenant's",
        "teams_agent_key_fkey",
    ),
    "ALTER TABLE teams ADD parent uuid REFERENCES organizations (id)": (
        "a foreign key to an organization",
        "teams_parent_fkey",
    ),
    NEW_TABLE.replace("REFERENCES organizations (id)", "") + POLICY: ("every tenant", "notes"),
    "DROP INDEX calls_agent_idx": ("every foreign key has", "calls_organization_id_agent_id_fkey"),
    "CREATE INDEX hasty ON calls (started_at)": ("every index begins", "hasty"),
    "CREATE UNIQUE INDEX hasty ON agents (name)": ("every index begins", "hasty"),
    "CREATE TYPE mood AS ENUM ('fine'); ALTER TABLE calls ADD mood mood": (
        "no column is an enum",
        "calls.mood",
    ),
    """CREATE FUNCTION app.hasty() RETURNS bigint LANGUAGE sql SECURITY DEFINER
        AS 'SELECT count(*) FROM calls'; REVOKE ALL ON FUNCTION app.hasty() FROM PUBLIC""": (
        "functions with other",
        "app.hasty()",
    ),
    "CREATE FUNCTION app.open() RETURNS int LANGUAGE sql AS 'SELECT 1'": (
        "nothing is granted",
        "app.open()",
    ),
    "GRANT SELECT ON calls TO trunkline_lookup": ("the lookup role", "calls"),
    "CREATE VIEW recent AS SELECT * FROM calls": ("views see", "recent"),
    "CREATE MATERIALIZED VIEW cached AS SELECT * FROM calls": ("views see", "cached"),
    "DROP TABLE usage_default": ("every large table", "usage"),
}


@pytest.mark.parametrize("change", BREAKS)
def test_a_careless_migration_is_caught(hub_database: Database, change: str) -> None:
    rule, what = BREAKS[change]

    problems = lint.check_after(hub_database.dsn(OWNER), change)

    assert any(problem.rule.startswith(rule) and problem.what == what for problem in problems)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("ALTER ROLE trunkline_jobs BYPASSRLS", "no role has more power"),
        ("ALTER ROLE trunkline_lookup LOGIN", "no role has more power"),
        ("GRANT trunkline_owner TO trunkline_api", "no role acts"),
        ("ALTER TABLE teams OWNER TO postgres", "the owner owns"),
    ],
)
def test_a_careless_administrator_is_caught(hub_database: Database, change: str, rule: str) -> None:
    problems = lint.check_after(hub_database.dsn("postgres"), change)

    assert any(problem.rule.startswith(rule) for problem in problems)


def test_every_exception_is_still_needed(hub_database: Database) -> None:
    """An exception for something that is gone would excuse the next thing of that name."""
    assert lint.unused_exceptions(hub_database.dsn(OWNER)) == []
