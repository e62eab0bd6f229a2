# SPDX-License-Identifier: Apache-2.0
"""Agents, their immutable versions, and where they are deployed."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.db.models.base import Base, Created, TenantRow, one_of, within_tenant


class Agent(TenantRow, Created, Base):
    """A voice agent as people know it; what it does is in its versions."""

    __tablename__ = "agents"
    __table_args__ = (
        Index(
            "agents_name_key",
            "organization_id",
            func.lower(text("name")),
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )

    name: Mapped[str]
    description: Mapped[str] = mapped_column(default="", server_default="")
    draft: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    deleted_at: Mapped[datetime | None]


class AgentVersion(TenantRow, Created, Base):
    """What an agent was at one moment. No role may change or remove it.

    Attributes:
        number: 1, 2, ... of its agent.
        content: the agent's definition.
        sha256: over the canonical form of `content`.
        created_by: the user or key that made it, as the audit log names it.
    """

    __tablename__ = "agent_versions"
    __table_args__ = (
        within_tenant("agent_id", "agents"),
        UniqueConstraint("organization_id", "agent_id", "number"),
        UniqueConstraint("organization_id", "agent_id", "id"),
        CheckConstraint("number > 0", name="number"),
    )

    agent_id: Mapped[UUID]
    number: Mapped[int]
    content: Mapped[dict[str, Any]]
    sha256: Mapped[bytes]
    message: Mapped[str] = mapped_column(default="", server_default="")
    created_by: Mapped[str] = mapped_column(default="", server_default="")


class Deployment(TenantRow, Created, Base):
    """One version of an agent brought to a group of appliances, or to one.

    Attributes:
        plan: stages and halt rule of the rollout.
    """

    __tablename__ = "deployments"
    __table_args__ = (
        within_tenant("agent_id", "agents"),
        ForeignKeyConstraint(
            ["organization_id", "agent_id", "agent_version_id"],
            [
                "agent_versions.organization_id",
                "agent_versions.agent_id",
                "agent_versions.id",
            ],
        ),
        within_tenant("appliance_group_id", "appliance_groups"),
        within_tenant("appliance_id", "appliances"),
        one_of("status", "pending", "rolling_out", "done", "halted", "rolled_back"),
        CheckConstraint("num_nonnulls(appliance_group_id, appliance_id) <= 1", name="target"),
        Index("deployments_agent_idx", "organization_id", "agent_id", "id"),
        Index("deployments_version_idx", "organization_id", "agent_id", "agent_version_id"),
        Index("deployments_group_idx", "organization_id", "appliance_group_id"),
        Index("deployments_appliance_idx", "organization_id", "appliance_id"),
    )

    agent_id: Mapped[UUID]
    agent_version_id: Mapped[UUID]
    appliance_group_id: Mapped[UUID | None]
    appliance_id: Mapped[UUID | None]
    status: Mapped[str] = mapped_column(default="pending", server_default="pending")
    plan: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    reason: Mapped[str] = mapped_column(default="", server_default="")
    created_by: Mapped[str] = mapped_column(default="", server_default="")
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


class DeploymentTarget(TenantRow, Base):
    """How far a deployment has come on one appliance."""

    __tablename__ = "deployment_targets"
    __table_args__ = (
        within_tenant("deployment_id", "deployments", ondelete="CASCADE"),
        within_tenant("appliance_id", "appliances"),
        UniqueConstraint("organization_id", "deployment_id", "appliance_id"),
        Index("deployment_targets_appliance_idx", "organization_id", "appliance_id"),
        one_of("status", "waiting", "offered", "applied", "refused", "rolled_back"),
    )

    deployment_id: Mapped[UUID]
    appliance_id: Mapped[UUID]
    stage: Mapped[int] = mapped_column(default=0, server_default="0")
    status: Mapped[str] = mapped_column(default="waiting", server_default="waiting")
    desired_version: Mapped[int | None]
    error: Mapped[str] = mapped_column(default="", server_default="")
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
