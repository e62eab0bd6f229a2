# SPDX-License-Identifier: Apache-2.0
"""Boxes: listed, claimed by the code they show or by a token, named, grouped, retired."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import Field, StringConstraints
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from cloud_hub.api.deeds import Done, Reading, Seen, Writing, shown, stale
from cloud_hub.api.fields import Body, Document, Moment, Name, View
from cloud_hub.api.pages import CursorText, Limit, Page, page
from cloud_hub.api.problems import ProblemError, missing, wrong_field
from cloud_hub.db.models import Appliance, ApplianceGroup, DesiredState, ReportedState
from cloud_hub.fleet.claim import (
    ClaimRefusedError,
    TooManyCodesError,
    WrongCodeError,
    attempt,
    claim,
    create_token,
)
from cloud_hub.fleet.register import retire

router = APIRouter(tags=["appliances"])


class ApplianceView(View):
    """A box."""

    id: UUID
    name: str = Field(examples=["Reception"])
    group_id: UUID | None
    state: Literal["active", "retired"]
    serial_number: str
    software_version: str
    hardware: dict[str, Any]
    online: bool
    last_seen_at: Moment | None
    clock_skew_ms: int | None = Field(description="Box minus hub")
    health: dict[str, Any] = Field(description="The newest report")
    health_at: Moment | None
    version: int
    created_at: Moment
    retired_at: Moment | None


class DesiredView(View):
    """What the box shall be."""

    version: int
    updated_at: Moment
    updated_by: str


class ReportedView(View):
    """What the box says it is."""

    version: int
    status: Literal["applied", "staged", "refused", "rolled_back"]
    document: dict[str, Any]
    drift: dict[str, Any] = Field(description="What was changed on the box, with its value there")
    errors: list[str]
    reported_at: Moment


class ApplianceDetail(ApplianceView):
    """A box with what it shall be and what it says it is."""

    desired: DesiredView | None = None
    reported: ReportedView | None = None


class ClaimCode(Body):
    """What a box shows on its display."""

    code: Annotated[
        str,
        StringConstraints(pattern=r"^[0-9A-Za-z]{4}[ -]?[0-9A-Za-z]{4}$"),
        Field(examples=["7K3Q-M2XD"]),
    ]
    name: Name | None = Field(None, description="Without one it keeps the name it gave itself")
    replaces: UUID | None = Field(None, description="The box that this one was before a reset")


class NewToken(Body):
    """A token file for a box that is set up elsewhere."""

    name: Name = Field(examples=["Branch Leeds"])
    replaces: UUID | None = None
    valid_for_hours: int = Field(168, ge=1, le=720)


class TokenView(View):
    """Shown once; the first box that shows it gets the place."""

    token: str


class ApplianceChange(Body):
    """What people decide about a box."""

    name: Name | None = None
    group_id: UUID | None = None


class GroupView(View):
    """A group of boxes, for staged roll-outs."""

    id: UUID
    name: str
    settings: dict[str, Any]
    version: int
    created_at: Moment


class NewGroup(Body):
    """A group to be made."""

    name: Name = Field(examples=["Branches north"])
    settings: Document = Field(default_factory=dict)


class GroupChange(Body):
    """What changes of a group."""

    name: Name | None = None
    settings: Document | None = None


class ApplianceFilter(Body):
    """Which boxes."""

    state: Literal["active", "retired"] | None = None
    online: bool | None = None
    group_id: UUID | None = None
    limit: Limit = 50
    cursor: CursorText = None


@router.get("/appliances", operation_id="list_appliances")
async def list_appliances(
    desk: Reading, wanted: Annotated[ApplianceFilter, Query()]
) -> Page[ApplianceView]:
    """List boxes, oldest first."""
    query = select(Appliance)
    for name in ("state", "online", "group_id"):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(getattr(Appliance, name) == value)
    async with desk.reading() as session:
        return await page(
            session,
            query,
            Appliance.id,
            ApplianceView.model_validate,
            cursors=desk.cursors("appliances"),
            cursor=wanted.cursor,
            limit=wanted.limit,
        )


@router.post(
    "/appliances",
    operation_id="claim_appliance",
    status_code=201,
    response_model=ApplianceDetail,
)
async def claim_appliance(body: ClaimCode, desk: Writing) -> Response:
    """Take in the box that shows this code. Its certificate is made for the key it keeps."""
    organization = desk.who.organization
    try:
        number = await attempt(desk.hub.engine, organization)
    except TooManyCodesError as error:
        headers = {"Retry-After": "900"}
        raise ProblemError(429, "too_many_codes", str(error), headers=headers) from error

    async def deed(session: AsyncSession) -> Done:
        try:
            box = await claim(
                session,
                organization,
                body.code,
                body.name or "",
                attempt=number,
                replaces=body.replaces,
            )
        except WrongCodeError as error:
            raise wrong_field("/code", str(error), code="wrong_code") from error
        except ClaimRefusedError as error:
            raise wrong_field("/replaces", str(error)) from error
        view = await _detail(session, box)
        location = f"/v1/appliances/{box}"
        return _done(view, "appliance.claim", 201, location=location)

    return await desk.perform(deed)


@router.post(
    "/appliance-tokens",
    operation_id="create_claim_token",
    status_code=201,
    response_model=TokenView,
)
async def create_claim_token(body: NewToken, desk: Writing) -> Response:
    """Make a token with which one box may join without an operator's code."""

    async def deed(session: AsyncSession) -> Done:
        if body.replaces is not None:
            await _row(session, body.replaces)
        token = await create_token(
            session,
            desk.who.organization,
            body.name,
            replaces=body.replaces,
            lifetime=timedelta(hours=body.valid_for_hours),
        )
        return Done(
            TokenView(token=token), "appliance.token", ("appliance_token", body.name), status=201
        )

    return await desk.perform(deed)


