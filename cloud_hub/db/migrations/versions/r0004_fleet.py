# SPDX-License-Identifier: Apache-2.0
"""Boxes: claims, certificates, desired and reported state, commands, stream positions."""

from __future__ import annotations

from cloud_hub.db.migrations.steps import (
    TENANT_IS,
    allow,
    drop_lookups,
    drop_tables,
    grant,
    isolate,
    lock_down,
    lookup,
    run,
    show_to_lookup,
)

revision = "0004"
down_revision = "0003"

TABLES = """
CREATE TABLE appliance_groups (
    organization_id UUID NOT NULL,
    id UUID NOT NULL,
    name TEXT NOT NULL,
    settings JSONB NOT NULL DEFAULT '{}',
    version BIGINT NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT appliance_groups_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT appliance_groups_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE UNIQUE INDEX appliance_groups_name_key ON appliance_groups (organization_id, lower(name));

CREATE TABLE appliances (
    organization_id UUID NOT NULL,
    id UUID NOT NULL,
    name TEXT NOT NULL,
    group_id UUID,
    state TEXT NOT NULL DEFAULT 'active',
    serial_number TEXT NOT NULL DEFAULT '',
    software_version TEXT NOT NULL DEFAULT '',
    hardware JSONB NOT NULL DEFAULT '{}',
    online BOOLEAN NOT NULL DEFAULT false,
    presence_session TEXT NOT NULL DEFAULT '',
    last_seen_at TIMESTAMPTZ,
    clock_skew_ms BIGINT,
    health JSONB NOT NULL DEFAULT '{}',
    health_at TIMESTAMPTZ,
    version BIGINT NOT NULL DEFAULT 1,
    retired_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT appliances_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT appliances_id_key UNIQUE (id),
    CONSTRAINT appliances_organization_id_group_id_fkey
        FOREIGN KEY (organization_id, group_id)
        REFERENCES appliance_groups (organization_id, id),
    CONSTRAINT appliances_state_check CHECK (state IN ('active', 'retired')),
    CONSTRAINT appliances_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE INDEX appliances_group_idx ON appliances (organization_id, group_id);
CREATE INDEX appliances_seen_idx ON appliances (organization_id, state, last_seen_at);

CREATE TABLE claims (
    id UUID NOT NULL,
    organization_id UUID,
    appliance_id UUID,
    status TEXT NOT NULL DEFAULT 'open',
    code TEXT,
    poll_hash BYTEA,
    token_hash BYTEA,
    csr TEXT NOT NULL DEFAULT '',
    public_key_sha256 BYTEA,
    details JSONB NOT NULL DEFAULT '{}',
    ip TEXT NOT NULL DEFAULT '',
    expires_at TIMESTAMPTZ NOT NULL,
    claimed_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT claims_pkey PRIMARY KEY (id),
    CONSTRAINT claims_status_check CHECK (status IN ('open', 'claimed', 'issued', 'refused')),
    CONSTRAINT claims_tenant_check
        CHECK (organization_id IS NOT NULL OR status IN ('open', 'refused')),
    CONSTRAINT claims_organization_id_appliance_id_fkey
        FOREIGN KEY (organization_id, appliance_id)
        REFERENCES appliances (organization_id, id),
    CONSTRAINT claims_poll_hash_key UNIQUE (poll_hash),
    CONSTRAINT claims_token_hash_key UNIQUE (token_hash),
    CONSTRAINT claims_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE INDEX claims_appliance_idx ON claims (organization_id, appliance_id);
CREATE UNIQUE INDEX claims_code_key ON claims (code) WHERE status = 'open';
CREATE INDEX claims_organization_idx ON claims (organization_id, id);

CREATE TABLE certificates (
    organization_id UUID NOT NULL,
    id UUID NOT NULL,
    appliance_id UUID NOT NULL,
    serial TEXT NOT NULL,
    public_key_sha256 BYTEA NOT NULL,
    pem TEXT NOT NULL,
    not_before TIMESTAMPTZ NOT NULL,
    not_after TIMESTAMPTZ NOT NULL,
    revoked_at TIMESTAMPTZ,
    revoked_reason TEXT NOT NULL DEFAULT '',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT certificates_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT certificates_organization_id_appliance_id_fkey
        FOREIGN KEY (organization_id, appliance_id)
        REFERENCES appliances (organization_id, id),
    CONSTRAINT certificates_serial_key UNIQUE (serial),
    CONSTRAINT certificates_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE INDEX certificates_appliance_idx ON certificates (organization_id, appliance_id);
CREATE INDEX certificates_expiry_idx ON certificates (organization_id, not_after);
CREATE INDEX certificates_revoked_idx ON certificates (revoked_at) WHERE revoked_at IS NOT NULL;

CREATE TABLE bundles (
    organization_id UUID NOT NULL,
    id UUID NOT NULL,
    appliance_id UUID NOT NULL,
    version BIGINT NOT NULL,
    sha256 BYTEA NOT NULL,
    signature BYTEA NOT NULL,
    content BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT bundles_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT bundles_organization_id_appliance_id_fkey
        FOREIGN KEY (organization_id, appliance_id)
        REFERENCES appliances (organization_id, id),
    CONSTRAINT bundles_organization_id_appliance_id_version_key
        UNIQUE (organization_id, appliance_id, version),
    CONSTRAINT bundles_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);

CREATE TABLE desired_state (
    organization_id UUID NOT NULL,
    appliance_id UUID NOT NULL,
    version BIGINT NOT NULL,
    bundle_id UUID,
    document JSONB NOT NULL DEFAULT '{}',
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_by TEXT NOT NULL DEFAULT '',
    CONSTRAINT desired_state_pkey PRIMARY KEY (organization_id, appliance_id),
    CONSTRAINT desired_state_organization_id_appliance_id_fkey
        FOREIGN KEY (organization_id, appliance_id)
        REFERENCES appliances (organization_id, id) ON DELETE CASCADE,
    CONSTRAINT desired_state_organization_id_bundle_id_fkey
        FOREIGN KEY (organization_id, bundle_id) REFERENCES bundles (organization_id, id),
    CONSTRAINT desired_state_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE INDEX desired_state_bundle_idx ON desired_state (organization_id, bundle_id);

CREATE TABLE reported_state (
    organization_id UUID NOT NULL,
    appliance_id UUID NOT NULL,
    version BIGINT NOT NULL,
    status TEXT NOT NULL,
    document JSONB NOT NULL DEFAULT '{}',
    drift JSONB NOT NULL DEFAULT '{}',
    errors TEXT[] NOT NULL DEFAULT '{}',
    reported_at TIMESTAMPTZ NOT NULL,
    received_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT reported_state_pkey PRIMARY KEY (organization_id, appliance_id),
    CONSTRAINT reported_state_organization_id_appliance_id_fkey
        FOREIGN KEY (organization_id, appliance_id)
        REFERENCES appliances (organization_id, id) ON DELETE CASCADE,
    CONSTRAINT reported_state_status_check
        CHECK (status IN ('applied', 'staged', 'refused', 'rolled_back')),
    CONSTRAINT reported_state_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);

CREATE TABLE commands (
    organization_id UUID NOT NULL,
    id UUID NOT NULL,
    appliance_id UUID NOT NULL,
    kind TEXT NOT NULL,
    payload JSONB NOT NULL DEFAULT '{}',
    signature BYTEA,
    status TEXT NOT NULL DEFAULT 'queued',
    created_by TEXT NOT NULL DEFAULT '',
    expires_at TIMESTAMPTZ NOT NULL,
    sent_at TIMESTAMPTZ,
    finished_at TIMESTAMPTZ,
    result JSONB NOT NULL DEFAULT '{}',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT commands_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT commands_organization_id_appliance_id_fkey
        FOREIGN KEY (organization_id, appliance_id)
        REFERENCES appliances (organization_id, id),
    CONSTRAINT commands_status_check
        CHECK (status IN ('queued', 'sent', 'done', 'failed', 'refused', 'expired')),
    CONSTRAINT commands_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE INDEX commands_appliance_idx ON commands (organization_id, appliance_id, id);
CREATE INDEX commands_open_idx
    ON commands (organization_id, expires_at) WHERE status IN ('queued', 'sent');

CREATE TABLE stream_positions (
    organization_id UUID NOT NULL,
    appliance_id UUID NOT NULL,
    stream TEXT NOT NULL,
    epoch UUID NOT NULL,
    applied_seq BIGINT NOT NULL DEFAULT 0,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT stream_positions_pkey PRIMARY KEY (organization_id, appliance_id, stream, epoch),
    CONSTRAINT stream_positions_organization_id_appliance_id_fkey
        FOREIGN KEY (organization_id, appliance_id)
        REFERENCES appliances (organization_id, id) ON DELETE CASCADE,
    CONSTRAINT stream_positions_applied_seq_check CHECK (applied_seq >= 0),
    CONSTRAINT stream_positions_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);

CREATE TABLE quarantined_rows (
    organization_id UUID NOT NULL,
    appliance_id UUID NOT NULL,
    stream TEXT NOT NULL,
    epoch UUID NOT NULL,
    seq BIGINT NOT NULL,
    kind TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    data JSONB NOT NULL DEFAULT '{}',
    reason TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT quarantined_rows_pkey PRIMARY KEY (organization_id, appliance_id, stream, epoch, seq),
    CONSTRAINT quarantined_rows_organization_id_appliance_id_fkey
        FOREIGN KEY (organization_id, appliance_id)
        REFERENCES appliances (organization_id, id) ON DELETE CASCADE,
    CONSTRAINT quarantined_rows_reason_check
        CHECK (reason IN ('unknown', 'malformed', 'kept', 'lost')),
    CONSTRAINT quarantined_rows_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
"""

