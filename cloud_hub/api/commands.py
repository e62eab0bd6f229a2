# SPDX-License-Identifier: Apache-2.0
"""Commands: something that a box is told to do once, before it expires."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from cloud_hub.api.deeds import Done, Reading, Writing
from cloud_hub.api.fields import Body, Document, Moment, View
from cloud_hub.api.pages import CursorText, Limit, Page, page
from cloud_hub.api.problems import ProblemError, missing
from cloud_hub.db.models import Appliance, Command
from cloud_hub.fleet.commands import CommandRefusedError, give

router = APIRouter(tags=["commands"])

Kind = Literal["restart", "drain", "collect_logs", "rotate", "test_call", "capacity_test"]


class CommandView(View):
    """A command and what came of it."""

    id: UUID
    appliance_id: UUID
    kind: str
    payload: dict[str, Any] = Field(description="As the box gets it")
    status: Literal["queued", "sent", "done", "failed", "refused", "expired"]
    result: dict[str, Any]
    created_by: str
    created_at: Moment
    expires_at: Moment
    sent_at: Moment | None
    finished_at: Moment | None


class NewCommand(Body):
    """What the box shall do."""

    kind: Kind
    parameters: Document = Field(default_factory=dict)
    valid_for_s: int = Field(
        900, ge=10, le=604_800, description="A box that is away longer never does it"
    )


@router.get("/appliances/{appliance_id}/commands", operation_id="list_commands")
async def list_commands(
    appliance_id: UUID, desk: Reading, limit: Limit = 50, cursor: CursorText = None
) -> Page[CommandView]:
    """List a box's commands, newest first."""
    async with desk.reading() as session:
        await _box(session, appliance_id)
        return await page(
            session,
            select(Command).where(Command.appliance_id == appliance_id),
            Command.id,
            CommandView.model_validate,
            cursors=desk.cursors("commands", appliance_id),
            cursor=cursor,
            limit=limit,
            descending=True,
        )


@router.post(
    "/appliances/{appliance_id}/commands",
    operation_id="create_command",
    status_code=202,
    response_model=CommandView,
)
async def create_command(appliance_id: UUID, body: NewCommand, desk: Writing) -> Response:
    """Give a command. It is signed, sent now or when the box connects, and done once."""

    async def deed(session: AsyncSession) -> Done:
        await _box(session, appliance_id)
        try:
            made = await give(
                session,
                desk.who.organization,
                appliance_id,
                body.kind,
                body.parameters,
                lifetime=timedelta(seconds=body.valid_for_s),
                created_by=desk.who.label,
            )
        except CommandRefusedError as error:
            raise ProblemError(409, "refused", str(error)) from error
        row = await _row(session, appliance_id, made)
        return Done(
            CommandView.model_validate(row),
            "command.create",
            ("appliance", appliance_id),
            202,
            detail={"command_id": str(made), "kind": body.kind},
            location=f"/v1/appliances/{appliance_id}/commands/{made}",
        )

    return await desk.perform(deed)


@router.get("/appliances/{appliance_id}/commands/{command_id}", operation_id="get_command")
async def get_command(appliance_id: UUID, command_id: UUID, desk: Reading) -> CommandView:
    """One command and what came of it."""
    async with desk.reading() as session:
        return CommandView.model_validate(await _row(session, appliance_id, command_id))


async def _box(session: AsyncSession, appliance_id: UUID) -> None:
    if await session.scalar(select(Appliance.id).where(Appliance.id == appliance_id)) is None:
        raise missing("appliance")


async def _row(session: AsyncSession, appliance_id: UUID, command_id: UUID) -> Command:
    row = await session.scalar(
        select(Command)
        .where(Command.id == command_id, Command.appliance_id == appliance_id)
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise missing("command")
    return row