@router.get(
    "/appliances/{appliance_id}", operation_id="get_appliance", response_model=ApplianceDetail
)
async def get_appliance(appliance_id: UUID, desk: Reading) -> Response:
    """One box, with what it shall be and what it says it is."""
    async with desk.reading() as session:
        view = await _detail(session, appliance_id)
    return shown(view, view.version)


@router.patch(
    "/appliances/{appliance_id}", operation_id="update_appliance", response_model=ApplianceDetail
)
async def update_appliance(
    appliance_id: UUID, body: ApplianceChange, seen: Seen, desk: Writing
) -> Response:
    """Name a box or put it into a group; `"group_id": null` takes it out of its group."""
    values = body.model_dump(exclude_unset=True)
    if "name" in values and values["name"] is None:
        raise wrong_field("/name", "a box has a name")

    async def deed(session: AsyncSession) -> Done:
        await _row(session, appliance_id)
        if values.get("group_id") is not None:
            await _group(session, values["group_id"], pointer="/group_id")
        changed = await session.execute(
            update(Appliance)
            .where(Appliance.id == appliance_id, Appliance.version == seen)
            .values(version=Appliance.version + 1, **values)
            .returning(Appliance.id)
        )
        if changed.one_or_none() is None:
            raise stale()
        view = await _detail(session, appliance_id)
        return _done(
            view, "appliance.update", detail=body.model_dump(mode="json", exclude_unset=True)
        )

    return await desk.perform(deed)


@router.delete("/appliances/{appliance_id}", operation_id="retire_appliance", status_code=204)
async def retire_appliance(appliance_id: UUID, desk: Writing) -> Response:
    """Take a box out of service: its certificates are revoked and its connection cut; its calls stay."""

    async def deed(session: AsyncSession) -> Done:
        row = await _row(session, appliance_id)
        if row.state == "active":
            await retire(session, appliance_id, f"retired by {desk.who.label}")
        return Done(None, "appliance.retire", ("appliance", appliance_id))

    return await desk.perform(deed)


@router.get("/appliance-groups", operation_id="list_appliance_groups")
async def list_appliance_groups(
    desk: Reading, limit: Limit = 50, cursor: CursorText = None
) -> Page[GroupView]:
    """List groups of boxes, oldest first."""
    async with desk.reading() as session:
        return await page(
            session,
            select(ApplianceGroup),
            ApplianceGroup.id,
            GroupView.model_validate,
            cursors=desk.cursors("groups"),
            cursor=cursor,
            limit=limit,
        )


