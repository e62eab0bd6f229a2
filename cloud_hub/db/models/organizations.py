# SPDX-License-Identifier: Apache-2.0
"""Tenants: organizations, who belongs to them, what may be done in their name."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.db.ids import uuid7
from cloud_hub.db.models.base import Base, Created, Tenant, TenantRow, one_of, within_tenant

ROLES = (
    "owner",
    "admin",
    "developer",
    "operator",
    "analyst",
    "viewer",
    "billing",
    "auditor",
)
"""What a member may be, from most to least."""


class Organization(Created, Base):
    """A tenant. Its own id is what every other table calls `organization_id`."""

    __tablename__ = "organizations"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    name: Mapped[str]
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    suspended_at: Mapped[datetime | None]


class Membership(Tenant, Created, Base):
    """A person's role in an organization."""

    __tablename__ = "memberships"
    __table_args__ = (one_of("role", *ROLES), Index("memberships_user_id_idx", "user_id"))

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    role: Mapped[str]
    version: Mapped[int] = mapped_column(default=1, server_default="1")


class Team(TenantRow, Created, Base):
    """A named group of members."""

    __tablename__ = "teams"
    __table_args__ = (
        Index("teams_name_key", "organization_id", func.lower(text("name")), unique=True),
    )

    name: Mapped[str]
    version: Mapped[int] = mapped_column(default=1, server_default="1")


class TeamMember(Tenant, Base):
    """A member of a team; leaves it when leaving the organization."""

    __tablename__ = "team_members"
    __table_args__ = (
        within_tenant("team_id", "teams", ondelete="CASCADE"),
        within_tenant("user_id", "memberships", key="user_id", ondelete="CASCADE"),
        Index("team_members_user_idx", "organization_id", "user_id"),
    )

    team_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(primary_key=True)


class Invitation(TenantRow, Created, Base):
    """A place in an organization offered to an e-mail address."""

    __tablename__ = "invitations"
    __table_args__ = (
        one_of("role", *ROLES),
        within_tenant("invited_by", "memberships", key="user_id", ondelete="CASCADE"),
        UniqueConstraint("token_hash"),
        Index("invitations_invited_by_idx", "organization_id", "invited_by"),
    )

    email: Mapped[str]
    role: Mapped[str]
    token_hash: Mapped[bytes]
    invited_by: Mapped[UUID]
    expires_at: Mapped[datetime]
    accepted_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class ApiKey(TenantRow, Created, Base):
    """A key for programs.

    Attributes:
        prefix: the part that finds the row; public.
        secret_hash: SHA-256 of the secret part (256 random bits need no slow hash).
        allowed_networks: CIDR, IPv4 or IPv6; empty allows any.
        created_by: None once the person has left.
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        UniqueConstraint("prefix"),
        ForeignKeyConstraint(
            ["organization_id", "created_by"],
            ["memberships.organization_id", "memberships.user_id"],
            ondelete="SET NULL (created_by)",
        ),
        Index("api_keys_created_by_idx", "organization_id", "created_by"),
    )

    name: Mapped[str]
    prefix: Mapped[str]
    secret_hash: Mapped[bytes]
    scopes: Mapped[list[str]]
    allowed_networks: Mapped[list[str]] = mapped_column(default=list, server_default="{}")
    created_by: Mapped[UUID | None]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1, server_default="1")


class AuditEntry(Tenant, Base):
    """One link of an organization's audit chain. The database sets `seq` and both hashes.

    Attributes:
        actor_kind: who did it: `user`, `api_key`, `appliance` or `system`.
        action: `agent.publish`, `member.remove`, ...
        hash: over the previous hash and all other columns; see `cloud_hub.db.audit`.
    """

    __tablename__ = "audit_log"
    __table_args__ = (
        one_of("actor_kind", "user", "api_key", "appliance", "system"),
        Index("audit_log_target_idx", "organization_id", "target_kind", "target_id", "seq"),
        Index("audit_log_actor_idx", "organization_id", "actor_id", "seq"),
    )

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, server_default="0")
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    actor_kind: Mapped[str]
    actor_id: Mapped[str] = mapped_column(default="", server_default="")
    action: Mapped[str]
    target_kind: Mapped[str] = mapped_column(default="", server_default="")
    target_id: Mapped[str] = mapped_column(default="", server_default="")
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    request_id: Mapped[str] = mapped_column(default="", server_default="")
    ip: Mapped[str] = mapped_column(default="", server_default="")
    prev_hash: Mapped[bytes] = mapped_column(server_default="")
    hash: Mapped[bytes] = mapped_column(server_default="")


class AuditHead(Tenant, Base):
    """The newest link of an organization's chain; written by the database alone."""

    __tablename__ = "audit_heads"

    seq: Mapped[int]
    hash: Mapped[bytes]


class IdempotencyKey(Tenant, Created, Base):
    """What a request with this `Idempotency-Key` was, and what it was answered.

    Attributes:
        request_hash: over method, path and body; another body with the same key is refused.
        response_status: None while the first request is still at work.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("idempotency_keys_expiry_idx", "organization_id", "expires_at"),)

    key: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[bytes]
    response_status: Mapped[int | None]
    response_headers: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    response_body: Mapped[bytes | None]
    expires_at: Mapped[datetime]
