# SPDX-License-Identifier: Apache-2.0
"""From a box's certificate to rows in PostgreSQL, with everything real, while processes are killed.

Boxes join by token over HTTPS, connect by MQTT with what they were given, and send calls; two ingest
workers run as processes of their own. Workers and broker are killed with SIGKILL on the way.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from appliance.sync.claim import ClaimDetails, Door
from appliance.sync.identity import HubFiles
from appliance.wire import Ack, Identity, topics
from cloud_hub.db.models.calls import Call, CallEvent, Turn, Usage
from cloud_hub.db.models.fleet import StreamPosition
from cloud_hub.db.session import tenant
from cloud_hub.fleet.broker import EmbeddedBroker, Node, free_port
from cloud_hub.fleet.claim import create_token
from cloud_hub.fleet.register import revoke
from cloud_hub.fleet.service import FleetService, fleet_service
from cloud_hub.fleet.settings import FleetSettings
from tests.hub import uplink
from tests.hub.mqtt_box import MqttBox, Papers, until
from tests.hub.servers import Database
from tests.hub.uplink import Stream

pytestmark = pytest.mark.slow

CALLS = 80
BATCH = 12


@dataclass
class World:
    """A hub with its worker processes."""

    folder: Path
    settings: FleetSettings
    service: FleetService
    engine: AsyncEngine
    environment: dict[str, str]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    mqtt_ports: list[int] = field(default_factory=list)
    """Of a cluster's nodes."""

    def start_worker(self) -> subprocess.Popen[bytes]:
        with (self.folder / "workers.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "cloud_hub.ingest"],
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        self.workers.append(process)
        return process

    async def join(self, organization: UUID) -> tuple[HubFiles, Identity]:
        """Have a new box join by token."""
        files = HubFiles(self.folder / f"box-{len(list(self.folder.glob('box-*')))}")
        async with tenant(self.engine, organization) as session:
            token = await create_token(session, organization, "a box")
        async with Door(self.settings.address().api_url, self.service.authority.root_pem) as door:
            return files, await door.redeem(files, token, ClaimDetails())

    def connection(self, files: HubFiles, identity: Identity) -> MqttBox:
        files.tls_context()  # writes the certificate's file
        ca = files.folder / "ca.pem"
        ca.write_text(identity.ca)
        papers = Papers(identity.box_id, files.certificate, files.key, ca)
        self.mqtt_ports.append(self.mqtt_ports.pop(0) if self.mqtt_ports else identity.mqtt_port)
        return MqttBox(self.mqtt_ports[-1], papers)


@pytest.fixture
async def world(
    tmp_path: Path, api_engine: AsyncEngine, hub_database: Database
) -> AsyncIterator[World]:
    """A hub with an embedded broker."""
    settings = FleetSettings(
        data_folder=tmp_path,
        nats_port=free_port(),
        mqtt_port=free_port(),
        device_port=free_port(),
    )
    async with running(settings, api_engine, hub_database) as world:
        yield world


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[list[EmbeddedBroker]]:
    """Three NATS servers that hold three copies of everything."""
    settings = FleetSettings(data_folder=tmp_path)
    ports = [free_port() for _ in range(3)]
    brokers = [
        EmbeddedBroker(
            Node(
                f"node{number}",
                tmp_path / f"node{number}",
                port=free_port(),
                mqtt_port=free_port(),
                cluster_port=ports[number],
                routes=[f"127.0.0.1:{port}" for port in ports],
                replicas=3,
            ),
            settings.authority(),
            settings.credentials(),
            settings.callout_key(),
        )
        for number in range(3)
    ]
    await asyncio.gather(*(broker.start() for broker in brokers))
    yield brokers
    await asyncio.gather(*(broker.stop() for broker in brokers))


@pytest.fixture
async def clustered(
    tmp_path: Path,
    cluster: list[EmbeddedBroker],
    api_engine: AsyncEngine,
    hub_database: Database,
) -> AsyncIterator[World]:
    """A hub whose broker is a cluster that it only knows by its addresses."""
    settings = FleetSettings(
        data_folder=tmp_path,
        nats_urls=[f"nats://127.0.0.1:{broker.node.port}" for broker in cluster],
        nats_replicas=3,
        device_port=free_port(),
    )
    async with running(settings, api_engine, hub_database) as world:
        world.mqtt_ports = [broker.node.mqtt_port for broker in cluster]
        yield world


@asynccontextmanager
async def running(
    settings: FleetSettings, engine: AsyncEngine, database: Database
) -> AsyncIterator[World]:
    environment = {
        **os.environ,
        "TRUNKLINE_HUB_DATA_FOLDER": str(settings.data_folder),
        "TRUNKLINE_HUB_NATS_PORT": str(settings.nats_port),
        "TRUNKLINE_HUB_NATS_URLS": ",".join(settings.nats_urls),
        "TRUNKLINE_HUB_NATS_REPLICAS": str(settings.nats_replicas),
        "TRUNKLINE_HUB_DATABASE_INGEST_URL": database.dsn("trunkline_ingest"),
    }
    async with fleet_service(settings, engine) as service:
        world = World(settings.data_folder, settings, service, engine, environment)
        yield world
        for worker in world.workers:
            worker.kill()
            worker.wait()


@dataclass
class Sender:
    """A simple box: sends what the hub has not acknowledged, reconnects, repeats itself."""

    world: World
    files: HubFiles
    identity: Identity
    stream: Stream
    applied: int = 0

    async def run(self) -> None:
        box = await self._connected()
        while self.applied < len(self.stream.rows):
            if not box.connected:
                box.close()
                box = await self._connected()
            for first in range(self.applied + 1, self.applied + 3 * BATCH, BATCH):
                if first <= len(self.stream.rows):
                    batch = self.stream.batch(first, first + BATCH - 1)
                    box.client.publish(topics.up(box.papers.box_id, "calls"), batch.encode(), 1)
            await self._hear(box)
        box.close()

    async def _connected(self) -> MqttBox:
        async def attempt() -> MqttBox | None:
            box = self.world.connection(self.files, self.identity)
            if await box.connect() != "Success":
                await asyncio.sleep(0.3)
                return None
            await box.subscribe(topics.down_all(self.identity.box_id))
            return box

        found = await until(attempt, "the broker to take the box", 60)
        assert isinstance(found, MqttBox)
        return found

    async def _hear(self, box: MqttBox) -> None:
        """Wait a moment for the hub to be further; otherwise send again."""
        before = self.applied
        for _ in range(50):
            for topic, payload in list(box.received):
                if topic.endswith("/ack"):
                    self.applied = max(self.applied, Ack.decode(payload).seq)
            if self.applied > before or not box.connected:
                return
            await asyncio.sleep(0.02)


async def boxes_with_calls(world: World, organizations: Sequence[UUID]) -> list[Sender]:
    senders = []
    for organization in [*organizations, *organizations]:
        files, identity = await world.join(organization)
        stream = Stream(identity.box_id)
        for _ in range(CALLS):
            stream.call()
        senders.append(Sender(world, files, identity, stream))
    return senders


async def assert_whole(world: World, organizations: Sequence[UUID], rows: int) -> None:
    for organization in organizations:
        async with tenant(world.engine, organization) as session:
            for what, count in ((Call, 2), (CallEvent, 4), (Turn, 4), (Usage, 4)):
                stored = await session.scalar(select(func.count()).select_from(what))
                assert stored == count * CALLS, what
            assert await session.scalar(select(func.sum(Usage.quantity))) == 2 * CALLS * 42
            ended = await session.scalar(
                select(func.count()).select_from(Call).where(Call.status == "ended")
            )
            assert ended == 2 * CALLS
            positions = await session.scalars(select(StreamPosition.applied_seq))
            assert list(positions) == [rows, rows]


async def under_load(
    world: World, senders: list[Sender], blows: Sequence[tuple[float, Callable[[], None]]]
) -> None:
    """Let the boxes send, and strike when they have come so far (a share of their rows)."""
    rows = len(senders[0].stream.rows)

    async def strike() -> None:
        for share, blow in blows:
            await until(lambda: any(s.applied >= share * rows for s in senders), "progress", 90)  # noqa: B023
            assert any(sender.applied < rows for sender in senders), "struck too late"
            blow()

    async with asyncio.timeout(240), asyncio.TaskGroup() as group:
        group.create_task(strike())
        for sender in senders:
            group.create_task(sender.run())


async def test_nothing_is_lost_and_nothing_comes_twice_while_workers_and_broker_are_killed(
    world: World,
) -> None:
    organizations = [await uplink.organization(world.engine) for _ in range(2)]
    senders = await boxes_with_calls(world, organizations)
    for _ in range(2):
        world.start_worker()
    broker = world.service.broker
    assert broker is not None

    def kill_worker() -> None:
        victim = world.workers[-1]
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        world.start_worker()

    def kill_broker() -> None:
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)

    blows = [
        (0.1, kill_worker),
        (0.25, kill_broker),
        (0.4, kill_worker),
        (0.55, kill_broker),
        (0.7, kill_worker),
    ]
    await under_load(world, senders, blows)
    await assert_whole(world, organizations, len(senders[0].stream.rows))


