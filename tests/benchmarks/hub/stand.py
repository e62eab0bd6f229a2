# SPDX-License-Identifier: Apache-2.0
"""The hub under test: `python -m cloud_hub`; database, broker and ingest are its own processes."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.db import embedded
from cloud_hub.db.addresses import FOLDER
from cloud_hub.db.ids import uuid7
from cloud_hub.db.models import Organization
from cloud_hub.db.models.fleet import Appliance, Certificate
from cloud_hub.db.session import create_engine, tenant
from cloud_hub.fleet.broker import free_port
from cloud_hub.fleet.ca import CertificateAuthority
from tests.benchmarks.hub.said import BoxPapers

READY = b"The hub is ready."
START_S = 120.0
PLENTY = 10_000_000
"""Requests a minute: the limits are not what is measured."""


@dataclass(frozen=True)
class Stand:
    """A running hub.

    Attributes:
        folder: all that it keeps.
        url: of its API.
        cluster: its database server, for what the benchmark fills in and counts.
        engine: as the API role.
    """

    folder: Path
    url: str
    mqtt_port: int
    cluster: embedded.Cluster
    engine: AsyncEngine

    @property
    def ca(self) -> Path:
        """The root certificate that boxes trust."""
        return self.folder / "boxes" / "ca.pem"

    async def administrator(self) -> psycopg.AsyncConnection[tuple[object, ...]]:
        """Return a connection that sees all rows; whoever asked closes it."""
        dsn = self.cluster.dsn(embedded.ADMINISTRATOR)
        return await psycopg.AsyncConnection.connect(dsn, autocommit=True)

    async def organization(self) -> UUID:
        """Make an organization."""
        organization_id = uuid7()
        async with tenant(self.engine, organization_id) as session:
            session.add(Organization(id=organization_id, name="Ward & Sons"))
        return organization_id

    async def boxes(self, organization_id: UUID, count: int) -> list[BoxPapers]:
        """Make boxes with certificates of the hub's own authority, as if they had been claimed."""
        authority = CertificateAuthority.open(self.folder / "ca")
        self.ca.parent.mkdir(exist_ok=True)
        self.ca.write_text(authority.root_pem)
        made = [await asyncio.to_thread(self._box, authority) for _ in range(count)]
        async with tenant(self.engine, organization_id) as session:
            ids = {"organization_id": organization_id}
            session.add_all(Appliance(**ids, id=UUID(box_id), name="box") for box_id, _ in made)
            await session.flush()
            session.add_all(
                Certificate(**ids, id=uuid7(), appliance_id=UUID(box_id), **known)
                for box_id, known in made
            )
        return [BoxPapers(organization_id, box_id, str(self._file(box_id))) for box_id, _ in made]

    def _box(self, authority: CertificateAuthority) -> tuple[str, dict[str, object]]:
        box_id = str(uuid7())
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "box")])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        issued = authority.issue_box(csr.public_bytes(serialization.Encoding.PEM).decode(), box_id)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        self._file(box_id).write_text(private.decode() + issued.chain_pem)
        known = {
            "serial": issued.serial,
            "public_key_sha256": issued.public_key_sha256,
            "pem": issued.chain_pem,
            "not_before": issued.not_before,
            "not_after": issued.not_after,
        }
        return box_id, known

    def _file(self, box_id: str) -> Path:
        return self.folder / "boxes" / f"{box_id}.pem"


def box_context(ca: Path | str, file: Path | str) -> ssl.SSLContext:
    """Return what a box connects with: TLS 1.3, its certificate, the hub's root and no other."""
    context = ssl.create_default_context(cafile=str(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(str(file))
    return context


@asynccontextmanager
async def running(workers: int) -> AsyncIterator[Stand]:
    """Run a hub on the loopback, in a folder of its own, for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="bench-hub-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        ports = {each: free_port() for each in ("NATS", "MQTT", "DEVICE", "API")}
        environment = {
            **os.environ,
            "TRUNKLINE_HUB_DATA_FOLDER": str(folder),
            "TRUNKLINE_HUB_INGEST_WORKERS": str(workers),
            "TRUNKLINE_HUB_KEY_RATE": str(PLENTY),
            "TRUNKLINE_HUB_ADDRESS_RATE": str(PLENTY),
            **{f"TRUNKLINE_HUB_{each}_PORT": str(port) for each, port in ports.items()},
        }
        with (folder / "hub.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "cloud_hub",
                env=environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
            try:
                await asyncio.wait_for(_ready(process, folder), START_S)
                cluster = await asyncio.to_thread(embedded.start, folder / FOLDER)
                engine = create_engine(cluster.dsn("trunkline_api"))
                url = f"http://127.0.0.1:{ports['API']}"
                yield Stand(folder, url, ports["MQTT"], cluster, engine)
                await engine.dispose()
            finally:
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
                await process.wait()


async def _ready(process: asyncio.subprocess.Process, folder: Path) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        if line.strip() == READY:
            return
    raise RuntimeError(f"the hub ended: {(folder / 'hub.log').read_text()[-2000:]}")
