# SPDX-License-Identifier: Apache-2.0
"""The whole hub from one command: database, broker, ingest, the interfaces for boxes and for people.

    async with running_hub(HubSettings()) as hub:
        ...

What settings point elsewhere (PostgreSQL, NATS) is not started here. `serve_api` runs the interface
for people alone: start as many as are needed, next to `python -m cloud_hub.ingest` and `.jobs`.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import uvicorn
from fastapi import APIRouter, FastAPI
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.api.settings import ApiSettings
from cloud_hub.app import create_app
from cloud_hub.auth.accounts import make_setup_link
from cloud_hub.auth.mail import MailSettings
from cloud_hub.db import embedded
from cloud_hub.db.addresses import Database, open_database
from cloud_hub.db.session import create_engine
from cloud_hub.fleet.service import FleetService, fleet_service
from cloud_hub.fleet.settings import FleetSettings
from cloud_hub.fleet.storage import StorageSettings
from cloud_hub.fleet.tls_peer import QuietServer
from cloud_hub.processes import in_background, kept_running
from cloud_hub.settings import DatabaseSettings

log = logging.getLogger(__name__)

DATABASE_WATCH_S = 1.0


class HubInUseError(RuntimeError):
    """Another hub works in this data folder."""


class WorkerSettings(BaseSettings):
    """Settings of the hub as one command.

    Attributes:
        data_folder: everything the hub keeps.
        ingest_workers: how many processes apply what boxes send.
        job_workers: how many processes do the periodic work.
    """

    model_config = SettingsConfigDict(env_prefix="TRUNKLINE_HUB_", extra="ignore")

    data_folder: Path = Path("var/hub")
    ingest_workers: int = Field(1, ge=0, le=64)
    job_workers: int = Field(1, ge=0, le=16)


@dataclass(frozen=True, slots=True)
class HubSettings:
    """The settings of all parts, each from the environment unless given."""

    workers: WorkerSettings = field(default_factory=WorkerSettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    fleet: FleetSettings = field(default_factory=FleetSettings)
    api: ApiSettings = field(default_factory=ApiSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    mail: MailSettings = field(default_factory=MailSettings)


@dataclass(frozen=True, slots=True)
class RunningHub:
    """What runs.

    Attributes:
        url: of the interface for people and programs, as bound.
        app: that interface. engine: of the API role.
        setup_link: the first owner's way in; None once there is one.
    """

    url: str
    app: FastAPI
    engine: AsyncEngine
    fleet: FleetService
    database: Database
    setup_link: str | None


@asynccontextmanager
async def running_hub(
    settings: HubSettings, routers: Sequence[APIRouter] = ()
) -> AsyncIterator[RunningHub]:
    """Run the whole hub for the length of the block.

    Args:
        settings: of all parts.
        routers: more routes of the interface for boxes.

    Raises:
        HubInUseError: another hub works in the data folder.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(_alone(settings.workers.data_folder))
        database = await asyncio.to_thread(open_database, settings.database)
        stack.push_async_callback(asyncio.to_thread, _stop_database, database)
        await asyncio.to_thread(database.migrate)
        engine = create_engine(database.url("api"))
        stack.push_async_callback(engine.dispose)
        recordings = settings.storage.open(settings.fleet.data_folder)
        fleet = await stack.enter_async_context(
            fleet_service(settings.fleet, engine, routers, recordings)
        )
        environment = _worker_environment(settings, database)
        counts = {"ingest": settings.workers.ingest_workers, "jobs": settings.workers.job_workers}
        for part, count in counts.items():
            command = [sys.executable, "-m", f"cloud_hub.{part}"]
            for number in range(1, count + 1):
                worker = kept_running(f"{part} worker {number}", command, environment)
                await stack.enter_async_context(worker)
        if database.cluster is not None:
            watch = _watch(database.cluster, database.url("jobs"))
            await stack.enter_async_context(in_background(watch, "database watch"))
        app = create_app(settings.api, engine, recordings=recordings, mail=settings.mail)
        stack.push_async_callback(app.state.services.mailer.close)
        url = await stack.enter_async_context(_serving(app, settings.api))
        token = await make_setup_link(engine)
        link = f"{settings.api.url_at(url)}/setup#{token}" if token else None
        yield RunningHub(url, app, engine, fleet, database, link)


