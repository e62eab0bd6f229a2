# SPDX-License-Identifier: Apache-2.0
"""The schema `app`: in whose name a transaction runs."""

from __future__ import annotations

from cloud_hub.db.migrations.steps import run

revision = "0001"
down_revision = None

EVERYONE = "trunkline_api, trunkline_ingest, trunkline_jobs, trunkline_lookup"


def upgrade() -> None:
    """Make the schema and the two questions that every policy asks.

    A setting that was never made is NULL, and '' after the transaction that made it: both must
    mean "nobody".
    """
    run("""
        CREATE SCHEMA app;
        GRANT CREATE ON SCHEMA app TO trunkline_lookup;

        CREATE FUNCTION app.organization_id() RETURNS uuid LANGUAGE sql STABLE
            AS $$ SELECT nullif(current_setting('app.organization_id', true), '')::uuid $$;
        CREATE FUNCTION app.user_id() RETURNS uuid LANGUAGE sql STABLE
            AS $$ SELECT nullif(current_setting('app.user_id', true), '')::uuid $$;
        REVOKE ALL ON FUNCTION app.organization_id(), app.user_id() FROM PUBLIC;
        GRANT SELECT ON alembic_version TO trunkline_api, trunkline_ingest, trunkline_jobs;
    """)
    run(f"GRANT USAGE ON SCHEMA app, public TO {EVERYONE}")
    run(f"GRANT EXECUTE ON FUNCTION app.organization_id(), app.user_id() TO {EVERYONE}")


def downgrade() -> None:
    """Remove the schema."""
    run("DROP SCHEMA app CASCADE")
    run("REVOKE ALL ON alembic_version FROM trunkline_api, trunkline_ingest, trunkline_jobs")