async def test_a_cluster_of_three_brokers_and_two_workers_survives_the_death_of_one_of_each(
    clustered: World, cluster: list[EmbeddedBroker]
) -> None:
    organizations = [await uplink.organization(clustered.engine) for _ in range(2)]
    senders = await boxes_with_calls(clustered, organizations)
    for _ in range(2):
        clustered.start_worker()

    def kill_worker() -> None:
        clustered.workers[0].send_signal(signal.SIGKILL)

    def kill_node() -> None:
        dead = cluster[0]
        assert dead.pid is not None
        assert dead._keeper is not None
        dead._keeper.cancel()  # for good: nobody starts it again
        os.kill(dead.pid, signal.SIGKILL)

    await under_load(clustered, senders, [(0.2, kill_worker), (0.5, kill_node)])
    assert cluster[0].pid is None
    await assert_whole(clustered, organizations, len(senders[0].stream.rows))


async def test_a_revoked_box_is_cut_off_within_seconds(world: World) -> None:
    organization = await uplink.organization(world.engine)
    files, identity = await world.join(organization)
    box = world.connection(files, identity)
    assert await box.connect() == "Success"
    other = world.connection(*await world.join(organization))
    assert await other.connect() == "Success"
    async with tenant(world.engine, organization) as session:
        await revoke(session, UUID(identity.box_id), "stolen")
    await until(lambda: box.ends, "the box to be cut off", 60)
    again = world.connection(files, identity)
    assert await again.connect() == "Not authorized"
    assert other.connected
    for each in (box, again, other):
        each.close()


async def test_a_renewed_box_connects_with_its_new_certificate(world: World) -> None:
    files, _ = await world.join(await uplink.organization(world.engine))
    async with Door.of(files) as door:
        identity = await door.renew(files)
    box = world.connection(files, identity)
    assert await box.connect() == "Success"
    box.close()