BOX_FACTS = """SELECT, UPDATE (software_version, hardware, online, presence_session, last_seen_at,
    clock_skew_ms, health, health_at)"""
"""What a message of a box may change about it: never its name, group or state."""

GRANTS = {
    "appliance_groups": {
        "api": "SELECT, INSERT, UPDATE, DELETE",
        "ingest": "SELECT",
        "jobs": "SELECT",
    },
    "appliances": {"api": "SELECT, INSERT, UPDATE", "ingest": BOX_FACTS, "jobs": BOX_FACTS},
    "certificates": {
        "api": "SELECT, INSERT, UPDATE (revoked_at, revoked_reason)",
        "ingest": "SELECT",
        "jobs": "SELECT, UPDATE (revoked_at, revoked_reason)",
    },
    "bundles": {"api": "SELECT, INSERT", "ingest": "SELECT", "jobs": "SELECT, INSERT"},
    "desired_state": {
        "api": "SELECT, INSERT, UPDATE",
        "ingest": "SELECT",
        "jobs": "SELECT, INSERT, UPDATE",
    },
    "reported_state": {"api": "SELECT", "ingest": "SELECT, INSERT, UPDATE", "jobs": "SELECT"},
    "commands": {
        "api": "SELECT, INSERT, UPDATE",
        "ingest": "SELECT, UPDATE (status, sent_at, finished_at, result)",
        "jobs": "SELECT, INSERT, UPDATE",
    },
    "stream_positions": {"api": "SELECT", "ingest": "SELECT, INSERT, UPDATE", "jobs": "SELECT"},
    "quarantined_rows": {"api": "SELECT", "ingest": "SELECT, INSERT", "jobs": "SELECT, DELETE"},
}


