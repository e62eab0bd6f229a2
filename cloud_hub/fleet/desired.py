# SPDX-License-Identifier: Apache-2.0
"""What boxes shall be: deployments, their stages, and the bundle of each box. Database only.

Everything here runs in the tenant's transaction of whoever calls; `fleet.driver` tells the boxes afterwards.
A version of desired state only rises, also past what a box reports: a hub restored from a backup would
otherwise offer numbers that its boxes have seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from cloud_hub.db.ids import uuid7
from cloud_hub.db.models.agents import Agent, AgentVersion, Deployment, DeploymentTarget
from cloud_hub.db.models.fleet import Appliance, Bundle, DesiredState, ReportedState
from cloud_hub.fleet.bundles import AgentText, Made, Wishes, document, make
from cloud_hub.fleet.notices import notify
from cloud_hub.fleet.rollout import Plan, Step, Target, staged, step
from cloud_hub.fleet.signing import SigningKey

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('desired/' || :box, 0))")


class DeploymentRefusedError(Exception):
    """What shall be deployed, or where, does not exist or cannot be; the text is for a person."""


async def deploy(
    session: AsyncSession,
    organization_id: UUID,
    agent_version_id: UUID,
    *,
    appliance_id: UUID | None = None,
    group_id: UUID | None = None,
    plan: Plan | None = None,
    created_by: str = "",
) -> UUID:
    """Begin to bring a version of an agent to a box, a group, or (neither given) all boxes.

    Offers the first stage; the others follow as boxes report (`advance`).

    Returns:
        The deployment's id.

    Raises:
        DeploymentRefusedError: there is no such version or no box, or the agent cannot be sent.
    """
    plan = plan or Plan()
    version = await session.scalar(select(AgentVersion).where(AgentVersion.id == agent_version_id))
    if version is None:
        raise DeploymentRefusedError("there is no such version of an agent")
    agent = await session.get(Agent, (organization_id, version.agent_id))
    if agent is None or agent.deleted_at is not None:
        raise DeploymentRefusedError("the agent was removed")
    _sendable(AgentText(version.id, agent.name, version.number, version.content))
    boxes = await _boxes(session, appliance_id, group_id)
    if not boxes:
        raise DeploymentRefusedError("there is no box to deploy to")
    deployment = Deployment(
        organization_id=organization_id,
        id=uuid7(),
        agent_id=version.agent_id,
        agent_version_id=version.id,
        appliance_group_id=group_id,
        appliance_id=appliance_id,
        status="rolling_out",
        plan=plan.model_dump(mode="json"),
        created_by=created_by,
    )
    session.add(deployment)
    await session.flush()
    for box, stage in staged(boxes, plan).items():
        session.add(
            DeploymentTarget(
                organization_id=organization_id,
                deployment_id=deployment.id,
                appliance_id=box,
                stage=stage,
            )
        )
    await session.flush()
    await notify(session, organization_id)
    return deployment.id


async def advance(session: AsyncSession, organization_id: UUID, key: SigningKey) -> list[UUID]:
    """Take every open deployment as far as its boxes' reports allow; return the boxes with a new offer."""
    offered: list[UUID] = []
    deployments = await session.scalars(
        select(Deployment)
        .where(Deployment.status == "rolling_out")
        .order_by(Deployment.id)
        .with_for_update()
    )
    for deployment in deployments.all():
        plan = Plan.model_validate(deployment.plan)
        targets = await _refreshed(session, deployment.id, plan)
        decided = step(targets, plan)
        change = {"agents": {deployment.agent_id: deployment.agent_version_id}}
        for box in decided.offer:
            try:
                made = await wish(session, organization_id, box, change, key, deployment.created_by)
            except DeploymentRefusedError as error:
                decided = Step("halted", reason=str(error))
                break
            await _mark_offered(session, deployment.id, box, made.version)
            offered.append(box)
        if decided.status != deployment.status:
            await _close(session, deployment, decided)
    return offered


async def halt(session: AsyncSession, deployment_id: UUID, reason: str) -> None:
    """Offer a deployment to nobody else. Boxes that have it keep it.

    Raises:
        DeploymentRefusedError: it is not under way.
    """
    deployment = await session.scalar(
        select(Deployment)
        .where(Deployment.id == deployment_id, Deployment.status == "rolling_out")
        .with_for_update()
    )
    if deployment is None:
        raise DeploymentRefusedError("there is no such deployment under way")
    await _close(session, deployment, Step("halted", reason=reason))


