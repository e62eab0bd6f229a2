# SPDX-License-Identifier: Apache-2.0
"""The hub's HTTPS interface for boxes on a loopback port, over a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.db.ids import uuid7
from cloud_hub.db.models import Organization
from cloud_hub.db.session import tenant
from cloud_hub.fleet.broker import free_port
from cloud_hub.fleet.ca import CertificateAuthority
from cloud_hub.fleet.claim import Claims, HubAddress
from cloud_hub.fleet.device_api import device_app
from cloud_hub.fleet.signing import SigningKey
from cloud_hub.fleet.tls_peer import device_server, server_context
from tests.hub.mqtt_box import until


@dataclass
class DeviceHub:
    """A hub as a box that wants to join sees it."""

    url: str
    authority: CertificateAuthority
    claims: Claims
    engine: AsyncEngine

    async def organization(self, name: str = "Ward & Sons") -> UUID:
        """Make an organization."""
        organization_id = uuid7()
        async with tenant(self.engine, organization_id) as session:
            session.add(Organization(id=organization_id, name=name))
        return organization_id


@asynccontextmanager
async def device_hub(
    folder: Path, engine: AsyncEngine, mqtt_port: int = 8883
) -> AsyncIterator[DeviceHub]:
    """Serve claims and renewals by TLS."""
    authority = CertificateAuthority.open(folder / "ca")
    port = free_port()
    url = f"https://localhost:{port}"
    signing = SigningKey.open(folder / "signing.key")
    claims = Claims(engine, authority, signing.public, HubAddress("localhost", mqtt_port, url))
    certificate, key = authority.issue_server(["localhost", "127.0.0.1"])
    (folder / "server.pem").write_text(certificate.chain_pem)
    (folder / "server.key").write_text(key)
    (folder / "root.pem").write_text(authority.root_pem)
    context = server_context(folder / "server.pem", folder / "server.key", folder / "root.pem")
    server = device_server(device_app(claims, authority), "127.0.0.1", port, context)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started, "the HTTPS server")
    yield DeviceHub(url, authority, claims, engine)
    server.should_exit = True
    await serving
