# SPDX-License-Identifier: Apache-2.0
"""What has run its course is removed: sessions, links to people, set-up links."""

from __future__ import annotations

from cloud_hub.db.migrations.steps import allow, drop_lookups, lookup, run

revision = "0007"
down_revision = "0006"

ENDED = {
    "sessions": "least(absolute_until, idle_until, revoked_at) < now() - interval '30 days'",
    "user_tokens": "expires_at < now() - interval '30 days'",
    "setup_links": "expires_at < now() - interval '30 days'",
}
"""Kept for 30 days more, so that a person still sees where the account was used."""


def upgrade() -> None:
    """Let the look-up role remove what has ended, and nothing else; the jobs ask it to."""
    for table, ended in ENDED.items():
        run(f"GRANT DELETE ON {table} TO trunkline_lookup")
        allow(table, "lookup_removes", "trunkline_lookup", ended, "DELETE")
    lookup(
        "purge_ended()",
        "TABLE (purged text, rows bigint)",
        """
        WITH s AS (DELETE FROM sessions RETURNING 1), t AS (DELETE FROM user_tokens RETURNING 1),
            l AS (DELETE FROM setup_links RETURNING 1)
        SELECT 'sessions', (SELECT count(*) FROM s)
        UNION ALL SELECT 'user_tokens', (SELECT count(*) FROM t)
        UNION ALL SELECT 'setup_links', (SELECT count(*) FROM l)
        """,
        "jobs",
    )


def downgrade() -> None:
    """Take the right to remove back."""
    drop_lookups("purge_ended()")
    for table in ENDED:
        run(f"DROP POLICY lookup_removes ON {table}")
        run(f"REVOKE DELETE ON {table} FROM trunkline_lookup")
