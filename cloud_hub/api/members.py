# SPDX-License-Identifier: Apache-2.0
"""Members of an organization and their roles. An owner can only be changed by an owner; one stays."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field
from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from cloud_hub.api.deeds import Done, Reading, Seen, Writing, shown, stale
from cloud_hub.api.door import Who
from cloud_hub.api.fields import Body, Moment, View
from cloud_hub.api.pages import CursorText, Limit, Page
from cloud_hub.api.problems import ProblemError, missing
from cloud_hub.auth.operations import GRANTABLE
from cloud_hub.db.models import Membership, User

router = APIRouter(tags=["members"])

Role = Literal["owner", "admin", "developer", "operator", "analyst", "viewer", "billing", "auditor"]


class MemberView(View):
    """Somebody who belongs to the organization."""

    user_id: UUID
    email: str
    name: str
    role: Role
    version: int
    created_at: Moment = Field(description="When they joined")


class RoleChange(Body):
    """What a member shall be."""

    role: Role


@router.get("/members", operation_id="list_members")
async def list_members(
    desk: Reading, limit: Limit = 50, cursor: CursorText = None
) -> Page[MemberView]:
    """List members."""
    cursors = desk.cursors("members")
    query = _members().order_by(Membership.user_id).limit(limit + 1)
    if cursor is not None:
        query = query.where(Membership.user_id > UUID(cursors.read(cursor)))
    async with desk.reading() as session:
        rows = (await session.execute(query)).all()
    views = [_view(membership, user) for membership, user in rows[:limit]]
    following = cursors.write(views[-1].user_id) if len(rows) > limit else None
    return Page(data=views, next_cursor=following)


@router.get("/members/{user_id}", operation_id="get_member", response_model=MemberView)
async def get_member(user_id: UUID, desk: Reading) -> Response:
    """One member."""
    async with desk.reading() as session:
        membership, user = await _member(session, user_id)
    return shown(_view(membership, user), membership.version)


@router.patch("/members/{user_id}", operation_id="update_member", response_model=MemberView)
async def update_member(user_id: UUID, body: RoleChange, seen: Seen, desk: Writing) -> Response:
    """Give a member another role. It counts from their next request on."""

    async def deed(session: AsyncSession) -> Done:
        membership, user = await _member(session, user_id)
        check_grant(desk.who, membership.role, body.role)
        if membership.version != seen:
            raise stale()
        before, membership.role = membership.role, body.role
        membership.version += 1
        await session.flush()
        await _keep_an_owner(session)
        detail = {"from": before, "to": body.role}
        version = membership.version
        view = _view(membership, user)
        return Done(view, "member.role", ("user", user_id), detail=detail, version=version)

    return await desk.perform(deed)


@router.delete("/members/{user_id}", operation_id="remove_member", status_code=204)
async def remove_member(user_id: UUID, desk: Writing) -> Response:
    """Take a member out of the organization; what they made stays."""

    async def deed(session: AsyncSession) -> Done:
        membership, user = await _member(session, user_id)
        check_grant(desk.who, membership.role)
        await session.delete(membership)
        await session.flush()
        await _keep_an_owner(session)
        return Done(None, "member.remove", ("user", user_id), detail={"email": user.email})

    return await desk.perform(deed)


def check_grant(who: Who, *roles: str) -> None:
    """Refuse to give or take roles that are not the member's to give.

    Raises:
        ProblemError: 403.
    """
    allowed = GRANTABLE.get(who.role, frozenset())
    for role in roles:
        if role not in allowed:
            raise ProblemError(403, "forbidden", f"the role {who.role} may not give or take {role}")


async def _keep_an_owner(session: AsyncSession) -> None:
    # The rows are locked, so two owners cannot demote each other at once.
    owners = await session.execute(
        select(Membership.user_id).where(Membership.role == "owner").with_for_update()
    )
    if not owners.all():
        raise ProblemError(409, "last_owner", "an organization keeps at least one owner")


def _members() -> Select[Membership, User]:
    return select(Membership, User).join(User, User.id == Membership.user_id)


async def _member(session: AsyncSession, user_id: UUID) -> tuple[Membership, User]:
    # All owners are locked first, in one order, before one of them changes.
    await session.execute(
        select(Membership.user_id)
        .where((Membership.role == "owner") | (Membership.user_id == user_id))
        .order_by(Membership.user_id)
        .with_for_update()
    )
    row = (await session.execute(_members().where(Membership.user_id == user_id))).one_or_none()
    if row is None:
        raise missing("member")
    membership, user = row
    return membership, user


def _view(membership: Membership, user: User) -> MemberView:
    return MemberView(
        user_id=user.id,
        email=user.email,
        name=user.name,
        role=membership.role,
        version=membership.version,
        created_at=membership.created_at,
    )
