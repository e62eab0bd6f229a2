# SPDX-License-Identifier: Apache-2.0
"""What several processes must agree on: when a job is due, who does it, and how often somebody asked."""

from __future__ import annotations

from cloud_hub.db.migrations.steps import (
    allow,
    drop_lookups,
    drop_tables,
    grant,
    lock_down,
    lookup,
    run,
)

revision = "0008"
down_revision = "0007"

TABLES = """
CREATE TABLE job_runs (
    name TEXT NOT NULL,
    next_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    leased_until TIMESTAMPTZ,
    worker TEXT NOT NULL DEFAULT '',
    started_at TIMESTAMPTZ,
    finished_at TIMESTAMPTZ,
    result JSONB NOT NULL DEFAULT '{}',
    error TEXT NOT NULL DEFAULT '',
    failures BIGINT NOT NULL DEFAULT 0,
    CONSTRAINT job_runs_pkey PRIMARY KEY (name)
);

CREATE UNLOGGED TABLE rate_limits (
    name BYTEA NOT NULL,
    full_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT rate_limits_pkey PRIMARY KEY (name)
) WITH (fillfactor = 50);
"""
"""Counters are not worth a log of their own: after a crash of the server everybody starts afresh."""

OLD_CLAIMS = "expires_at < now() - interval '30 days'"
"""Whoever claimed a box, and when, stays in the audit log."""
FULL = "full_at < now()"
"""A bucket that is full again says no more than one that is missing."""


def upgrade() -> None:
    """Make the tables; the services reach the counters through one function each."""
    run(TABLES)
    lock_down("job_runs")
    grant("job_runs", {"jobs": "SELECT, INSERT, UPDATE, DELETE"})
    allow("job_runs", "workers", "trunkline_jobs", "true")
    lock_down("rate_limits")
    run("""GRANT SELECT (name, full_at), INSERT (name, full_at), UPDATE (full_at)
        ON rate_limits TO trunkline_lookup""")
    run("GRANT DELETE ON rate_limits TO trunkline_lookup")
    allow("rate_limits", "lookup_counts", "trunkline_lookup", "true")
    allow("claims", "lookup_removes_old", "trunkline_lookup", OLD_CLAIMS, "DELETE")
    _make_lookups()


def _make_lookups() -> None:
    # A leaky bucket as one number, the time at which it is full again (the "virtual scheduling
    # algorithm" of ITU-T I.371): of `per_minute` tokens, one flows in each 60 s / per_minute.
    lookup(
        "take_tokens(wanted bytea, tokens integer, per_minute integer)",
        "double precision",
        """
        WITH taken AS (
            INSERT INTO rate_limits AS r (name, full_at)
            VALUES (wanted, clock_timestamp() + tokens * interval '60 s' / per_minute)
            ON CONFLICT (name) DO UPDATE
            SET full_at = greatest(r.full_at, clock_timestamp())
                + tokens * interval '60 s' / per_minute
            WHERE greatest(r.full_at, clock_timestamp()) + tokens * interval '60 s' / per_minute
                <= clock_timestamp() + interval '60 s'
            RETURNING 1
        )
        SELECT CASE WHEN EXISTS (SELECT 1 FROM taken) THEN 0 ELSE coalesce((
            SELECT greatest(0.001, extract(epoch FROM r.full_at
                + tokens * interval '60 s' / per_minute - interval '60 s' - clock_timestamp()))
            FROM rate_limits r WHERE r.name = wanted), 0.001) END
        """,
        "api",
    )
    lookup(
        "purge_limits()",
        "bigint",
        f"""
        WITH gone AS (DELETE FROM rate_limits WHERE {FULL} RETURNING 1) SELECT count(*) FROM gone
        """,  # noqa: S608 - a constant from above
        "jobs",
    )
    lookup(
        "purge_old_claims()",
        "bigint",
        f"""
        WITH gone AS (DELETE FROM claims WHERE {OLD_CLAIMS} RETURNING 1) SELECT count(*) FROM gone
        """,  # noqa: S608 - a constant from above
        "jobs",
    )


def downgrade() -> None:
    """Remove them."""
    drop_lookups("take_tokens(bytea, integer, integer)", "purge_limits()", "purge_old_claims()")
    run("DROP POLICY lookup_removes_old ON claims")
    drop_tables("job_runs", "rate_limits")
