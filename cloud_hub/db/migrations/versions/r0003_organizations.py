# SPDX-License-Identifier: Apache-2.0
"""Organizations, their members, keys, and what was done in their name."""

from __future__ import annotations

from cloud_hub.db.migrations.steps import (
    TENANT_IS,
    allow,
    drop_lookups,
    drop_tables,
    isolate,
    lookup,
    run,
    show_to_lookup,
)

revision = "0003"
down_revision = "0002"

TABLES = """
CREATE TABLE organizations (
    id UUID NOT NULL,
    name TEXT NOT NULL,
    settings JSONB NOT NULL DEFAULT '{}',
    version BIGINT NOT NULL DEFAULT 1,
    suspended_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT organizations_pkey PRIMARY KEY (id)
);

CREATE TABLE memberships (
    organization_id UUID NOT NULL,
    user_id UUID NOT NULL,
    role TEXT NOT NULL,
    version BIGINT NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT memberships_pkey PRIMARY KEY (organization_id, user_id),
    CONSTRAINT memberships_role_check
        CHECK (role IN ('owner', 'admin', 'developer', 'operator', 'analyst', 'viewer',
            'billing', 'auditor')),
    CONSTRAINT memberships_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id),
    CONSTRAINT memberships_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id)
);
CREATE INDEX memberships_user_id_idx ON memberships (user_id);

CREATE TABLE teams (
    organization_id UUID NOT NULL,
    id UUID NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT teams_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT teams_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE UNIQUE INDEX teams_name_key ON teams (organization_id, lower(name));

CREATE TABLE team_members (
    organization_id UUID NOT NULL,
    team_id UUID NOT NULL,
    user_id UUID NOT NULL,
    CONSTRAINT team_members_pkey PRIMARY KEY (organization_id, team_id, user_id),
    CONSTRAINT team_members_organization_id_team_id_fkey
        FOREIGN KEY (organization_id, team_id)
        REFERENCES teams (organization_id, id) ON DELETE CASCADE,
    CONSTRAINT team_members_organization_id_user_id_fkey
        FOREIGN KEY (organization_id, user_id)
        REFERENCES memberships (organization_id, user_id) ON DELETE CASCADE,
    CONSTRAINT team_members_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE INDEX team_members_user_idx ON team_members (organization_id, user_id);

CREATE TABLE invitations (
    organization_id UUID NOT NULL,
    id UUID NOT NULL,
    email TEXT NOT NULL,
    role TEXT NOT NULL,
    token_hash BYTEA NOT NULL,
    invited_by UUID NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    accepted_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT invitations_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT invitations_role_check
        CHECK (role IN ('owner', 'admin', 'developer', 'operator', 'analyst', 'viewer',
            'billing', 'auditor')),
    CONSTRAINT invitations_organization_id_invited_by_fkey
        FOREIGN KEY (organization_id, invited_by)
        REFERENCES memberships (organization_id, user_id) ON DELETE CASCADE,
    CONSTRAINT invitations_token_hash_key UNIQUE (token_hash),
    CONSTRAINT invitations_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE INDEX invitations_invited_by_idx ON invitations (organization_id, invited_by);

CREATE TABLE api_keys (
    organization_id UUID NOT NULL,
    id UUID NOT NULL,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    secret_hash BYTEA NOT NULL,
    scopes TEXT[] NOT NULL,
    allowed_networks TEXT[] NOT NULL DEFAULT '{}',
    created_by UUID,
    expires_at TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    version BIGINT NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT api_keys_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT api_keys_prefix_key UNIQUE (prefix),
    CONSTRAINT api_keys_organization_id_created_by_fkey
        FOREIGN KEY (organization_id, created_by)
        REFERENCES memberships (organization_id, user_id) ON DELETE SET NULL (created_by),
    CONSTRAINT api_keys_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE INDEX api_keys_created_by_idx ON api_keys (organization_id, created_by);

CREATE TABLE audit_log (
    organization_id UUID NOT NULL,
    seq BIGINT NOT NULL DEFAULT 0,
    at TIMESTAMPTZ NOT NULL DEFAULT now(),
    actor_kind TEXT NOT NULL,
    actor_id TEXT NOT NULL DEFAULT '',
    action TEXT NOT NULL,
    target_kind TEXT NOT NULL DEFAULT '',
    target_id TEXT NOT NULL DEFAULT '',
    detail JSONB NOT NULL DEFAULT '{}',
    request_id TEXT NOT NULL DEFAULT '',
    ip TEXT NOT NULL DEFAULT '',
    prev_hash BYTEA NOT NULL DEFAULT '',
    hash BYTEA NOT NULL DEFAULT '',
    CONSTRAINT audit_log_pkey PRIMARY KEY (organization_id, seq),
    CONSTRAINT audit_log_actor_kind_check
        CHECK (actor_kind IN ('user', 'api_key', 'appliance', 'system')),
    CONSTRAINT audit_log_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE INDEX audit_log_actor_idx ON audit_log (organization_id, actor_id, seq);
CREATE INDEX audit_log_target_idx ON audit_log (organization_id, target_kind, target_id, seq);

CREATE TABLE audit_heads (
    organization_id UUID NOT NULL,
    seq BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    CONSTRAINT audit_heads_pkey PRIMARY KEY (organization_id),
    CONSTRAINT audit_heads_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);

CREATE TABLE idempotency_keys (
    organization_id UUID NOT NULL,
    key TEXT NOT NULL,
    request_hash BYTEA NOT NULL,
    response_status BIGINT,
    response_headers JSONB NOT NULL DEFAULT '{}',
    response_body BYTEA,
    expires_at TIMESTAMPTZ NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (organization_id, key),
    CONSTRAINT idempotency_keys_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE INDEX idempotency_keys_expiry_idx ON idempotency_keys (organization_id, expires_at);
"""

