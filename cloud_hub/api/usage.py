# SPDX-License-Identifier: Apache-2.0
"""Usage: what was consumed, row by row and added up. All numbers are whole."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy import Select, cast, func, literal_column, select
from sqlalchemy.types import BigInteger, Text

from cloud_hub.api.deeds import Reading
from cloud_hub.api.fields import Body, Instant, Moment, View
from cloud_hub.api.pages import CursorText, Limit, Page, page
from cloud_hub.db.models import Usage

router = APIRouter(tags=["usage"])

Unit = Literal["seconds", "tokens", "characters"]
Group = Literal["provider", "kind", "agent_name", "appliance_id", "day"]
MOST_TOTALS = 5000
_UTC: Any = literal_column("'UTC'")
"""No parameter: SELECT and GROUP BY must hold the same expression."""


class UsageView(View):
    """One piece of consumption."""

    id: UUID
    appliance_id: UUID
    call_id: UUID | None
    agent_name: str
    provider: str
    kind: str
    unit: Unit
    quantity: int
    cost_micros: int = Field(description="Millionths of the currency's unit")
    currency: str
    rate_card: str
    occurred_at: Moment


class UsageFilter(Body):
    """Which usage."""

    occurred_from: Instant | None = None
    occurred_before: Instant | None = None
    appliance_id: UUID | None = None
    call_id: UUID | None = None


class UsageList(UsageFilter):
    """Which usage, in pages."""

    limit: Limit = 50
    cursor: CursorText = None


class UsageSums(UsageFilter):
    """Which usage, and by what it is added up; by unit and currency always."""

    group_by: list[Group] = Field(["provider", "kind"], max_length=5)


class Total(View):
    """A sum. What it is not grouped by is null."""

    provider: str | None = None
    kind: str | None = None
    agent_name: str | None = None
    appliance_id: UUID | None = None
    day: str | None = Field(None, description="In UTC", examples=["2026-11-21"])
    unit: Unit
    currency: str
    quantity: int
    cost_micros: int


class Totals(View):
    """All sums."""

    data: list[Total]
    complete: bool = Field(description=f"False when there are more than {MOST_TOTALS} sums")


@router.get("/usage", operation_id="list_usage")
async def list_usage(desk: Reading, wanted: Annotated[UsageList, Query()]) -> Page[UsageView]:
    """List usage row by row, newest first."""
    async with desk.reading() as session:
        return await page(
            session,
            _chosen(select(Usage), wanted),
            Usage.id,
            UsageView.model_validate,
            cursors=desk.cursors("usage"),
            cursor=wanted.cursor,
            limit=wanted.limit,
            descending=True,
        )


@router.get("/usage/totals", operation_id="get_usage_totals")
async def get_usage_totals(desk: Reading, wanted: Annotated[UsageSums, Query()]) -> Totals:
    """Add usage up."""
    groups = list(dict.fromkeys(wanted.group_by))
    keys: list[Any] = [_column(group).label(group) for group in groups]
    keys += [Usage.unit, Usage.currency]
    query = select(
        *keys,
        cast(func.sum(Usage.quantity), BigInteger).label("quantity"),
        cast(func.sum(Usage.cost_micros), BigInteger).label("cost_micros"),
    )
    order = [_column(group) for group in groups] + [Usage.unit, Usage.currency]
    query = _chosen(query, wanted).group_by(*order).order_by(*order).limit(MOST_TOTALS + 1)
    async with desk.reading() as session:
        rows = (await session.execute(query)).mappings().all()
    data = [Total.model_validate(dict(row)) for row in rows[:MOST_TOTALS]]
    return Totals(data=data, complete=len(rows) <= MOST_TOTALS)


def _column(group: Group) -> Any:
    if group == "day":
        return cast(func.date(func.timezone(_UTC, Usage.occurred_at)), Text)
    return getattr(Usage, group)


def _chosen(query: Select[Any], wanted: UsageFilter) -> Select[Any]:
    bounds: tuple[datetime | None, datetime | None]
    bounds = wanted.occurred_from, wanted.occurred_before
    if bounds[0] is not None:
        query = query.where(Usage.occurred_at >= bounds[0])
    if bounds[1] is not None:
        query = query.where(Usage.occurred_at < bounds[1])
    if wanted.appliance_id is not None:
        query = query.where(Usage.appliance_id == wanted.appliance_id)
    if wanted.call_id is not None:
        query = query.where(Usage.call_id == wanted.call_id)
    return query
