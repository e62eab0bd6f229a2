# SPDX-License-Identifier: Apache-2.0
"""Teams: named groups of members."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from cloud_hub.api.deeds import Done, Reading, Seen, Writing, shown, stale
from cloud_hub.api.fields import Body, Moment, Name, View
from cloud_hub.api.pages import CursorText, Limit, Page, page
from cloud_hub.api.problems import missing
from cloud_hub.db.models import Membership, Team, TeamMember

router = APIRouter(tags=["teams"])


class TeamView(View):
    """A team."""

    id: UUID
    name: str = Field(examples=["Night shift"])
    version: int
    created_at: Moment


class TeamDetail(TeamView):
    """A team with its members."""

    members: list[UUID]


class NewTeam(Body):
    """A team to be made, or its new name."""

    name: Name = Field(examples=["Night shift"])


@router.get("/teams", operation_id="list_teams")
async def list_teams(desk: Reading, limit: Limit = 50, cursor: CursorText = None) -> Page[TeamView]:
    """List teams, oldest first."""
    async with desk.reading() as session:
        return await page(
            session,
            select(Team),
            Team.id,
            TeamView.model_validate,
            cursors=desk.cursors("teams"),
            cursor=cursor,
            limit=limit,
        )


@router.post("/teams", operation_id="create_team", status_code=201, response_model=TeamDetail)
async def create_team(body: NewTeam, desk: Writing) -> Response:
    """Make a team."""

    async def deed(session: AsyncSession) -> Done:
        row = Team(organization_id=desk.who.organization, name=body.name)
        session.add(row)
        await session.flush()
        await session.refresh(row)
        return await _done(session, row, "team.create", 201)

    return await desk.perform(deed)


@router.get("/teams/{team_id}", operation_id="get_team", response_model=TeamDetail)
async def get_team(team_id: UUID, desk: Reading) -> Response:
    """One team with its members."""
    async with desk.reading() as session:
        row = await _row(session, team_id)
        view = await _detail(session, row)
    return shown(view, row.version)


@router.patch("/teams/{team_id}", operation_id="update_team", response_model=TeamDetail)
async def update_team(team_id: UUID, body: NewTeam, seen: Seen, desk: Writing) -> Response:
    """Rename a team."""

    async def deed(session: AsyncSession) -> Done:
        row = await _row(session, team_id)
        if row.version != seen:
            raise stale()
        row.name, row.version = body.name, row.version + 1
        await session.flush()
        return await _done(session, row, "team.update")

    return await desk.perform(deed)


@router.delete("/teams/{team_id}", operation_id="delete_team", status_code=204)
async def delete_team(team_id: UUID, seen: Seen, desk: Writing) -> Response:
    """Remove a team; its members stay members of the organization."""

    async def deed(session: AsyncSession) -> Done:
        row = await _row(session, team_id)
        if row.version != seen:
            raise stale()
        await session.delete(row)
        await session.flush()
        return Done(None, "team.delete", ("team", team_id), detail={"name": row.name})

    return await desk.perform(deed)


@router.put("/teams/{team_id}/members/{user_id}", operation_id="add_team_member", status_code=204)
async def add_team_member(team_id: UUID, user_id: UUID, desk: Writing) -> Response:
    """Put a member of the organization into a team."""

    async def deed(session: AsyncSession) -> Done:
        await _row(session, team_id)
        member = select(Membership.user_id).where(Membership.user_id == user_id)
        if await session.scalar(member) is None:
            raise missing("member")
        await session.execute(
            insert(TeamMember)
            .values(organization_id=desk.who.organization, team_id=team_id, user_id=user_id)
            .on_conflict_do_nothing()
        )
        return Done(None, "team.add", ("team", team_id), detail={"user_id": str(user_id)})

    return await desk.perform(deed)


@router.delete(
    "/teams/{team_id}/members/{user_id}", operation_id="remove_team_member", status_code=204
)
async def remove_team_member(team_id: UUID, user_id: UUID, desk: Writing) -> Response:
    """Take a member out of a team."""

    async def deed(session: AsyncSession) -> Done:
        gone = await session.execute(
            delete(TeamMember)
            .where(TeamMember.team_id == team_id, TeamMember.user_id == user_id)
            .returning(TeamMember.user_id)
        )
        if gone.one_or_none() is None:
            raise missing("team member")
        return Done(None, "team.remove", ("team", team_id), detail={"user_id": str(user_id)})

    return await desk.perform(deed)


async def _row(session: AsyncSession, team_id: UUID) -> Team:
    row = await session.scalar(select(Team).where(Team.id == team_id).with_for_update())
    if row is None:
        raise missing("team")
    return row


async def _detail(session: AsyncSession, row: Team) -> TeamDetail:
    members = await session.execute(
        select(TeamMember.user_id)
        .where(TeamMember.team_id == row.id)
        .order_by(TeamMember.user_id)
        .limit(1000)
    )
    shown_row = TeamView.model_validate(row).model_dump()
    return TeamDetail(members=list(members.scalars()), **shown_row)


async def _done(session: AsyncSession, row: Team, action: str, status: int = 200) -> Done:
    return Done(
        await _detail(session, row),
        action,
        ("team", row.id),
        status,
        detail={"name": row.name},
        version=row.version,
        location=f"/v1/teams/{row.id}" if status == 201 else "",
    )
