# SPDX-License-Identifier: Apache-2.0
"""Deployments: a version of an agent brought to boxes in stages, with a rule when to stop."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import Field, model_validator
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from cloud_hub.api.deeds import Done, Reading, Writing, shown
from cloud_hub.api.fields import Body, Line, Moment, View
from cloud_hub.api.pages import CursorText, Limit, Page, page
from cloud_hub.api.problems import ProblemError, missing
from cloud_hub.db.models import Deployment, DeploymentTarget
from cloud_hub.fleet.desired import DeploymentRefusedError, deploy, halt
from cloud_hub.fleet.rollout import Plan

router = APIRouter(tags=["deployments"])

Status = Literal["pending", "rolling_out", "done", "halted", "rolled_back"]


class PlanBody(Body):
    """How a deployment goes to its boxes."""

    stages: list[Annotated[int, Field(ge=1, le=100)]] = Field(
        [100],
        min_length=1,
        max_length=20,
        description="Percent of the boxes that have it after each stage, rising to 100",
        examples=[[10, 50, 100]],
    )
    halt_after: int = Field(
        1, ge=1, le=100_000, description="Failures at which nobody else gets it"
    )
    patience: int = Field(0, ge=0, le=99, description="Percent of a stage that may still be silent")
    await_calls: bool = Field(
        default=False, description="A box counts once its first calls with it went well"
    )


class NewDeployment(Body):
    """What goes where: to a box, a group, or with neither to all boxes."""

    agent_version_id: UUID
    appliance_id: UUID | None = None
    appliance_group_id: UUID | None = None
    plan: PlanBody = Field(default_factory=PlanBody)

    @model_validator(mode="after")
    def _one_target(self) -> NewDeployment:
        if self.appliance_id is not None and self.appliance_group_id is not None:
            raise ValueError("name a box or a group, not both")
        return self


class DeploymentView(View):
    """A deployment."""

    id: UUID
    agent_id: UUID
    agent_version_id: UUID
    appliance_id: UUID | None
    appliance_group_id: UUID | None
    status: Status
    reason: str = Field(description="Why it was halted")
    plan: dict[str, Any]
    created_by: str
    version: int
    created_at: Moment
    updated_at: Moment


class TargetView(View):
    """How far it has come on one box."""

    appliance_id: UUID
    stage: int
    status: Literal["waiting", "offered", "applied", "refused", "rolled_back"]
    error: str
    updated_at: Moment


class DeploymentDetail(DeploymentView):
    """A deployment with its boxes."""

    targets: list[TargetView] = Field(description="At most 1000")


class DeploymentFilter(Body):
    """Which deployments."""

    agent_id: UUID | None = None
    status: Status | None = None
    limit: Limit = 50
    cursor: CursorText = None


class Halt(Body):
    """Why a deployment is halted."""

    reason: Line = Field(examples=["Callers hear the old opening hours"])


@router.get("/deployments", operation_id="list_deployments")
async def list_deployments(
    desk: Reading, wanted: Annotated[DeploymentFilter, Query()]
) -> Page[DeploymentView]:
    """List deployments, newest first."""
    query = select(Deployment)
    if wanted.agent_id is not None:
        query = query.where(Deployment.agent_id == wanted.agent_id)
    if wanted.status is not None:
        query = query.where(Deployment.status == wanted.status)
    async with desk.reading() as session:
        return await page(
            session,
            query,
            Deployment.id,
            DeploymentView.model_validate,
            cursors=desk.cursors("deployments"),
            cursor=wanted.cursor,
            limit=wanted.limit,
            descending=True,
        )


@router.post(
    "/deployments",
    operation_id="create_deployment",
    status_code=201,
    response_model=DeploymentDetail,
)
async def create_deployment(body: NewDeployment, desk: Writing) -> Response:
    """Bring a version to boxes. Going back is deploying the version before again."""
    try:
        plan = Plan(**{**body.plan.model_dump(), "stages": tuple(body.plan.stages)})
    except ValueError as error:
        raise ProblemError(422, "invalid", "stages must rise, and end with 100") from error

    async def deed(session: AsyncSession) -> Done:
        try:
            made = await deploy(
                session,
                desk.who.organization,
                body.agent_version_id,
                appliance_id=body.appliance_id,
                group_id=body.appliance_group_id,
                plan=plan,
                created_by=desk.who.label,
            )
        except DeploymentRefusedError as error:
            raise ProblemError(422, "refused", str(error)) from error
        view = await _detail(session, made)
        return Done(
            view,
            "deployment.create",
            ("deployment", made),
            201,
            detail=body.model_dump(mode="json"),
            version=view.version,
            location=f"/v1/deployments/{made}",
        )

    return await desk.perform(deed)


@router.get(
    "/deployments/{deployment_id}", operation_id="get_deployment", response_model=DeploymentDetail
)
async def get_deployment(deployment_id: UUID, desk: Reading) -> Response:
    """One deployment, and how far it has come on each box."""
    async with desk.reading() as session:
        view = await _detail(session, deployment_id)
    return shown(view, view.version)


@router.post(
    "/deployments/{deployment_id}/halt",
    operation_id="halt_deployment",
    response_model=DeploymentDetail,
)
async def halt_deployment(deployment_id: UUID, body: Halt, desk: Writing) -> Response:
    """Stop a deployment: boxes that do not have it yet will not get it."""

    async def deed(session: AsyncSession) -> Done:
        await _detail(session, deployment_id)
        try:
            await halt(session, deployment_id, body.reason)
        except DeploymentRefusedError as error:
            raise ProblemError(409, "refused", str(error)) from error
        view = await _detail(session, deployment_id)
        detail = {"reason": body.reason}
        target = ("deployment", deployment_id)
        return Done(view, "deployment.halt", target, detail=detail, version=view.version)

    return await desk.perform(deed)


async def _detail(session: AsyncSession, deployment_id: UUID) -> DeploymentDetail:
    query = select(Deployment).where(Deployment.id == deployment_id)
    row = await session.scalar(query.execution_options(populate_existing=True))
    if row is None:
        raise missing("deployment")
    targets = await session.scalars(
        select(DeploymentTarget)
        .where(DeploymentTarget.deployment_id == deployment_id)
        .order_by(DeploymentTarget.stage, DeploymentTarget.appliance_id)
        .limit(1000)
    )
    shown_row = DeploymentView.model_validate(row).model_dump()
    return DeploymentDetail(
        targets=[TargetView.model_validate(each) for each in targets], **shown_row
    )
