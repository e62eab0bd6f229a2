# SPDX-License-Identifier: Apache-2.0
"""What all tables share: types, names of constraints, the two columns that make a tenant's key."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    LargeBinary,
    MetaData,
    Text,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cloud_hub.db.ids import uuid7

type_map: dict[Any, Any] = {
    UUID: Uuid(),
    datetime: TIMESTAMP(timezone=True),
    str: Text(),
    int: BigInteger(),
    bytes: LargeBinary(),
    dict[str, Any]: JSONB(),
    list[str]: ARRAY(Text()),
}


class Base(DeclarativeBase):
    """The root of all tables."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "ck": "%(table_name)s_%(constraint_name)s_check",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = type_map


class Tenant:
    """A row that belongs to one organization; part of the primary key, so of every reference."""

    organization_id: Mapped[UUID] = mapped_column(
        ForeignKey("organizations.id"), primary_key=True, sort_order=-10
    )


class TenantRow(Tenant):
    """A tenant's row with an identifier of its own."""

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7, sort_order=-9)


class Created:
    """When the row was made, by the database's clock."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=90)


def within_tenant(
    column: str, target: str, *, key: str = "id", ondelete: str | None = None
) -> ForeignKeyConstraint:
    """A reference that cannot leave the organization: both columns, or none."""
    return ForeignKeyConstraint(
        ["organization_id", column],
        [f"{target}.organization_id", f"{target}.{key}"],
        ondelete=ondelete,
    )


def one_of(column: str, *values: str) -> CheckConstraint:
    """A closed list of words. Text, not an enum: row-level security keeps enum indexes unused."""
    words = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({words})", name=column)
