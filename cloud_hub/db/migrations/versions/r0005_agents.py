# SPDX-License-Identifier: Apache-2.0
"""Agents, their immutable versions, and their deployments."""

from __future__ import annotations

from cloud_hub.db.migrations.steps import drop_tables, isolate, run

revision = "0005"
down_revision = "0004"

TABLES = """
CREATE TABLE agents (
    organization_id UUID NOT NULL,
    id UUID NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    draft JSONB NOT NULL DEFAULT '{}',
    version BIGINT NOT NULL DEFAULT 1,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    deleted_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT agents_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT agents_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE UNIQUE INDEX agents_name_key
    ON agents (organization_id, lower(name)) WHERE deleted_at IS NULL;

CREATE TABLE agent_versions (
    organization_id UUID NOT NULL,
    id UUID NOT NULL,
    agent_id UUID NOT NULL,
    number BIGINT NOT NULL,
    content JSONB NOT NULL,
    sha256 BYTEA NOT NULL,
    message TEXT NOT NULL DEFAULT '',
    created_by TEXT NOT NULL DEFAULT '',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT agent_versions_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT agent_versions_organization_id_agent_id_fkey
        FOREIGN KEY (organization_id, agent_id) REFERENCES agents (organization_id, id),
    CONSTRAINT agent_versions_organization_id_agent_id_number_key
        UNIQUE (organization_id, agent_id, number),
    CONSTRAINT agent_versions_organization_id_agent_id_id_key
        UNIQUE (organization_id, agent_id, id),
    CONSTRAINT agent_versions_number_check CHECK (number > 0),
    CONSTRAINT agent_versions_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);

CREATE TABLE deployments (
    organization_id UUID NOT NULL,
    id UUID NOT NULL,
    agent_id UUID NOT NULL,
    agent_version_id UUID NOT NULL,
    appliance_group_id UUID,
    appliance_id UUID,
    status TEXT NOT NULL DEFAULT 'pending',
    plan JSONB NOT NULL DEFAULT '{}',
    reason TEXT NOT NULL DEFAULT '',
    created_by TEXT NOT NULL DEFAULT '',
    version BIGINT NOT NULL DEFAULT 1,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT deployments_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT deployments_organization_id_agent_id_fkey
        FOREIGN KEY (organization_id, agent_id) REFERENCES agents (organization_id, id),
    CONSTRAINT deployments_organization_id_agent_id_agent_version_id_fkey
        FOREIGN KEY (organization_id, agent_id, agent_version_id)
        REFERENCES agent_versions (organization_id, agent_id, id),
    CONSTRAINT deployments_organization_id_appliance_group_id_fkey
        FOREIGN KEY (organization_id, appliance_group_id)
        REFERENCES appliance_groups (organization_id, id),
    CONSTRAINT deployments_organization_id_appliance_id_fkey
        FOREIGN KEY (organization_id, appliance_id)
        REFERENCES appliances (organization_id, id),
    CONSTRAINT deployments_status_check
        CHECK (status IN ('pending', 'rolling_out', 'done', 'halted', 'rolled_back')),
    CONSTRAINT deployments_target_check
        CHECK (num_nonnulls(appliance_group_id, appliance_id) <= 1),
    CONSTRAINT deployments_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE INDEX deployments_agent_idx ON deployments (organization_id, agent_id, id);
CREATE INDEX deployments_appliance_idx ON deployments (organization_id, appliance_id);
CREATE INDEX deployments_group_idx ON deployments (organization_id, appliance_group_id);
CREATE INDEX deployments_version_idx
    ON deployments (organization_id, agent_id, agent_version_id);

CREATE TABLE deployment_targets (
    organization_id UUID NOT NULL,
    id UUID NOT NULL,
    deployment_id UUID NOT NULL,
    appliance_id UUID NOT NULL,
    stage BIGINT NOT NULL DEFAULT 0,
    status TEXT NOT NULL DEFAULT 'waiting',
    desired_version BIGINT,
    error TEXT NOT NULL DEFAULT '',
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT deployment_targets_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT deployment_targets_organization_id_deployment_id_fkey
        FOREIGN KEY (organization_id, deployment_id)
        REFERENCES deployments (organization_id, id) ON DELETE CASCADE,
    CONSTRAINT deployment_targets_organization_id_appliance_id_fkey
        FOREIGN KEY (organization_id, appliance_id)
        REFERENCES appliances (organization_id, id),
    CONSTRAINT deployment_targets_organization_id_deployment_id_applia_e837
        UNIQUE (organization_id, deployment_id, appliance_id),
    CONSTRAINT deployment_targets_status_check
        CHECK (status IN ('waiting', 'offered', 'applied', 'refused', 'rolled_back')),
    CONSTRAINT deployment_targets_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE INDEX deployment_targets_appliance_idx
    ON deployment_targets (organization_id, appliance_id);
"""

GRANTS = {
    "agents": {"api": "SELECT, INSERT, UPDATE", "ingest": "SELECT", "jobs": "SELECT"},
    "agent_versions": {"api": "SELECT, INSERT", "ingest": "SELECT", "jobs": "SELECT"},
    "deployments": {
        "api": "SELECT, INSERT, UPDATE",
        "ingest": "SELECT",
        "jobs": "SELECT, INSERT, UPDATE",
    },
    "deployment_targets": {
        "api": "SELECT, INSERT, UPDATE",
        "ingest": "SELECT, UPDATE (status, error, updated_at)",
        "jobs": "SELECT, INSERT, UPDATE",
    },
}


def upgrade() -> None:
    """Make the tables, then say who may do what."""
    run(TABLES)
    for table, grants in GRANTS.items():
        isolate(table, grants)


def downgrade() -> None:
    """Remove the tables with all that is in them."""
    drop_tables(*reversed(GRANTS))