AUDIT_FACTS = """organization_id, actor_kind, actor_id, action, target_kind, target_id, detail,
    request_id, ip"""
"""What a writer of the audit log says. Time, number and hashes are the database's own."""

AUDIT_TRIGGER = """
CREATE FUNCTION app.audit_field(value text) RETURNS text LANGUAGE sql IMMUTABLE
    AS $$ SELECT octet_length(value)::text || ':' || value $$;

CREATE FUNCTION app.audit_link() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    head audit_heads%ROWTYPE;
BEGIN
    INSERT INTO audit_heads (organization_id, seq, hash)
        VALUES (NEW.organization_id, 0, sha256('')) ON CONFLICT DO NOTHING;
    SELECT * INTO STRICT head FROM audit_heads h
        WHERE h.organization_id = NEW.organization_id FOR UPDATE;
    NEW.seq := head.seq + 1;
    NEW.at := date_trunc('milliseconds', clock_timestamp());
    NEW.prev_hash := head.hash;
    NEW.hash := sha256(head.hash || convert_to(
        app.audit_field(NEW.organization_id::text)
        || app.audit_field(NEW.seq::text)
        || app.audit_field((extract(epoch FROM NEW.at) * 1000)::bigint::text)
        || app.audit_field(NEW.actor_kind) || app.audit_field(NEW.actor_id)
        || app.audit_field(NEW.action)
        || app.audit_field(NEW.target_kind) || app.audit_field(NEW.target_id)
        || app.audit_field(NEW.detail::text)
        || app.audit_field(NEW.request_id) || app.audit_field(NEW.ip), 'UTF8'));
    UPDATE audit_heads h SET seq = NEW.seq, hash = NEW.hash
        WHERE h.organization_id = NEW.organization_id;
    RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION app.audit_field(text), app.audit_link() FROM PUBLIC;

CREATE TRIGGER audit_link BEFORE INSERT ON audit_log
    FOR EACH ROW EXECUTE FUNCTION app.audit_link();
"""