@router.post(
    "/appliance-groups",
    operation_id="create_appliance_group",
    status_code=201,
    response_model=GroupView,
)
async def create_appliance_group(body: NewGroup, desk: Writing) -> Response:
    """Make a group of boxes."""

    async def deed(session: AsyncSession) -> Done:
        row = ApplianceGroup(
            organization_id=desk.who.organization, name=body.name, settings=body.settings
        )
        session.add(row)
        await session.flush()
        await session.refresh(row)
        return _group_done(row, "appliance_group.create", 201)

    return await desk.perform(deed)


@router.get(
    "/appliance-groups/{group_id}", operation_id="get_appliance_group", response_model=GroupView
)
async def get_appliance_group(group_id: UUID, desk: Reading) -> Response:
    """One group."""
    async with desk.reading() as session:
        row = await _group(session, group_id)
    return shown(GroupView.model_validate(row), row.version)


@router.patch(
    "/appliance-groups/{group_id}", operation_id="update_appliance_group", response_model=GroupView
)
async def update_appliance_group(
    group_id: UUID, body: GroupChange, seen: Seen, desk: Writing
) -> Response:
    """Rename a group, or change the settings of its boxes."""

    async def deed(session: AsyncSession) -> Done:
        row = await _group(session, group_id)
        if row.version != seen:
            raise stale()
        row.name = row.name if body.name is None else body.name
        row.settings = row.settings if body.settings is None else body.settings
        row.version += 1
        await session.flush()
        return _group_done(row, "appliance_group.update")

    return await desk.perform(deed)


@router.delete(
    "/appliance-groups/{group_id}", operation_id="delete_appliance_group", status_code=204
)
async def delete_appliance_group(group_id: UUID, seen: Seen, desk: Writing) -> Response:
    """Remove a group that has no boxes and was never deployed to."""

    async def deed(session: AsyncSession) -> Done:
        row = await _group(session, group_id)
        if row.version != seen:
            raise stale()
        await session.delete(row)
        await session.flush()
        return Done(None, "appliance_group.delete", ("appliance_group", group_id))

    return await desk.perform(deed)


async def _row(session: AsyncSession, appliance_id: UUID) -> Appliance:
    row = await session.scalar(select(Appliance).where(Appliance.id == appliance_id))
    if row is None:
        raise missing("appliance")
    return row


async def _group(session: AsyncSession, group_id: UUID, *, pointer: str = "") -> ApplianceGroup:
    row = await session.scalar(
        select(ApplianceGroup).where(ApplianceGroup.id == group_id).with_for_update()
    )
    if row is None:
        raise wrong_field(pointer, "there is no such group") if pointer else missing("group")
    return row


async def _detail(session: AsyncSession, appliance_id: UUID) -> ApplianceDetail:
    found = await session.execute(
        select(Appliance, DesiredState, ReportedState)
        .outerjoin(DesiredState, DesiredState.appliance_id == Appliance.id)
        .outerjoin(ReportedState, ReportedState.appliance_id == Appliance.id)
        .where(Appliance.id == appliance_id)
        .execution_options(populate_existing=True)
    )
    row = found.one_or_none()
    if row is None:
        raise missing("appliance")
    box, desired, reported = row
    view = ApplianceDetail.model_validate(box)
    view.desired = None if desired is None else DesiredView.model_validate(desired)
    view.reported = None if reported is None else ReportedView.model_validate(reported)
    return view


def _done(
    view: ApplianceDetail,
    action: str,
    status: int = 200,
    *,
    location: str = "",
    detail: dict[str, Any] | None = None,
) -> Done:
    return Done(
        view,
        action,
        ("appliance", view.id),
        status,
        detail={"name": view.name} if detail is None else detail,
        version=view.version,
        location=location,
    )


def _group_done(row: ApplianceGroup, action: str, status: int = 200) -> Done:
    view = GroupView.model_validate(row)
    return Done(
        view,
        action,
        ("appliance_group", row.id),
        status,
        detail={"name": row.name},
        version=row.version,
        location=f"/v1/appliance-groups/{row.id}" if status == 201 else "",
    )
