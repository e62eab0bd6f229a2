# SPDX-License-Identifier: Apache-2.0
"""Agents with their drafts, and their versions, which nothing can change."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field, StringConstraints
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from cloud_hub.api.deeds import Done, Reading, Seen, Writing, shown, stale
from cloud_hub.api.fields import Body, Digest, Document, Line, Moment, View
from cloud_hub.api.pages import CursorText, Limit, Page, page
from cloud_hub.api.problems import missing, wrong_field
from cloud_hub.db.models import Agent, AgentVersion

router = APIRouter(tags=["agents"])

EXAMPLE = {
    "version": 1,
    "name": "reception",
    "prompt": "You answer the telephone of Ward & Sons.",
}

AgentName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$"), Field(examples=["reception"])
]
"""As in the agent's file: lower case, no blanks."""


class AgentView(View):
    """An agent."""

    id: UUID
    name: str = Field(examples=["reception"])
    description: str
    version: int
    created_at: Moment
    updated_at: Moment


class AgentDetail(AgentView):
    """An agent with its draft."""

    draft: dict[str, Any]


class NewAgent(Body):
    """An agent to be made."""

    name: AgentName
    description: Line = ""
    draft: Document = Field(default_factory=dict, examples=[EXAMPLE])


class AgentChange(Body):
    """What changes of an agent; versions that exist stay as they are."""

    description: Line | None = None
    draft: Document | None = None


class VersionView(View):
    """One version of an agent."""

    id: UUID
    agent_id: UUID
    number: int
    sha256: Digest
    message: str
    created_by: str = Field(description="`user:ID` or `api_key:ID`")
    created_at: Moment


class VersionDetail(VersionView):
    """One version with what it says."""

    content: dict[str, Any]


class NewVersion(Body):
    """A version to be made."""

    content: Document | None = Field(
        None, description="The agent's file as an object; without it the draft", examples=[EXAMPLE]
    )
    message: Line = Field("", examples=["Says the new opening hours"])


@router.get("/agents", operation_id="list_agents")
async def list_agents(
    desk: Reading, limit: Limit = 50, cursor: CursorText = None
) -> Page[AgentView]:
    """List agents, oldest first."""
    async with desk.reading() as session:
        return await page(
            session,
            select(Agent).where(Agent.deleted_at.is_(None)),
            Agent.id,
            AgentView.model_validate,
            cursors=desk.cursors("agents"),
            cursor=cursor,
            limit=limit,
        )


@router.post("/agents", operation_id="create_agent", status_code=201, response_model=AgentDetail)
async def create_agent(body: NewAgent, desk: Writing) -> Response:
    """Make an agent."""

    async def deed(session: AsyncSession) -> Done:
        row = Agent(organization_id=desk.who.organization, **body.model_dump())
        session.add(row)
        await session.flush()
        return await _done(session, row, "agent.create", 201)

    return await desk.perform(deed)


@router.get("/agents/{agent_id}", operation_id="get_agent", response_model=AgentDetail)
async def get_agent(agent_id: UUID, desk: Reading) -> Response:
    """One agent with its draft."""
    async with desk.reading() as session:
        row = await _row(session, agent_id)
    return shown(AgentDetail.model_validate(row), row.version)


@router.patch("/agents/{agent_id}", operation_id="update_agent", response_model=AgentDetail)
async def update_agent(agent_id: UUID, body: AgentChange, seen: Seen, desk: Writing) -> Response:
    """Change an agent's draft or description. What is deployed stays as it is."""

    async def deed(session: AsyncSession) -> Done:
        row = await _row(session, agent_id, lock=True)
        if row.version != seen:
            raise stale()
        row.description = row.description if body.description is None else body.description
        row.draft = row.draft if body.draft is None else body.draft
        row.version += 1
        await session.flush()
        return await _done(session, row, "agent.update")

    return await desk.perform(deed)