def upgrade() -> None:
    """Make the tables, then say who may do what."""
    run(TABLES)
    for table, grants in GRANTS.items():
        isolate(table, grants)
    _claims()
    show_to_lookup("appliances", "organization_id, id, state")
    show_to_lookup(
        "certificates",
        "organization_id, appliance_id, serial, public_key_sha256, not_after, revoked_at",
    )
    _make_lookups()


def _claims() -> None:
    """A claim is the only row that begins without a tenant: anybody may add one, none see it."""
    lock_down("claims")
    grant("claims", {"api": "SELECT, INSERT, UPDATE, DELETE"})
    allow("claims", "tenant_isolation", "trunkline_api", TENANT_IS)
    allow(
        "claims",
        "box_asks",
        "trunkline_api",
        "organization_id IS NULL AND status = 'open' AND appliance_id IS NULL",
        "INSERT",
    )
    show_to_lookup(
        "claims",
        """id, organization_id, appliance_id, status, code, poll_hash, token_hash, expires_at,
        claimed_at""",
        writes="organization_id, status, claimed_at",
    )
    run("GRANT DELETE ON claims TO trunkline_lookup")
    allow(
        "claims",
        "lookup_removes",
        "trunkline_lookup",
        "organization_id IS NULL AND expires_at < now()",
        "DELETE",
    )


