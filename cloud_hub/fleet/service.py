# SPDX-License-Identifier: Apache-2.0
"""Everything that boxes touch, started in order: the broker, its door, the HTTPS interface.

    async with fleet_service(settings, engine):
        ...

With an external cluster the broker is not started; callout, disconnector and HTTPS interface may
run many times.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.fleet.box_routes import bundle_routes
from cloud_hub.fleet.broker import EmbeddedBroker
from cloud_hub.fleet.ca import CertificateAuthority
from cloud_hub.fleet.callout import Callout, Disconnector
from cloud_hub.fleet.claim import Claims
from cloud_hub.fleet.device_api import device_app
from cloud_hub.fleet.driver import FleetDriver
from cloud_hub.fleet.recordings import RecordingStore
from cloud_hub.fleet.register import DatabaseRegister
from cloud_hub.fleet.settings import FleetSettings, process_name
from cloud_hub.fleet.storage import StorageSettings
from cloud_hub.fleet.tls_peer import device_server, server_context
from cloud_hub.fleet.uploads import upload_routes
from cloud_hub.keyfile import write_private
from cloud_hub.processes import in_background


@dataclass(frozen=True, slots=True)
class FleetService:
    """What runs."""

    authority: CertificateAuthority
    claims: Claims
    broker: EmbeddedBroker | None
    driver: FleetDriver


@asynccontextmanager
async def fleet_service(
    settings: FleetSettings,
    engine: AsyncEngine,
    routers: Sequence[APIRouter] = (),
    recordings: RecordingStore | None = None,
) -> AsyncIterator[FleetService]:
    """Run the hub's side of the boxes.

    Args:
        settings: where everything listens and keeps its files.
        engine: of the API role.
        routers: more routes for boxes; they take `device_api.box_of` as a dependency.
        recordings: where recordings are kept, when not as the environment says.
    """
    authority = settings.authority()
    claims = Claims(engine, authority, settings.signing_key().public, settings.address())
    async with AsyncExitStack() as stack:
        broker = None
        if not settings.nats_urls:
            broker = EmbeddedBroker(
                settings.node(), authority, settings.credentials(), settings.callout_key()
            )
            stack.push_async_callback(broker.stop)
            await broker.start()
        access, register = settings.access(), DatabaseRegister(engine)
        client = await access.connect_callout(process_name("callout"))
        callout = Callout(client, authority, settings.callout_key(), register)
        stack.push_async_callback(callout.stop)
        await callout.start()
        system = await access.connect_system(process_name("disconnector"))
        stack.push_async_callback(system.close)
        await stack.enter_async_context(
            in_background(Disconnector(system, register).run(), "disconnector")
        )
        store = recordings or StorageSettings().open(settings.data_folder)
        own = [bundle_routes(engine), upload_routes(engine, store)]
        await stack.enter_async_context(_serving(settings, authority, claims, [*own, *routers]))
        hub = await access.connect_hub(process_name("fleet"))
        stack.push_async_callback(hub.close)
        driver = FleetDriver(hub, engine, settings.signing_key())
        stack.push_async_callback(driver.stop)
        await driver.start()
        yield FleetService(authority, claims, broker, driver)


@asynccontextmanager
async def _serving(
    settings: FleetSettings,
    authority: CertificateAuthority,
    claims: Claims,
    routers: Sequence[APIRouter],
) -> AsyncIterator[None]:
    folder = settings.data_folder / "device"
    certificate, key = authority.issue_server(settings.names)
    write_private(folder / "server.key", key)
    (folder / "server.pem").write_text(certificate.chain_pem)
    (folder / "root.pem").write_text(authority.root_pem)
    app = device_app(claims, authority)
    for router in routers:
        app.include_router(router)
    context = server_context(folder / "server.pem", folder / "server.key", folder / "root.pem")
    server = device_server(app, settings.listen_host, settings.device_port, context)
    task = asyncio.create_task(server.serve(), name="device https")
    try:
        while not server.started and not task.done():  # noqa: ASYNC110 - it has no event for this
            await asyncio.sleep(0.02)
        if task.done():
            await task
        yield
    finally:
        server.should_exit = True
        await task