async def serve(settings: HubSettings) -> None:
    """Run the whole hub until SIGTERM or SIGINT, and say where it is."""
    stopping = _stop_signal()
    async with running_hub(settings) as hub:
        _say(f"API for people and programs: {hub.url}/v1")
        _say(f"Interface for boxes: {settings.fleet.address().api_url}")
        _say(f"Fingerprint of the boxes' authority: {hub.fleet.authority.fingerprint}")
        if hub.setup_link:
            _say(f"Open this once, within 24 hours, to become the first owner: {hub.setup_link}")
        _say("The hub is ready.")
        await stopping.wait()
        _say("Stopping.")


async def serve_api(settings: HubSettings) -> None:
    """Run the interface for people alone, until SIGTERM or SIGINT; the database must be migrated."""
    stopping = _stop_signal()
    url = settings.database.database_api_url
    if url is None:
        sys.exit("TRUNKLINE_HUB_DATABASE_API_URL is not set: this process needs the database")
    engine = create_engine(url.get_secret_value())
    try:
        recordings = settings.storage.open(settings.api.data_folder)
        app = create_app(settings.api, engine, recordings=recordings, mail=settings.mail)
        async with _serving(app, settings.api) as bound:
            _say(f"API for people and programs: {bound}/v1")
            await stopping.wait()
        await app.state.services.mailer.close()
    finally:
        await engine.dispose()


@asynccontextmanager
async def _serving(app: FastAPI, settings: ApiSettings) -> AsyncIterator[str]:
    config = uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        lifespan="off",
        log_level="warning",
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=10,
    )
    server = QuietServer(config)
    task = asyncio.create_task(server.serve(), name="api")
    try:
        while not server.started and not task.done():  # noqa: ASYNC110 - it has no event for this
            await asyncio.sleep(0.02)
        if task.done():
            await task
            raise OSError(f"{settings.api_host}:{settings.api_port} cannot be listened on")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://{settings.api_host}:{port}"
    finally:
        server.should_exit = True
        await task


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the data folder; the lock goes with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "hub.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HubInUseError(f"another hub works in {folder}: stop it first") from error
        yield


async def _watch(cluster: embedded.Cluster, dsn: str) -> None:
    """Start the embedded server again when it is gone; starting one that runs changes nothing."""
    while True:
        await asyncio.sleep(DATABASE_WATCH_S)
        if await _answers(dsn):
            continue
        log.error("the embedded database is gone; starting it again")
        try:
            await asyncio.to_thread(embedded.start, cluster.folder)
        except (embedded.EmbeddedPostgresError, OSError):
            log.exception("the embedded database does not come up")


async def _answers(dsn: str) -> bool:
    try:
        connection = await psycopg.AsyncConnection.connect(dsn, connect_timeout=10)
    except (psycopg.OperationalError, OSError):
        return False
    await connection.close()
    return True


def _stop_database(database: Database) -> None:
    # The folder is this hub's alone: also a server that a killed hub left running is stopped.
    if database.cluster is None:
        return
    try:
        database.cluster.stop()
    except subprocess.CalledProcessError:
        log.exception("the embedded database did not stop in time; it is still stopping")


def _worker_environment(settings: HubSettings, database: Database) -> dict[str, str]:
    fleet = settings.fleet
    return {
        **os.environ,
        **settings.storage.environment(),
        "TRUNKLINE_HUB_DATABASE_INGEST_URL": database.url("ingest"),
        "TRUNKLINE_HUB_DATABASE_JOBS_URL": database.url("jobs"),
        "TRUNKLINE_HUB_DATA_FOLDER": str(fleet.data_folder),
        "TRUNKLINE_HUB_NATS_PORT": str(fleet.nats_port),
        "TRUNKLINE_HUB_NATS_URLS": ",".join(fleet.nats_urls),
        "TRUNKLINE_HUB_NATS_REPLICAS": str(fleet.nats_replicas),
    }


def _stop_signal() -> asyncio.Event:
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