def _make_lookups() -> None:
    lookup(
        "appliance(wanted uuid)",
        "TABLE (organization_id uuid, state text)",
        """
        SELECT a.organization_id, a.state FROM appliances a WHERE a.id = wanted
        """,
        "api",
        "ingest",
        "jobs",
    )
    lookup(
        "certificate(wanted text)",
        """TABLE (organization_id uuid, appliance_id uuid, appliance_state text,
            public_key_sha256 bytea, not_after timestamptz, revoked_at timestamptz)""",
        """
        SELECT c.organization_id, c.appliance_id, a.state, c.public_key_sha256, c.not_after,
            c.revoked_at
        FROM certificates c
        JOIN appliances a ON a.organization_id = c.organization_id AND a.id = c.appliance_id
        WHERE c.serial = wanted
        """,
        "api",
        "ingest",
        "jobs",
    )
    lookup(
        "revoked_certificates(since timestamptz)",
        "TABLE (appliance_id uuid, serial text, not_after timestamptz, revoked_at timestamptz)",
        """
        SELECT appliance_id, serial, not_after, revoked_at FROM certificates
        WHERE revoked_at >= since ORDER BY revoked_at, serial
        """,
        "api",
        "ingest",
        "jobs",
    )
    lookup(
        "take_claim(wanted text)",
        "uuid",
        """
        UPDATE claims
        SET organization_id = app.organization_id(), status = 'claimed', claimed_at = now()
        WHERE code = wanted AND status = 'open' AND organization_id IS NULL
            AND now() < expires_at AND app.organization_id() IS NOT NULL
        RETURNING id
        """,
        "api",
    )
    lookup(
        "claim_by_secret(wanted bytea)",
        """TABLE (claim_id uuid, organization_id uuid, appliance_id uuid, status text,
            expires_at timestamptz)""",
        """
        SELECT id, organization_id, appliance_id, status, expires_at FROM claims
        WHERE (poll_hash = wanted OR token_hash = wanted) AND now() < expires_at
        """,
        "api",
    )
    lookup(
        "purge_claims()",
        "SETOF uuid",
        """
        DELETE FROM claims WHERE organization_id IS NULL AND expires_at < now() RETURNING id
        """,
        "api",
        "jobs",
    )


def downgrade() -> None:
    """Remove the tables with all that is in them."""
    drop_lookups(
        "appliance(uuid)",
        "certificate(text)",
        "revoked_certificates(timestamptz)",
        "take_claim(text)",
        "claim_by_secret(bytea)",
        "purge_claims()",
    )
    drop_tables("claims", *reversed(GRANTS))
