# SPDX-License-Identifier: Apache-2.0
"""Calls and what comes of them. The four large tables are cut by month, by the time in their id.

`calls`, `turns` and `call_events` are cut by the call's id, so all rows of a call lie in one month
and a foreign key can hold them together; `usage` is cut by its own id and outlives its call.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.db.models.base import Base, Created, Tenant, TenantRow, one_of, within_tenant

sql_false = text("false")


class Call(TenantRow, Base):
    """One call, as the box told it. Its id is the box's.

    Attributes:
        agent_name: as the box calls it; `agent_id` is None for an agent the hub does not know.
        agent_hash: of the agent's definition, as the box had it.
        recorded: the box holds a recording; whether the hub does is in `recordings`.
        latency_p50_ms: end of speech to first audio, over the turns of the call.
        cost_micros: millionths of the currency's unit.
        received_at: when the hub first heard of it.
    """

    __tablename__ = "calls"
    __table_args__ = (
        within_tenant("appliance_id", "appliances"),
        within_tenant("agent_id", "agents"),
        within_tenant("agent_version_id", "agent_versions"),
        one_of("direction", "inbound", "outbound"),
        one_of("status", "ringing", "active", "ended"),
        Index("calls_agent_idx", "organization_id", "agent_id", "id"),
        Index("calls_agent_version_idx", "organization_id", "agent_version_id", "id"),
        Index("calls_appliance_idx", "organization_id", "appliance_id", "id"),
        Index("calls_caller_idx", "organization_id", "caller", "id"),
        Index("calls_called_idx", "organization_id", "called", "id"),
        Index(
            "calls_live_idx",
            "organization_id",
            "appliance_id",
            "id",
            postgresql_where=text("status <> 'ended'"),
        ),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    appliance_id: Mapped[UUID]
    agent_id: Mapped[UUID | None]
    agent_version_id: Mapped[UUID | None]
    agent_name: Mapped[str] = mapped_column(default="", server_default="")
    agent_hash: Mapped[str] = mapped_column(default="", server_default="")
    direction: Mapped[str]
    status: Mapped[str]
    transport: Mapped[str] = mapped_column(default="", server_default="")
    trunk: Mapped[str] = mapped_column(default="", server_default="")
    caller: Mapped[str] = mapped_column(default="", server_default="")
    called: Mapped[str] = mapped_column(default="", server_default="")
    protocol_id: Mapped[str] = mapped_column(default="", server_default="")
    language: Mapped[str] = mapped_column(default="", server_default="")
    started_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    cause: Mapped[str] = mapped_column(default="", server_default="")
    recorded: Mapped[bool] = mapped_column(default=False, server_default=sql_false)
    duration_ms: Mapped[int | None]
    turn_count: Mapped[int] = mapped_column(default=0, server_default="0")
    latency_p50_ms: Mapped[int | None]
    latency_p95_ms: Mapped[int | None]
    cost_micros: Mapped[int] = mapped_column(default=0, server_default="0")
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict, server_default="{}")
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())


class CallChild:
    """The key of a row that belongs to a call. The call's own reference holds it to its tenant."""

    organization_id: Mapped[UUID] = mapped_column(primary_key=True, sort_order=-10)
    call_id: Mapped[UUID] = mapped_column(primary_key=True, sort_order=-9)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, sort_order=-8)


class Turn(CallChild, Base):
    """What one side said.

    Attributes:
        role: `caller`, `agent`, `tool`, or what a newer box calls it.
        text: what was said, or heard of it; "" where the site's policy keeps it.
        started_ms: media time since the answer.
        latency_ms: end of the caller's speech to the agent's first audio.
        latency_parts: milliseconds by stage.
        withheld: the site's policy kept the text.
    """

    __tablename__ = "turns"
    __table_args__ = (
        within_tenant("call_id", "calls"),
        {"postgresql_partition_by": "RANGE (call_id)"},
    )

    role: Mapped[str]
    text: Mapped[str]
    started_ms: Mapped[int]
    ended_ms: Mapped[int | None]
    interrupted: Mapped[bool] = mapped_column(default=False, server_default=sql_false)
    withheld: Mapped[bool] = mapped_column(default=False, server_default=sql_false)
    latency_ms: Mapped[int | None]
    latency_parts: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")


