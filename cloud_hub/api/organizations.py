# SPDX-License-Identifier: Apache-2.0
"""Organizations: one's own list, a new one, and the one that a request is about."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from cloud_hub.api.deeds import Done, Reading, Seen, Writing, shown, stale
from cloud_hub.api.door import Asking
from cloud_hub.api.fields import Body, Document, Moment, Name, View
from cloud_hub.api.pages import Page
from cloud_hub.api.problems import ProblemError
from cloud_hub.api.services import services
from cloud_hub.api.session import MembershipView
from cloud_hub.auth.accounts import open_organization
from cloud_hub.db.models import Organization

router = APIRouter(tags=["organizations"])

MOST = 20
"""Organizations of one person."""
LONGEST_RETENTION_DAYS = 36_500


def _settings(value: dict[str, Any]) -> dict[str, Any]:
    days = value.get("retention_days")
    whole = isinstance(days, int) and not isinstance(days, bool)
    if days is not None and not (whole and 0 < days <= LONGEST_RETENTION_DAYS):
        raise ValueError(f"retention_days is a whole number from 1 to {LONGEST_RETENTION_DAYS}")
    return value


Settings = Annotated[Document, AfterValidator(_settings)]
"""Of an organization: free, but for what the hub itself reads."""


class OrganizationView(View):
    """A tenant."""

    id: UUID
    name: str = Field(examples=["Ward & Sons"])
    settings: dict[str, Any]
    version: int
    created_at: Moment


class NewOrganization(Body):
    """An organization to be made; whoever makes it owns it."""

    name: Name = Field(examples=["Ward & Sons"])


class OrganizationChange(Body):
    """What changes of an organization."""

    name: Name | None = None
    settings: Settings | None = Field(
        None,
        description="Any document; `retention_days` in it bounds how long calls are kept",
        examples=[{"retention_days": 90}],
    )


@router.get("/organizations", operation_id="list_organizations")
async def list_organizations(who: Asking) -> Page[MembershipView]:
    """List the organizations one belongs to."""
    return Page(data=[MembershipView.model_validate(each) for each in who.belongings])


@router.post(
    "/organizations",
    operation_id="create_organization",
    status_code=201,
    response_model=OrganizationView,
)
async def create_organization(body: NewOrganization, request: Request, who: Asking) -> Response:
    """Make an organization and become its owner."""
    if len(who.belongings) >= MOST:
        raise ProblemError(409, "too_many", f"one person belongs to at most {MOST} organizations")
    made = await open_organization(
        services(request).engine, who.user_id, body.name, request_id=who.request_id, ip=who.ip
    )
    view = OrganizationView.model_validate(made)
    headers = {"ETag": f'"{made.version}"', "Location": "/v1/organization"}
    return Response(view.model_dump_json(), 201, headers, media_type="application/json")


@router.get("/organization", operation_id="get_organization", response_model=OrganizationView)
async def get_organization(desk: Reading) -> Response:
    """The organization in whose name the request is made."""
    async with desk.reading() as session:
        row = await _row(session, desk.who.organization)
    return shown(OrganizationView.model_validate(row), row.version)


@router.patch("/organization", operation_id="update_organization", response_model=OrganizationView)
async def update_organization(body: OrganizationChange, seen: Seen, desk: Writing) -> Response:
    """Rename the organization or change its settings."""

    async def deed(session: AsyncSession) -> Done:
        row = await _row(session, desk.who.organization)
        if row.version != seen:
            raise stale()
        row.name = row.name if body.name is None else body.name
        row.settings = row.settings if body.settings is None else body.settings
        row.version += 1
        await session.flush()
        view = OrganizationView.model_validate(row)
        changed = body.model_dump(exclude_none=True)
        return Done(
            view,
            "organization.update",
            ("organization", row.id),
            detail=changed,
            version=row.version,
        )

    return await desk.perform(deed)


async def _row(session: AsyncSession, organization_id: UUID) -> Organization:
    found = await session.execute(
        select(Organization).where(Organization.id == organization_id).with_for_update()
    )
    return found.scalar_one()
