# SPDX-License-Identifier: Apache-2.0
"""Boxes: how they join, what they shall be, what they say they are, what they are told to do."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.db.ids import uuid7
from cloud_hub.db.models.base import Base, Created, Tenant, TenantRow, one_of, within_tenant


class ApplianceGroup(TenantRow, Created, Base):
    """Boxes that are configured and rolled out to together."""

    __tablename__ = "appliance_groups"
    __table_args__ = (
        Index(
            "appliance_groups_name_key", "organization_id", func.lower(text("name")), unique=True
        ),
    )

    name: Mapped[str]
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    version: Mapped[int] = mapped_column(default=1, server_default="1")


class Appliance(TenantRow, Created, Base):
    """A box. Its id is the box id of the wire protocol; made by the hub, never by a tenant.

    Attributes:
        presence_session: the MQTT session that said it is online; an older will is ignored.
        last_seen_at: the hub's clock at the last authenticated message.
        clock_skew_ms: box minus hub.
        health: the newest health report.
    """

    __tablename__ = "appliances"
    __table_args__ = (
        UniqueConstraint("id"),
        within_tenant("group_id", "appliance_groups"),
        one_of("state", "active", "retired"),
        Index("appliances_group_idx", "organization_id", "group_id"),
        Index("appliances_seen_idx", "organization_id", "state", "last_seen_at"),
    )

    name: Mapped[str]
    group_id: Mapped[UUID | None]
    state: Mapped[str] = mapped_column(default="active", server_default="active")
    serial_number: Mapped[str] = mapped_column(default="", server_default="")
    software_version: Mapped[str] = mapped_column(default="", server_default="")
    hardware: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    online: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    presence_session: Mapped[str] = mapped_column(default="", server_default="")
    last_seen_at: Mapped[datetime | None]
    clock_skew_ms: Mapped[int | None]
    health: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    health_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    retired_at: Mapped[datetime | None]


class Claim(Created, Base):
    """A box that asks to join. It has no tenant until an operator of one enters its code.

    Attributes:
        code: what the box shows; unique among open claims.
        poll_hash: SHA-256 of the secret with which the box asks how its claim stands.
        token_hash: SHA-256 of the token of a token file; such a claim begins with its tenant.
        public_key_sha256: of the key that never leaves the box.
    """

    __tablename__ = "claims"
    __table_args__ = (
        one_of("status", "open", "claimed", "issued", "refused"),
        CheckConstraint(
            "organization_id IS NOT NULL OR status IN ('open', 'refused')", name="tenant"
        ),
        within_tenant("appliance_id", "appliances"),
        UniqueConstraint("poll_hash"),
        UniqueConstraint("token_hash"),
        Index("claims_code_key", "code", unique=True, postgresql_where=text("status = 'open'")),
        Index("claims_organization_idx", "organization_id", "id"),
        Index("claims_appliance_idx", "organization_id", "appliance_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organization_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id"))
    appliance_id: Mapped[UUID | None]
    status: Mapped[str] = mapped_column(default="open", server_default="open")
    code: Mapped[str | None]
    poll_hash: Mapped[bytes | None]
    token_hash: Mapped[bytes | None]
    csr: Mapped[str] = mapped_column(default="", server_default="")
    public_key_sha256: Mapped[bytes | None]
    details: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    ip: Mapped[str] = mapped_column(default="", server_default="")
    expires_at: Mapped[datetime]
    claimed_at: Mapped[datetime | None]


class Certificate(TenantRow, Created, Base):
    """A certificate that the hub's CA issued to a box. The serial number is lower-case hex."""

    __tablename__ = "certificates"
    __table_args__ = (
        within_tenant("appliance_id", "appliances"),
        UniqueConstraint("serial"),
        Index("certificates_appliance_idx", "organization_id", "appliance_id"),
        Index("certificates_expiry_idx", "organization_id", "not_after"),
        Index(
            "certificates_revoked_idx",
            "revoked_at",
            postgresql_where=text("revoked_at IS NOT NULL"),
        ),
    )

    appliance_id: Mapped[UUID]
    serial: Mapped[str]
    public_key_sha256: Mapped[bytes]
    pem: Mapped[str]
    not_before: Mapped[datetime]
    not_after: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    revoked_reason: Mapped[str] = mapped_column(default="", server_default="")