class CallEvent(CallChild, Base):
    """One entry of a call's event log, as the box wrote it.

    Attributes:
        t_ms: media time since the answer.
        kind: kept whole even when this hub does not know it.
    """

    __tablename__ = "call_events"
    __table_args__ = (
        within_tenant("call_id", "calls"),
        {"postgresql_partition_by": "RANGE (call_id)"},
    )

    t_ms: Mapped[int]
    kind: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")


class Usage(TenantRow, Base):
    """Metered consumption. Written once; outlives the call it names.

    Attributes:
        id: `ids.derived` of the call and of the place in the stream, so it cannot count twice.
        quantity: whole units.
        cost_micros: millionths of the currency's unit, by the rate card of the box.
    """

    __tablename__ = "usage"
    __table_args__ = (
        within_tenant("appliance_id", "appliances"),
        one_of("unit", "seconds", "tokens", "characters"),
        CheckConstraint("quantity >= 0", name="quantity"),
        CheckConstraint("cost_micros >= 0", name="cost_micros"),
        Index("usage_call_idx", "organization_id", "call_id"),
        Index("usage_time_idx", "organization_id", "occurred_at"),
        Index("usage_appliance_idx", "organization_id", "appliance_id", "id"),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    appliance_id: Mapped[UUID]
    call_id: Mapped[UUID | None]
    agent_name: Mapped[str] = mapped_column(default="", server_default="")
    provider: Mapped[str]
    kind: Mapped[str]
    unit: Mapped[str]
    quantity: Mapped[int]
    cost_micros: Mapped[int] = mapped_column(default=0, server_default="0")
    currency: Mapped[str] = mapped_column(default="", server_default="")
    rate_card: Mapped[str] = mapped_column(default="", server_default="")
    occurred_at: Mapped[datetime]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Upload(TenantRow, Created, Base):
    """A file on its way from a box (tus 1.0)."""

    __tablename__ = "uploads"
    __table_args__ = (
        within_tenant("appliance_id", "appliances"),
        one_of("status", "receiving", "complete", "refused"),
        CheckConstraint('"offset" BETWEEN 0 AND length', name="offset"),
        UniqueConstraint("organization_id", "appliance_id", "sha256"),
        Index("uploads_expiry_idx", "organization_id", "expires_at"),
    )

    appliance_id: Mapped[UUID]
    call_id: Mapped[UUID | None]
    status: Mapped[str] = mapped_column(default="receiving", server_default="receiving")
    length: Mapped[int]
    offset: Mapped[int] = mapped_column(default=0, server_default="0")
    sha256: Mapped[bytes]
    content_type: Mapped[str] = mapped_column(default="", server_default="")
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict, server_default="{}")
    storage_key: Mapped[str] = mapped_column(default="", server_default="")
    expires_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]


class Recording(TenantRow, Created, Base):
    """A recording that the hub holds. It may arrive before its call's rows do.

    Attributes:
        storage_key: where the object lies in the hub's storage.
    """

    __tablename__ = "recordings"
    __table_args__ = (
        within_tenant("appliance_id", "appliances"),
        within_tenant("upload_id", "uploads", ondelete="SET NULL (upload_id)"),
        UniqueConstraint("organization_id", "storage_key"),
        Index("recordings_call_idx", "organization_id", "call_id"),
        Index("recordings_appliance_idx", "organization_id", "appliance_id"),
        Index("recordings_upload_idx", "organization_id", "upload_id"),
    )

    appliance_id: Mapped[UUID]
    call_id: Mapped[UUID]
    upload_id: Mapped[UUID | None]
    storage_key: Mapped[str]
    sha256: Mapped[bytes]
    size: Mapped[int]
    content_type: Mapped[str]
    duration_ms: Mapped[int | None]
    channels: Mapped[int] = mapped_column(default=1, server_default="1")


class Booking(Tenant, Base):
    """An appointment that a call entered in a box's calendar. `date` and `time` are the site's."""

    __tablename__ = "bookings"
    __table_args__ = (
        within_tenant("appliance_id", "appliances"),
        Index("bookings_call_idx", "organization_id", "call_id"),
    )

    appliance_id: Mapped[UUID] = mapped_column(primary_key=True)
    idempotency_key: Mapped[str] = mapped_column(primary_key=True)
    call_id: Mapped[UUID | None]
    calendar: Mapped[str] = mapped_column(default="", server_default="")
    date: Mapped[str]
    time: Mapped[str]
    name: Mapped[str]
    created_at: Mapped[datetime]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