async def wish(
    session: AsyncSession,
    organization_id: UUID,
    box_id: UUID,
    change: Mapping[str, Any],
    key: SigningKey,
    by: str = "",
) -> Made:
    """Change what one box shall be, and make its bundle.

    `change` holds fields of `Wishes`: `agents`, `routes` and `settings` are merged key by key (None removes
    one), the others replaced. `by` is who asked for it, as the audit log names them.

    Raises:
        DeploymentRefusedError: a field is unknown, or an agent cannot be sent.
    """
    await session.execute(_LOCK, {"box": str(box_id)})
    row = await session.get(DesiredState, (organization_id, box_id))
    reported = await session.get(ReportedState, (organization_id, box_id))
    wanted = _merged(row.document if row is not None else {}, change)
    version = max(row.version if row else 0, reported.version if reported else 0) + 1
    try:
        wishes = Wishes.model_validate(wanted)
        made = make(key, box_id, version, wishes, await _texts(session, wishes))
    except ValidationError as error:
        raise _refusal(error) from error
    bundle = Bundle(
        organization_id=organization_id,
        id=uuid7(),
        appliance_id=box_id,
        version=version,
        sha256=made.sha256,
        signature=made.signature,
        content=made.content,
    )
    session.add(bundle)
    await session.flush()
    values = {
        "version": version,
        "bundle_id": bundle.id,
        "document": wishes.model_dump(mode="json"),
        "updated_by": by,
        "updated_at": datetime.now(UTC),
    }
    await session.execute(
        insert(DesiredState)
        .values(organization_id=organization_id, appliance_id=box_id, **values)
        .on_conflict_do_update(index_elements=["organization_id", "appliance_id"], set_=values)
    )
    if row is not None:
        await session.refresh(row)
    await notify(session, organization_id, box_id)
    return made


def _sendable(agent: AgentText) -> None:
    try:
        document(agent)
    except ValidationError as error:
        raise _refusal(error) from error


def _refusal(error: ValidationError) -> DeploymentRefusedError:
    first = error.errors(include_url=False)[0]
    return DeploymentRefusedError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


def _merged(document: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(document)
    for field, value in change.items():
        if field in {"agents", "routes", "settings"}:
            plain = {str(key): each for key, each in value.items()}
            both = {**result.get(field, {}), **plain}
            result[field] = {key: each for key, each in both.items() if each is not None}
        else:
            result[field] = value
    return result


async def _texts(session: AsyncSession, wishes: Wishes) -> list[AgentText]:
    found = await session.execute(
        select(AgentVersion.id, Agent.name, AgentVersion.number, AgentVersion.content)
        .join(AgentVersion, AgentVersion.agent_id == Agent.id)
        .where(AgentVersion.id.in_(wishes.agents.values()))
    )
    return [AgentText(row.id, row.name, row.number, row.content) for row in found]


async def _boxes(
    session: AsyncSession, appliance_id: UUID | None, group_id: UUID | None
) -> Sequence[UUID]:
    boxes = select(Appliance.id).where(Appliance.state == "active").order_by(Appliance.id)
    if appliance_id is not None:
        boxes = boxes.where(Appliance.id == appliance_id)
    if group_id is not None:
        boxes = boxes.where(Appliance.group_id == group_id)
    return (await session.scalars(boxes)).all()


async def _refreshed(session: AsyncSession, deployment_id: UUID, plan: Plan) -> list[Target]:
    """Take over what boxes reported of their offers, and return all targets as they stand."""
    rows = await session.execute(
        select(DeploymentTarget, ReportedState)
        .join(Appliance, Appliance.id == DeploymentTarget.appliance_id)
        .outerjoin(ReportedState, ReportedState.appliance_id == DeploymentTarget.appliance_id)
        .where(DeploymentTarget.deployment_id == deployment_id, Appliance.state == "active")
        .order_by(DeploymentTarget.appliance_id)
    )
    targets = []
    for target, reported in rows:
        if reported is not None and target.status != "waiting":
            _take_over(target, reported, plan)
        targets.append(Target(target.appliance_id, target.stage, target.status))
    return targets


def _take_over(target: DeploymentTarget, reported: ReportedState, plan: Plan) -> None:
    if target.desired_version is None or reported.version < target.desired_version:
        return
    unproven = plan.await_calls and bool(reported.document.get("on_trial"))
    if reported.status == "staged" or (reported.status == "applied" and unproven):
        return
    target.status = reported.status
    target.error = "; ".join(reported.errors)[:2000]
    target.updated_at = datetime.now(UTC)


async def _mark_offered(
    session: AsyncSession, deployment_id: UUID, box_id: UUID, version: int
) -> None:
    await session.execute(
        update(DeploymentTarget)
        .where(
            DeploymentTarget.deployment_id == deployment_id,
            DeploymentTarget.appliance_id == box_id,
        )
        .values(status="offered", desired_version=version, updated_at=datetime.now(UTC))
    )


async def _close(session: AsyncSession, deployment: Deployment, decided: Step) -> None:
    deployment.status, deployment.reason = decided.status, decided.reason
    deployment.version += 1
    deployment.updated_at = datetime.now(UTC)
    await session.flush()