GRANTS = {
    "memberships": {"api": "SELECT, INSERT, UPDATE, DELETE", "jobs": "SELECT"},
    "teams": {"api": "SELECT, INSERT, UPDATE, DELETE"},
    "team_members": {"api": "SELECT, INSERT, DELETE"},
    "invitations": {"api": "SELECT, INSERT, UPDATE"},
    "api_keys": {"api": "SELECT, INSERT, UPDATE"},
    "audit_heads": {"api": "SELECT", "ingest": "SELECT", "jobs": "SELECT"},
    "audit_log": dict.fromkeys(("api", "ingest", "jobs"), f"SELECT, INSERT ({AUDIT_FACTS})"),
    "idempotency_keys": {"api": "SELECT, INSERT, UPDATE, DELETE", "jobs": "SELECT, DELETE"},
}


def upgrade() -> None:
    """Make the tables, then say who may do what."""
    run(TABLES)
    for table, grants in GRANTS.items():
        isolate(table, grants)
    _organizations()
    allow(
        "users",
        "members_of_my_organization",
        "trunkline_api",
        "id IN (SELECT user_id FROM memberships)",
        "SELECT",
    )
    run(AUDIT_TRIGGER)
    # The chain's trigger runs as the owner, whom forced row-level security binds as well.
    allow("audit_heads", "chain", "trunkline_owner", TENANT_IS)
    _make_lookups()


def _organizations() -> None:
    isolate(
        "organizations",
        {"api": "SELECT, INSERT, UPDATE", "ingest": "SELECT", "jobs": "SELECT"},
        rule="id = (SELECT app.organization_id())",
    )
    show_to_lookup("organizations", "id, name, suspended_at")
    show_to_lookup("memberships", "organization_id, user_id, role")
    show_to_lookup(
        "invitations",
        "organization_id, id, email, role, token_hash, expires_at, accepted_at, revoked_at",
    )
    show_to_lookup(
        "api_keys",
        """organization_id, id, prefix, secret_hash, scopes, allowed_networks, expires_at,
        revoked_at""",
    )


def _make_lookups() -> None:
    lookup(
        "my_organizations()",
        "TABLE (organization_id uuid, name text, role text, suspended_at timestamptz)",
        """
        SELECT o.id, o.name, m.role, o.suspended_at
        FROM memberships m JOIN organizations o ON o.id = m.organization_id
        WHERE m.user_id = (SELECT app.user_id())
        """,
        "api",
    )
    lookup("organization_ids()", "SETOF uuid", "SELECT id FROM organizations ORDER BY id", "jobs")
    lookup(
        "invitation_by_token(wanted bytea)",
        """TABLE (organization_id uuid, invitation_id uuid, organization_name text, email text,
            role text)""",
        """
        SELECT i.organization_id, i.id, o.name, i.email, i.role
        FROM invitations i JOIN organizations o ON o.id = i.organization_id
        WHERE i.token_hash = wanted AND i.accepted_at IS NULL AND i.revoked_at IS NULL
            AND now() < i.expires_at
        """,
        "api",
    )
    lookup(
        "api_key_by_prefix(wanted text)",
        """TABLE (organization_id uuid, api_key_id uuid, secret_hash bytea, scopes text[],
            allowed_networks text[], expires_at timestamptz)""",
        """
        SELECT k.organization_id, k.id, k.secret_hash, k.scopes, k.allowed_networks, k.expires_at
        FROM api_keys k JOIN organizations o ON o.id = k.organization_id
        WHERE k.prefix = wanted AND k.revoked_at IS NULL AND o.suspended_at IS NULL
            AND (k.expires_at IS NULL OR now() < k.expires_at)
        """,
        "api",
    )


def downgrade() -> None:
    """Remove the tables with all that is in them."""
    drop_lookups(
        "my_organizations()",
        "organization_ids()",
        "invitation_by_token(bytea)",
        "api_key_by_prefix(text)",
    )
    run("DROP POLICY members_of_my_organization ON users")
    drop_tables(*reversed(GRANTS), "organizations")
    run("DROP FUNCTION app.audit_link(), app.audit_field(text)")
