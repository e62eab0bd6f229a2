# SPDX-License-Identifier: Apache-2.0
"""People and their proofs of identity: no tenant's, each person's own."""

from __future__ import annotations

from cloud_hub.db.migrations.steps import (
    allow,
    drop_lookups,
    drop_tables,
    grant,
    lock_down,
    lookup,
    run,
    show_to_lookup,
)

revision = "0002"
down_revision = "0001"

TABLES = """
CREATE TABLE users (
    id UUID NOT NULL,
    email TEXT NOT NULL,
    name TEXT NOT NULL DEFAULT '',
    email_verified_at TIMESTAMPTZ,
    disabled_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT users_pkey PRIMARY KEY (id)
);
CREATE UNIQUE INDEX users_email_key ON users (lower(email));

CREATE TABLE credentials (
    user_id UUID NOT NULL,
    password_hash TEXT NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    failures BIGINT NOT NULL DEFAULT 0,
    locked_until TIMESTAMPTZ,
    CONSTRAINT credentials_pkey PRIMARY KEY (user_id),
    CONSTRAINT credentials_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id)
);

CREATE TABLE totp_factors (
    id UUID NOT NULL,
    user_id UUID NOT NULL,
    name TEXT NOT NULL DEFAULT '',
    secret BYTEA NOT NULL,
    last_step BIGINT NOT NULL DEFAULT 0,
    confirmed_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT totp_factors_pkey PRIMARY KEY (id),
    CONSTRAINT totp_factors_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id)
);
CREATE INDEX totp_factors_user_id_idx ON totp_factors (user_id);

CREATE TABLE recovery_codes (
    user_id UUID NOT NULL,
    code_hash BYTEA NOT NULL,
    used_at TIMESTAMPTZ,
    CONSTRAINT recovery_codes_pkey PRIMARY KEY (user_id, code_hash),
    CONSTRAINT recovery_codes_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id)
);

CREATE TABLE sessions (
    id UUID NOT NULL,
    user_id UUID NOT NULL,
    token_hash BYTEA NOT NULL,
    last_seen_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    idle_until TIMESTAMPTZ NOT NULL,
    absolute_until TIMESTAMPTZ NOT NULL,
    mfa_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    ip TEXT NOT NULL DEFAULT '',
    user_agent TEXT NOT NULL DEFAULT '',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT sessions_pkey PRIMARY KEY (id),
    CONSTRAINT sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT sessions_token_hash_key UNIQUE (token_hash)
);
CREATE INDEX sessions_user_id_idx ON sessions (user_id);

CREATE TABLE user_tokens (
    id UUID NOT NULL,
    user_id UUID NOT NULL,
    purpose TEXT NOT NULL,
    token_hash BYTEA NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    used_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT user_tokens_pkey PRIMARY KEY (id),
    CONSTRAINT user_tokens_purpose_check CHECK (purpose IN ('verify_email', 'reset_password')),
    CONSTRAINT user_tokens_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT user_tokens_token_hash_key UNIQUE (token_hash)
);
CREATE INDEX user_tokens_user_id_idx ON user_tokens (user_id);

CREATE TABLE setup_links (
    token_hash BYTEA NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    used_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT setup_links_pkey PRIMARY KEY (token_hash)
);
"""

OWN = "{column} = (SELECT app.user_id())"
GRANTS = {
    "credentials": ("user_id", "SELECT, INSERT, UPDATE"),
    "totp_factors": ("user_id", "SELECT, INSERT, UPDATE, DELETE"),
    "recovery_codes": ("user_id", "SELECT, INSERT, UPDATE, DELETE"),
    "sessions": ("user_id", "SELECT, INSERT, UPDATE"),
    "user_tokens": ("user_id", "SELECT, INSERT"),
    "users": ("id", "SELECT, INSERT, UPDATE"),
}


def upgrade() -> None:
    """Make the tables, then say who may do what."""
    run(TABLES)
    lock_down("setup_links")
    for table, (column, operations) in GRANTS.items():
        lock_down(table)
        grant(table, {"api": operations})
        allow(table, "own_row", "trunkline_api", OWN.format(column=column))
    _show()
    _make_lookups()


