# SPDX-License-Identifier: Apache-2.0
"""The real hub, `python -m cloud_hub`, with every process of it known by its id.

Alone it brings up PostgreSQL, NATS and its workers itself, and starts again what dies; only the hub's own
process is started again from here. In a cluster three NATS servers are kept running from here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Literal
from uuid import UUID

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from appliance.sync.claim import ClaimDetails, Door
from appliance.sync.identity import HubFiles
from cloud_hub.db import embedded
from cloud_hub.db.addresses import FOLDER
from cloud_hub.db.session import create_engine, tenant
from cloud_hub.fleet.broker import EmbeddedBroker, Node, free_port
from cloud_hub.fleet.claim import create_token
from cloud_hub.fleet.settings import FleetSettings
from tests.hub import uplink
from tests.hub.losses.processes import Supervised, children, command_of

Part = Literal["hub", "ingest", "broker", "postgres"]

READY_S: Final = 120.0
LOOK_S: Final = 0.1
NOTHING_FITS: Final = 8192
"""Bytes: the write-ahead log is written in its files of 16 MiB, beyond this."""


class RealHub:
    """A hub in a folder of its own.

    Args:
        folder: for everything.
        nodes: servers of a NATS cluster; 0 for the hub's own single one.
        workers: ingest processes.
    """

    def __init__(self, folder: Path, *, nodes: int = 0, workers: int = 1) -> None:
        self.folder = folder / "hub"
        self.folder.mkdir()
        ports = [free_port() for _ in range(nodes)]
        self.nodes = [_node(self.folder, number, ports) for number in range(nodes)]
        self.settings = FleetSettings(
            data_folder=self.folder,
            nats_port=free_port(),
            mqtt_port=free_port(),
            device_port=free_port(),
            nats_urls=[f"nats://127.0.0.1:{node.port}" for node in self.nodes],
            nats_replicas=max(nodes, 1),
        )
        self._api_port = free_port()
        self.process = Supervised(
            [sys.executable, "-m", "cloud_hub"], folder / "hub.log", self._environment(workers)
        )
        self.brokers: list[EmbeddedBroker] = []
        self._engine: AsyncEngine | None = None
        self._cluster: embedded.Cluster | None = None

    @property
    def mqtt_ports(self) -> list[int]:
        """Where boxes may connect."""
        return [node.mqtt_port for node in self.nodes] or [self.settings.mqtt_port]

    @property
    def administrator(self) -> str:
        """Address of the hub's database for one who sees everything."""
        assert self._cluster is not None
        return self._cluster.dsn(embedded.ADMINISTRATOR)

    async def start(self) -> None:
        """Return when it takes boxes and people."""
        for node in self.nodes:
            broker = EmbeddedBroker(
                node,
                self.settings.authority(),
                self.settings.credentials(),
                self.settings.callout_key(),
            )
            self.brokers.append(broker)
        await asyncio.gather(*(broker.start() for broker in self.brokers))
        await self.process.start()
        await wait_for(self._serves, "the hub to serve", READY_S)
        self._cluster = await asyncio.to_thread(embedded.start, self.folder / FOLDER)
        self._engine = create_engine(self._cluster.dsn("trunkline_api"), pool_size=1)

    async def stop(self) -> None:
        """Stop everything, the database too."""
        if self._engine is not None:
            await self._engine.dispose()
        await self.process.stop()
        await asyncio.gather(*(broker.stop() for broker in self.brokers))
        cluster = await asyncio.to_thread(embedded.start, self.folder / FOLDER)
        await asyncio.to_thread(cluster.stop, immediately=True)

    async def organization(self) -> UUID:
        """Make one."""
        assert self._engine is not None
        return await uplink.organization(self._engine)

    async def join(self, organization: UUID, folder: Path) -> str:
        """Have a new box join by token, over HTTPS; return its id."""
        assert self._engine is not None
        async with tenant(self._engine, organization) as session:
            token = await create_token(session, organization, "a box")
        pem = self.settings.authority().root_pem
        async with Door(self.settings.address().api_url, pem) as door:
            identity = await door.redeem(HubFiles(folder), token, ClaimDetails())
        return identity.box_id

    def pid(self, part: Part) -> int | None:
        """Return the process of a part, at random where there are several; None while there is none."""
        if part == "postgres":
            return self._postmaster()
        hub = self.process.pid
        if part == "hub" or hub is None:
            return hub
        if part == "broker" and self.brokers:
            return random.choice(self.brokers).pid
        words = "cloud_hub.ingest" if part == "ingest" else "nats-server"
        found = children(hub, words)
        return random.choice(found) if found else None

    async def query(self, sql: str) -> None:
        """Run SQL as administrator, now or as soon as the database takes it."""

        async def run() -> bool:
            with contextlib.suppress(psycopg.OperationalError):
                async with await psycopg.AsyncConnection.connect(
                    self.administrator, autocommit=True
                ) as connection:
                    await connection.execute(sql.encode())
                return True
            return False

        await wait_for(run, "the database", READY_S)

    def fill_log_volume(self) -> None:
        """Let PostgreSQL write no more of its log, as on a full disk, until it is started anew."""
        postmaster = self._postmaster()
        assert postmaster is not None
        for pid in [postmaster, *children(postmaster, "")]:
            with contextlib.suppress(FileNotFoundError):  # that process has ended
                _limit_files(pid)

    def _postmaster(self) -> int | None:
        file = self.folder / FOLDER / "data" / "postmaster.pid"
        try:
            pid = int(file.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None
        return pid if "postgres" in command_of(pid) else None

    async def _serves(self) -> bool:
        for port in (self._api_port, self.settings.device_port, *self.mqtt_ports):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return False
            writer.close()
        return True

    def _environment(self, workers: int) -> dict[str, str]:
        settings = self.settings
        return {
            "TRUNKLINE_HUB_DATA_FOLDER": str(settings.data_folder),
            "TRUNKLINE_HUB_NATS_PORT": str(settings.nats_port),
            "TRUNKLINE_HUB_NATS_URLS": ",".join(settings.nats_urls),
            "TRUNKLINE_HUB_NATS_REPLICAS": str(settings.nats_replicas),
            "TRUNKLINE_HUB_MQTT_PORT": str(settings.mqtt_port),
            "TRUNKLINE_HUB_DEVICE_PORT": str(settings.device_port),
            "TRUNKLINE_HUB_API_PORT": str(self._api_port),
            "TRUNKLINE_HUB_INGEST_WORKERS": str(workers),
            "PYTHONUNBUFFERED": "1",
        }


def _node(folder: Path, number: int, cluster_ports: Sequence[int]) -> Node:
    return Node(
        f"node{number}",
        folder / f"node{number}",
        port=free_port(),
        mqtt_port=free_port(),
        cluster_port=cluster_ports[number],
        routes=[f"127.0.0.1:{port}" for port in cluster_ports],
        replicas=len(cluster_ports),
    )


def _limit_files(pid: int) -> None:
    # As the server's own user: in a container, root may not touch the limits of others.
    owner = Path(f"/proc/{pid}").stat()
    command = ["prlimit", f"--pid={pid}", f"--fsize={NOTHING_FITS}:"]
    if owner.st_uid == os.geteuid():
        subprocess.run(command, check=False)
    else:
        user, group = owner.st_uid, owner.st_gid
        subprocess.run(command, user=user, group=group, extra_groups=[], check=False)


async def wait_for(
    what: Callable[[], Awaitable[bool]], why: str, seconds: float, every: float = LOOK_S
) -> None:
    """Ask until it is so.

    Raises:
        TimeoutError: it was not so in time.
    """
    end = time.monotonic() + seconds
    while not await what():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s in vain for {why}")
        await asyncio.sleep(every)
