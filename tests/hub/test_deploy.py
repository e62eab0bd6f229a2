# SPDX-License-Identifier: Apache-2.0
"""From a deployment at the hub to calls on a real box, by real PostgreSQL, NATS and mutual TLS."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from appliance.box import Box
from appliance.sync import desired as desired_module
from appliance.sync import hub as hub_module
from appliance.sync.claim import ClaimDetails, Door
from appliance.sync.identity import HubFiles
from cloud_hub.db.ids import uuid7
from cloud_hub.db.models.agents import Agent, AgentVersion, Deployment, DeploymentTarget
from cloud_hub.db.models.calls import Call
from cloud_hub.db.models.fleet import Command, ReportedState
from cloud_hub.db.session import tenant
from cloud_hub.fleet.broker import free_port
from cloud_hub.fleet.claim import create_token
from cloud_hub.fleet.commands import CommandRefusedError, give
from cloud_hub.fleet.desired import DeploymentRefusedError, deploy
from cloud_hub.fleet.rollout import Plan
from cloud_hub.fleet.service import FleetService, fleet_service
from cloud_hub.fleet.settings import FleetSettings
from cloud_hub.ingest.worker import Worker
from tests.engines.memory_line import Caller, MemoryLine, start_box
from tests.hub import uplink
from tests.hub.mqtt_box import until

ENGINES = {
    "speech_to_text": ["one", "two"],
    "language_model": ["one", "two"],
    "text_to_speech": ["one", "two"],
}


def content(greeting: str, **more: Any) -> dict[str, Any]:
    """Return an agent that the box of these tests can run."""
    return {
        "version": 1,
        "name": "lab",
        "greeting": greeting,
        "prompt": "You are a test.",
        "turn_taking": {"end_of_turn_ms": 300, "silence_prompt_ms": 60_000},
        "engines": ENGINES,
        **more,
    }


@dataclass
class World:
    """A hub with one organization and one agent, and the boxes that joined it."""

    settings: FleetSettings
    service: FleetService
    engine: AsyncEngine
    organization: UUID
    agent: UUID = field(default_factory=uuid7)
    versions: int = 0

    async def make_agent(self) -> None:
        async with tenant(self.engine, self.organization) as session:
            session.add(Agent(organization_id=self.organization, id=self.agent, name="lab"))

    async def version(self, document: dict[str, Any]) -> UUID:
        """Enter a version of the agent."""
        self.versions += 1
        version = AgentVersion(
            organization_id=self.organization,
            id=uuid7(),
            agent_id=self.agent,
            number=self.versions,
            content=document,
            sha256=b"",
        )
        async with tenant(self.engine, self.organization) as session:
            session.add(version)
        return version.id

    async def deploy(self, document: dict[str, Any], **where: Any) -> UUID:
        return await self.deploy_version(await self.version(document), **where)

    async def deploy_version(self, version: UUID, **where: Any) -> UUID:
        async with tenant(self.engine, self.organization) as session:
            return await deploy(session, self.organization, version, **where)

    async def join(self, folder: Path) -> UUID:
        """Have the box with this data folder join by token."""
        async with tenant(self.engine, self.organization) as session:
            token = await create_token(session, self.organization, "a box")
        url = self.settings.address().api_url
        async with Door(url, self.service.authority.root_pem) as door:
            identity = await door.redeem(HubFiles(folder / "hub"), token, ClaimDetails())
        return UUID(identity.box_id)

    async def status(self, deployment: UUID) -> str:
        async with tenant(self.engine, self.organization) as session:
            found = await session.get(Deployment, (self.organization, deployment))
        assert found is not None
        return found.status

    async def becomes(self, deployment: UUID, status: str) -> None:
        async def there() -> bool:
            return await self.status(deployment) == status

        await until(there, f"the deployment to be {status}", 60)

    async def reported(self, box_id: UUID) -> ReportedState:
        async with tenant(self.engine, self.organization) as session:
            found = await session.get(ReportedState, (self.organization, box_id))
        assert found is not None
        return found


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(desired_module, "LOOK_EVERY_S", 0.2)


@pytest.fixture
async def world(
    tmp_path: Path, api_engine: AsyncEngine, ingest_engine: AsyncEngine
) -> AsyncIterator[World]:
    settings = FleetSettings(
        data_folder=tmp_path / "hub-data",
        nats_port=free_port(),
        mqtt_port=free_port(),
        device_port=free_port(),
    )
    async with fleet_service(settings, api_engine) as service:
        client = await settings.access().connect_hub("ingest")
        worker = Worker(client, ingest_engine)
        working = asyncio.create_task(worker.run())
        world = World(settings, service, api_engine, await uplink.organization(api_engine))
        await world.make_agent()
        yield world
        worker.stop()
        await working
        await client.close()


@contextlib.asynccontextmanager
async def running_box(folder: Path, line: MemoryLine) -> AsyncIterator[Box]:
    folder.mkdir(exist_ok=True)
    hub = 'use = "memory"\n[hub]\nenabled = true'
    box = await start_box(folder, line, placements=("inline", "inline"), transport=hub)
    try:
        yield box
    finally:
        await box.aclose()


def greeting(box: Box) -> str:
    agent = box.agent_for("100")
    return agent.greeting if agent is not None else ""


async def ring(box: Box, line: MemoryLine) -> Caller:
    """Place one more call and wait until the agent has answered two questions."""
    caller = Caller(box.switchboard, len(line.callers))
    line.callers.append(caller)
    box.switchboard.incoming(caller)
    await talks(caller)
    return caller


async def talks(caller: Caller) -> None:
    asked = caller.asked
    await until(lambda: caller.asked > asked + 1, "the agent to answer", 60)


@pytest.mark.slow
async def test_bad_bundles_never_stop_a_box_and_a_call_keeps_its_agent(
    world: World, tmp_path: Path
) -> None:
    line = MemoryLine(4)
    async with running_box(tmp_path / "box", line) as box:
        assert greeting(box) == "Hello there."
        box_id = await world.join(box.config.box.data_dir)
        done = await world.deploy(content("From the hub."), appliance_id=box_id)
        await world.becomes(done, "done")
        assert greeting(box) == "From the hub."

        first = await ring(box, line)
        unknown = {**ENGINES, "language_model": ["nowhere"]}
        for bad in (
            content("Bad.", engines=unknown),
            content("Bad.", colour="red"),
            content("Bad. {{ nobody }}"),
            {"yaml": "name: lab\nprompt: ["},
        ):
            halted = await world.deploy(bad, appliance_id=box_id)
            await world.becomes(halted, "halted")
            reported = await world.reported(box_id)
            assert reported.status == "refused"
            assert reported.errors
            assert greeting(box) == "From the hub."
        await talks(first)
        second = await ring(box, line)

        good = await world.deploy(content("A new one."), appliance_id=box_id)
        await world.becomes(good, "done")
        assert greeting(box) == "A new one."
        await talks(first)
        await talks(second)
        for caller in (first, second):
            caller.stopping = True
        await until(lambda: first.finished and second.finished, "the calls to end", 30)
        await until(lambda: box.switchboard.active == 0, "the calls to end")
        await box.store.sync()
        causes = {call.cause for call in box.store.calls()}
        assert causes == {"remote_hangup"}


async def test_a_box_that_was_away_gets_its_configuration_when_it_connects(
    world: World, tmp_path: Path
) -> None:
    line = MemoryLine(1)
    async with running_box(tmp_path / "box", line) as box:
        folder = box.config.box.data_dir
        box_id = await world.join(folder)
        await world.becomes(await world.deploy(content("One."), appliance_id=box_id), "done")
    later = await world.deploy(content("Two."))
    assert await world.status(later) == "rolling_out"
    async with running_box(tmp_path / "box", line) as box:
        assert greeting(box) == "One."  # at once, without the hub
        await world.becomes(later, "done")
        assert greeting(box) == "Two."
        reported = await world.reported(box_id)
        assert reported.document["agents"]["lab"]["version"] == "2"


async def test_a_call_names_the_version_of_the_agent_that_answers_it(
    world: World, tmp_path: Path
) -> None:
    line = MemoryLine(3)

    async def answered_by(box: Box, version: UUID | None) -> None:
        call = await ring(box, line)
        call_id = box.store.calls()[0].id
        call.stopping = True

        async def arrived() -> Call | None:
            async with tenant(world.engine, world.organization) as session:
                return await session.get(Call, (world.organization, UUID(call_id)))

        found = await until(arrived, "the call at the hub", 60)
        assert isinstance(found, Call)
        assert (found.agent_id, found.agent_version_id) == (world.agent, version)

    async with running_box(tmp_path / "box", line) as box:
        box_id = await world.join(box.config.box.data_dir)
        await answered_by(box, None)  # the box's own agent of that name
        for text in ("One.", "Two."):
            version = await world.version(content(text))
            await world.becomes(await world.deploy_version(version, appliance_id=box_id), "done")
            await answered_by(box, version)


async def test_a_rollout_in_stages_halts_at_the_first_box_that_refuses(
    world: World, tmp_path: Path
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        boxes: dict[UUID, Box] = {}
        for number in range(2):
            box = await stack.enter_async_context(
                running_box(tmp_path / f"box{number}", MemoryLine(1))
            )
            boxes[await world.join(box.config.box.data_dir)] = box
        plan = Plan(stages=(50, 100))
        await world.becomes(await world.deploy(content("One."), plan=plan), "done")
        bad = await world.deploy(content("Bad.", colour="red"), plan=plan)
        await world.becomes(bad, "halted")
        async with tenant(world.engine, world.organization) as session:
            rows = await session.scalars(
                select(DeploymentTarget).where(DeploymentTarget.deployment_id == bad)
            )
            assert sorted(row.status for row in rows) == ["refused", "waiting"]
        assert {greeting(box) for box in boxes.values()} == {"One."}


async def test_what_cannot_be_deployed_is_refused_with_the_reason(world: World) -> None:
    with pytest.raises(DeploymentRefusedError, match="no box"):
        await world.deploy(content("One."), appliance_id=uuid7())
    async with tenant(world.engine, world.organization) as session:
        with pytest.raises(DeploymentRefusedError, match="no such version"):
            await deploy(session, world.organization, uuid7())


async def test_commands_reach_a_box_and_their_results_the_hub(world: World, tmp_path: Path) -> None:
    async with running_box(tmp_path / "box", MemoryLine(1)) as box:
        box_id = await world.join(box.config.box.data_dir)
        wanted = {"drain": "done", "rotate": "done", "collect_logs": "done", "test_call": "failed"}
        async with tenant(world.engine, world.organization) as session:
            for kind in wanted:
                await give(session, world.organization, box_id, kind, {})

        async def results() -> dict[str, str]:
            async with tenant(world.engine, world.organization) as session:
                rows = await session.execute(select(Command.kind, Command.status))
                return {
                    row.kind: row.status for row in rows if row.status not in ("queued", "sent")
                }

        async def all_there() -> bool:
            return len(await results()) == len(wanted)

        await until(all_there, "the results", 60)
        assert await results() == wanted
        async with tenant(world.engine, world.organization) as session:
            with pytest.raises(CommandRefusedError, match="dance"):
                await give(session, world.organization, box_id, "dance", {})