@router.delete("/agents/{agent_id}", operation_id="delete_agent", status_code=204)
async def delete_agent(agent_id: UUID, seen: Seen, desk: Writing) -> Response:
    """Remove an agent from the lists; boxes that run it go on, its versions and calls stay."""

    async def deed(session: AsyncSession) -> Done:
        row = await _row(session, agent_id, lock=True)
        if row.version != seen:
            raise stale()
        row.deleted_at = datetime.now(UTC)
        row.version += 1
        await session.flush()
        return Done(None, "agent.delete", ("agent", agent_id), detail={"name": row.name})

    return await desk.perform(deed)


@router.get("/agents/{agent_id}/versions", operation_id="list_agent_versions")
async def list_agent_versions(
    agent_id: UUID, desk: Reading, limit: Limit = 50, cursor: CursorText = None
) -> Page[VersionView]:
    """List an agent's versions, newest first."""
    async with desk.reading() as session:
        await _row(session, agent_id, removed=True)
        return await page(
            session,
            select(AgentVersion).where(AgentVersion.agent_id == agent_id),
            AgentVersion.number,
            VersionView.model_validate,
            cursors=desk.cursors("versions", agent_id),
            cursor=cursor,
            limit=limit,
            descending=True,
        )


@router.post(
    "/agents/{agent_id}/versions",
    operation_id="create_agent_version",
    status_code=201,
    response_model=VersionDetail,
)
async def create_agent_version(agent_id: UUID, body: NewVersion, desk: Writing) -> Response:
    """Make the agent's next version. The same content as the newest gives the newest."""

    async def deed(session: AsyncSession) -> Done:
        agent = await _row(session, agent_id, lock=True)
        content = agent.draft if body.content is None else body.content
        if not content:
            raise wrong_field("/content", "there is neither content nor a draft")
        name = content.get("name", agent.name)
        if "yaml" not in content and name != agent.name:
            raise wrong_field("/content/name", f"the agent's name is {agent.name}")
        digest = hashlib.sha256(
            json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
        ).digest()
        newest = await session.scalar(
            select(AgentVersion)
            .where(AgentVersion.agent_id == agent_id)
            .order_by(AgentVersion.number.desc())
            .limit(1)
        )
        if newest is not None and bytes(newest.sha256) == digest:
            return _version_done(newest, "")
        row = AgentVersion(
            organization_id=desk.who.organization,
            agent_id=agent_id,
            number=1 if newest is None else newest.number + 1,
            content=content,
            sha256=digest,
            message=body.message,
            created_by=desk.who.label,
        )
        session.add(row)
        await session.flush()
        await session.refresh(row)
        return _version_done(row, "agent.version")

    return await desk.perform(deed)


@router.get(
    "/agents/{agent_id}/versions/{number}",
    operation_id="get_agent_version",
    response_model=VersionDetail,
)
async def get_agent_version(agent_id: UUID, number: int, desk: Reading) -> Response:
    """One version of an agent."""
    async with desk.reading() as session:
        row = None
        if 0 < number < 1 << 62:
            row = await session.scalar(
                select(AgentVersion).where(
                    AgentVersion.agent_id == agent_id, AgentVersion.number == number
                )
            )
    if row is None:
        raise missing("version")
    return shown(VersionDetail.model_validate(row), row.number)


async def _row(
    session: AsyncSession, agent_id: UUID, *, lock: bool = False, removed: bool = False
) -> Agent:
    query = select(Agent).where(Agent.id == agent_id)
    query = query if removed else query.where(Agent.deleted_at.is_(None))
    row = await session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise missing("agent")
    return row


async def _done(session: AsyncSession, row: Agent, action: str, status: int = 200) -> Done:
    await session.refresh(row)
    return Done(
        AgentDetail.model_validate(row),
        action,
        ("agent", row.id),
        status,
        detail={"name": row.name},
        version=row.version,
        location=f"/v1/agents/{row.id}" if status == 201 else "",
    )


def _version_done(row: AgentVersion, action: str) -> Done:
    return Done(
        VersionDetail.model_validate(row),
        action,
        ("agent", row.agent_id),
        201,
        detail={"number": row.number, "sha256": bytes(row.sha256).hex()},
        version=row.number,
        location=f"/v1/agents/{row.agent_id}/versions/{row.number}",
    )
