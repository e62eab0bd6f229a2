# SPDX-License-Identifier: Apache-2.0
"""The words in which revisions are written. They are frozen with the revisions that use them."""

from __future__ import annotations

from collections.abc import Mapping

from alembic import op

TENANT_IS = "organization_id = (SELECT app.organization_id())"
"""The one rule. As a sub-select it is computed once a statement, not once a row."""

Grants = Mapping[str, str]
"""Short name of a role (`api`, `ingest`, `jobs`) to the operations it may do."""


def run(sql: str) -> None:
    """Execute statements as they stand: no placeholders, no colons taken for parameters."""
    op.get_bind().connection.cursor().execute(sql)


def lock_down(table: str) -> None:
    """Row-level security for everyone, the owner too; nothing is visible until it is allowed."""
    run(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")


def grant(table: str, grants: Grants) -> None:
    """Give each role its operations on the table."""
    for role, operations in grants.items():
        run(f"GRANT {operations} ON {table} TO trunkline_{role}")


def allow(table: str, name: str, roles: str, rule: str, command: str = "ALL") -> None:
    """A policy: these roles see, and may write, rows of which the rule is true."""
    only = {"SELECT": "USING ({0})", "DELETE": "USING ({0})", "INSERT": "WITH CHECK ({0})"}
    clauses = only.get(command, "USING ({0}) WITH CHECK ({0})").format(rule)
    run(f"CREATE POLICY {name} ON {table} FOR {command} TO {roles} {clauses}")


def isolate(table: str, grants: Grants, rule: str = TENANT_IS) -> None:
    """Make it a tenant's table: locked down, one rule for every role that may touch it."""
    lock_down(table)
    grant(table, grants)
    allow(table, "tenant_isolation", ", ".join(f"trunkline_{role}" for role in grants), rule)


def show_to_lookup(table: str, columns: str, *, writes: str = "") -> None:
    """Let `trunkline_lookup` read these columns of every row, and write those in `writes`."""
    run(f"GRANT SELECT ({columns}) ON {table} TO trunkline_lookup")
    allow(table, "lookup_reads", "trunkline_lookup", "true", "SELECT")
    if writes:
        run(f"GRANT UPDATE ({writes}) ON {table} TO trunkline_lookup")
        allow(table, "lookup_writes", "trunkline_lookup", "true", "UPDATE")


def lookup(signature: str, returns: str, body: str, *callers: str) -> None:
    """A narrow window for what is asked before the tenant or the person is known.

    The function belongs to `trunkline_lookup`, a role that cannot sign in, and runs with its
    rights: the columns shown to it and nothing else.
    """
    volatility = "STABLE" if body.lstrip().startswith("SELECT") else "VOLATILE"
    roles = ", ".join(f"trunkline_{role}" for role in callers)
    run(f"""
        SET LOCAL ROLE trunkline_lookup;
        CREATE FUNCTION app.{signature} RETURNS {returns}
            LANGUAGE sql {volatility} SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
            AS $body${body}$body$;
        REVOKE ALL ON FUNCTION app.{signature} FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION app.{signature} TO {roles};
        RESET ROLE;
    """)


def drop_lookups(*signatures: str) -> None:
    """Remove functions made by `lookup`; without names and types of what they return."""
    functions = ", ".join(f"app.{signature}" for signature in signatures)
    run(f"SET LOCAL ROLE trunkline_lookup; DROP FUNCTION {functions}; RESET ROLE")


def drop_tables(*tables: str) -> None:
    """Remove tables, with their policies, grants and partitions."""
    run("DROP TABLE " + ", ".join(tables))
