# SPDX-License-Identifier: Apache-2.0
"""Calls and what was said in them, as the boxes told it. Read only."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field, StringConstraints
from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from cloud_hub.api.deeds import Reading
from cloud_hub.api.fields import Body, Instant, Moment, View
from cloud_hub.api.pages import CursorText, Limit, Page, page
from cloud_hub.api.problems import missing
from cloud_hub.db.ids import first_of
from cloud_hub.db.models import Call, CallEvent, Turn

router = APIRouter(tags=["calls"])

Number = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,128}$")]


class CallView(View):
    """A call."""

    id: UUID
    appliance_id: UUID
    agent_id: UUID | None
    agent_version_id: UUID | None
    agent_name: str
    direction: Literal["inbound", "outbound"]
    status: Literal["ringing", "active", "ended"]
    transport: str
    trunk: str
    caller: str = Field(examples=["+441632960961"])
    called: str
    language: str
    started_at: Moment
    answered_at: Moment | None
    ended_at: Moment | None
    cause: str
    recorded: bool = Field(description="The box holds a recording")
    duration_ms: int | None
    turn_count: int
    latency_p50_ms: int | None = Field(description="End of speech to first audio, over its turns")
    latency_p95_ms: int | None
    cost_micros: int = Field(description="Millionths of the currency's unit")


class CallDetail(CallView):
    """A call with all that is known of it as a whole."""

    agent_hash: str
    protocol_id: str
    metadata: dict[str, Any] = Field(validation_alias="metadata_")
    received_at: Moment


class TurnView(View):
    """What one side said."""

    seq: int
    role: str = Field(examples=["caller", "agent"])
    text: str = Field(description="Empty where the site's policy keeps it")
    started_ms: int = Field(description="Since the answer")
    ended_ms: int | None
    interrupted: bool
    withheld: bool
    latency_ms: int | None
    latency_parts: dict[str, Any]


class Transcript(View):
    """A call in words."""

    call_id: UUID
    turns: list[TurnView]


class EventView(View):
    """An entry of a call's event log, as the box wrote it."""

    seq: int
    t_ms: int
    kind: str
    data: dict[str, Any]


class CallFilter(Body):
    """Which calls; all that is given must hold."""

    started_from: Instant | None = Field(None, description="At or after this moment")
    started_before: Instant | None = None
    appliance_id: UUID | None = None
    agent_id: UUID | None = None
    agent_version_id: UUID | None = None
    direction: Literal["inbound", "outbound"] | None = None
    status: Literal["ringing", "active", "ended"] | None = None
    caller: Number | None = None
    called: Number | None = None
    cause: Number | None = None
    recorded: bool | None = None
    min_duration_ms: int | None = Field(None, ge=0, lt=1 << 62)
    max_duration_ms: int | None = Field(None, ge=0, lt=1 << 62)
    min_latency_p95_ms: int | None = Field(None, ge=0, lt=1 << 62)
    limit: Limit = 50
    cursor: CursorText = None


_EQUAL = (
    "appliance_id",
    "agent_id",
    "agent_version_id",
    "direction",
    "status",
    "caller",
    "called",
    "cause",
    "recorded",
)


@router.get("/calls", operation_id="list_calls")
async def list_calls(desk: Reading, wanted: Annotated[CallFilter, Query()]) -> Page[CallView]:
    """List calls, newest first."""
    async with desk.reading() as session:
        return await page(
            session,
            _chosen(wanted),
            Call.id,
            CallView.model_validate,
            cursors=desk.cursors("calls"),
            cursor=wanted.cursor,
            limit=wanted.limit,
            descending=True,
        )


@router.get("/calls/{call_id}", operation_id="get_call")
async def get_call(call_id: UUID, desk: Reading) -> CallDetail:
    """One call."""
    async with desk.reading() as session:
        return CallDetail.model_validate(await _call(session, call_id))


@router.get("/calls/{call_id}/transcript", operation_id="get_transcript")
async def get_transcript(call_id: UUID, desk: Reading) -> Transcript:
    """What was said, turn by turn."""
    async with desk.reading() as session:
        await _call(session, call_id)
        rows = await session.execute(
            select(Turn).where(Turn.call_id == call_id).order_by(Turn.seq).limit(10_000)
        )
        turns = [TurnView.model_validate(row) for row in rows.scalars()]
    return Transcript(call_id=call_id, turns=turns)


@router.get("/calls/{call_id}/events", operation_id="list_call_events")
async def list_call_events(
    call_id: UUID, desk: Reading, limit: Limit = 100, cursor: CursorText = None
) -> Page[EventView]:
    """List the call's event log, in its order."""
    async with desk.reading() as session:
        await _call(session, call_id)
        return await page(
            session,
            select(CallEvent).where(CallEvent.call_id == call_id),
            CallEvent.seq,
            EventView.model_validate,
            cursors=desk.cursors("events", call_id),
            cursor=cursor,
            limit=limit,
        )


def _chosen(wanted: CallFilter) -> Select[Any]:
    query = select(Call)
    for name in _EQUAL:
        if (value := getattr(wanted, name)) is not None:
            query = query.where(getattr(Call, name) == value)
    # A call's id holds the time of its start: a range of times is a range of the key.
    if wanted.started_from is not None:
        query = query.where(Call.id >= first_of(wanted.started_from))
    if wanted.started_before is not None:
        query = query.where(Call.id < first_of(wanted.started_before))
    if wanted.min_duration_ms is not None:
        query = query.where(Call.duration_ms >= wanted.min_duration_ms)
    if wanted.max_duration_ms is not None:
        query = query.where(Call.duration_ms <= wanted.max_duration_ms)
    if wanted.min_latency_p95_ms is not None:
        query = query.where(Call.latency_p95_ms >= wanted.min_latency_p95_ms)
    return query


async def _call(session: AsyncSession, call_id: UUID) -> Call:
    row = await session.scalar(select(Call).where(Call.id == call_id))
    if row is None:
        raise missing("call")
    return row