class Bundle(TenantRow, Created, Base):
    """A signed configuration for one box. No role may change it.

    Attributes:
        version: the desired version it carries; only rises.
        signature: Ed25519, by the hub's key, over what the wire protocol says.
    """

    __tablename__ = "bundles"
    __table_args__ = (
        within_tenant("appliance_id", "appliances"),
        UniqueConstraint("organization_id", "appliance_id", "version"),
    )

    appliance_id: Mapped[UUID]
    version: Mapped[int]
    sha256: Mapped[bytes]
    signature: Mapped[bytes]
    content: Mapped[bytes]


class DesiredState(Tenant, Base):
    """What a box shall be."""

    __tablename__ = "desired_state"
    __table_args__ = (
        within_tenant("appliance_id", "appliances", ondelete="CASCADE"),
        within_tenant("bundle_id", "bundles"),
        Index("desired_state_bundle_idx", "organization_id", "bundle_id"),
    )

    appliance_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int]
    bundle_id: Mapped[UUID | None]
    document: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    updated_by: Mapped[str] = mapped_column(default="", server_default="")


class ReportedState(Tenant, Base):
    """What a box says it is.

    Attributes:
        version: the desired version that it runs.
        status: how it took the newest offer.
        drift: keys that were changed on the box, with their values there.
    """

    __tablename__ = "reported_state"
    __table_args__ = (
        within_tenant("appliance_id", "appliances", ondelete="CASCADE"),
        one_of("status", "applied", "staged", "refused", "rolled_back"),
    )

    appliance_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int]
    status: Mapped[str]
    document: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    drift: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    errors: Mapped[list[str]] = mapped_column(default=list, server_default="{}")
    reported_at: Mapped[datetime]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Command(TenantRow, Created, Base):
    """Something a box is told to do once, before it expires."""

    __tablename__ = "commands"
    __table_args__ = (
        within_tenant("appliance_id", "appliances"),
        one_of("status", "queued", "sent", "done", "failed", "refused", "expired"),
        Index("commands_appliance_idx", "organization_id", "appliance_id", "id"),
        Index(
            "commands_open_idx",
            "organization_id",
            "expires_at",
            postgresql_where=text("status IN ('queued', 'sent')"),
        ),
    )

    appliance_id: Mapped[UUID]
    kind: Mapped[str]
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    signature: Mapped[bytes | None]
    status: Mapped[str] = mapped_column(default="queued", server_default="queued")
    created_by: Mapped[str] = mapped_column(default="", server_default="")
    expires_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    result: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")


class StreamPosition(Tenant, Base):
    """Up to where a box's stream is in this database; moves with the rows it counts.

    Attributes:
        epoch: one life of the box's program; the wire protocol says which comes after which.
        applied_seq: the last applied; 0 before the first.
    """

    __tablename__ = "stream_positions"
    __table_args__ = (
        within_tenant("appliance_id", "appliances", ondelete="CASCADE"),
        CheckConstraint("applied_seq >= 0", name="applied_seq"),
    )

    appliance_id: Mapped[UUID] = mapped_column(primary_key=True)
    stream: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[UUID] = mapped_column(primary_key=True)
    applied_seq: Mapped[int] = mapped_column(default=0, server_default="0")
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


class QuarantinedRow(Tenant, Created, Base):
    """A row of a stream that this hub could not put elsewhere, or the note that rows are lost.

    Attributes:
        reason: `unknown` kind, `malformed` data, `kept` on purpose, or `lost` at the box.
        data: as it came; of a loss `{"from": ..., "to": ...}`.
    """

    __tablename__ = "quarantined_rows"
    __table_args__ = (
        within_tenant("appliance_id", "appliances", ondelete="CASCADE"),
        one_of("reason", "unknown", "malformed", "kept", "lost"),
    )

    appliance_id: Mapped[UUID] = mapped_column(primary_key=True)
    stream: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    at: Mapped[datetime]
    data: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    reason: Mapped[str]