def _show() -> None:
    """What can be found by a secret or an e-mail, before anybody is signed in."""
    show_to_lookup("users", "id, email, disabled_at")
    show_to_lookup(
        "credentials",
        "user_id, password_hash, locked_until, failures",
        writes="failures, locked_until",
    )
    show_to_lookup("totp_factors", "user_id, confirmed_at")
    show_to_lookup(
        "sessions", "id, user_id, token_hash, idle_until, absolute_until, mfa_at, revoked_at"
    )
    show_to_lookup(
        "user_tokens", "user_id, purpose, token_hash, expires_at, used_at", writes="used_at"
    )
    show_to_lookup("setup_links", "token_hash, expires_at, used_at", writes="used_at")
    run("GRANT INSERT (token_hash, expires_at) ON setup_links TO trunkline_lookup")
    allow("setup_links", "lookup_adds", "trunkline_lookup", "true", "INSERT")


def _make_lookups() -> None:
    lookup(
        "user_by_email(wanted text)",
        """TABLE (user_id uuid, password_hash text, locked_until timestamptz, failures bigint,
            disabled_at timestamptz, has_totp boolean)""",
        """
        SELECT u.id, c.password_hash, c.locked_until, c.failures, u.disabled_at,
            EXISTS (SELECT 1 FROM totp_factors f
                    WHERE f.user_id = u.id AND f.confirmed_at IS NOT NULL)
        FROM users u LEFT JOIN credentials c ON c.user_id = u.id
        WHERE lower(u.email) = lower(wanted)
        """,
        "api",
    )
    lookup(
        "note_sign_in(who uuid, succeeded boolean, lock_until timestamptz)",
        "bigint",
        """
        UPDATE credentials SET
            failures = CASE WHEN succeeded THEN 0 ELSE failures + 1 END,
            locked_until = CASE WHEN succeeded THEN NULL ELSE lock_until END
        WHERE user_id = who RETURNING failures
        """,
        "api",
    )
    lookup(
        "session_by_token(wanted bytea)",
        """TABLE (session_id uuid, user_id uuid, idle_until timestamptz,
            absolute_until timestamptz, mfa_at timestamptz)""",
        """
        SELECT s.id, s.user_id, s.idle_until, s.absolute_until, s.mfa_at
        FROM sessions s JOIN users u ON u.id = s.user_id
        WHERE s.token_hash = wanted AND s.revoked_at IS NULL AND u.disabled_at IS NULL
            AND now() < s.idle_until AND now() < s.absolute_until
        """,
        "api",
    )
    lookup(
        "use_user_token(wanted bytea, wanted_purpose text)",
        "uuid",
        """
        UPDATE user_tokens SET used_at = now()
        WHERE token_hash = wanted AND purpose = wanted_purpose AND used_at IS NULL
            AND now() < expires_at
        RETURNING user_id
        """,
        "api",
    )
    lookup(
        "add_setup_link(new_hash bytea, expiry timestamptz)",
        "boolean",
        """
        INSERT INTO setup_links (token_hash, expires_at)
        SELECT new_hash, expiry WHERE NOT EXISTS (SELECT 1 FROM users)
        RETURNING true
        """,
        "api",
    )
    lookup(
        "use_setup_link(wanted bytea)",
        "boolean",
        """
        UPDATE setup_links SET used_at = now()
        WHERE token_hash = wanted AND used_at IS NULL AND now() < expires_at
            AND NOT EXISTS (SELECT 1 FROM users)
        RETURNING true
        """,
        "api",
    )


def downgrade() -> None:
    """Remove the tables with all that is in them."""
    drop_lookups(
        "user_by_email(text)",
        "note_sign_in(uuid, boolean, timestamptz)",
        "session_by_token(bytea)",
        "use_user_token(bytea, text)",
        "add_setup_link(bytea, timestamptz)",
        "use_setup_link(bytea)",
    )
    drop_tables(*GRANTS, "setup_links")
