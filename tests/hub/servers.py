# SPDX-License-Identifier: Apache-2.0
"""Real servers for the hub's tests: databases of an embedded PostgreSQL, and NATS on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from cloud_hub.db import embedded, roles

TEMPLATE = "hub_template"
START_SECONDS = 20.0


@dataclass(frozen=True)
class Database:
    """One migrated, empty database, and who may connect to it."""

    cluster: embedded.Cluster
    name: str

    def dsn(self, role: str) -> str:
        """For `trunkline_owner`, `trunkline_api`, `trunkline_ingest`, `trunkline_jobs`, `postgres`."""
        return self.cluster.dsn(role, self.name)


@contextlib.contextmanager
def folder_for_server(name: str) -> Iterator[Path]:
    """A folder in memory, since a disk would only make the tests wait.

    A run that was killed leaves its server behind: the next run stops and removes it.
    """
    memory = Path("/dev/shm")
    parent = memory if memory.is_dir() else Path(tempfile.gettempdir())
    for left in parent.glob("hub-tests-*-*"):
        if not Path(f"/proc/{left.name.split('-')[2]}").exists():
            with contextlib.suppress(embedded.EmbeddedPostgresError):
                embedded.Cluster(left, left / "socket", {}, started=True).stop(immediately=True)
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"hub-tests-{os.getpid()}-{name}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def database_for_tests(cluster: embedded.Cluster, name: str) -> Iterator[Database]:
    """A copy of the migrated template, for as long as it is needed."""
    administrator = cluster.dsn(embedded.ADMINISTRATOR, "postgres")
    roles.create_database(administrator, name, template=TEMPLATE)
    yield Database(cluster, name)
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@dataclass(frozen=True)
class Nats:
    """A running NATS server with JetStream and the MQTT gateway, without authentication."""

    process: subprocess.Popen[bytes]
    port: int
    mqtt_port: int

    @property
    def url(self) -> str:
        """Where NATS clients connect."""
        return f"nats://127.0.0.1:{self.port}"


@contextlib.contextmanager
def nats_running(folder: Path, configuration: str = "") -> Iterator[Nats]:
    """A NATS server that keeps its streams in `folder`.

    Args:
        configuration: more of the server's configuration file: accounts, TLS, a cluster.
    """
    program = Path(sys.executable).with_name("nats-server")  # where its wheel puts it
    port, mqtt_port = free_port(), free_port()
    file = folder / "nats.conf"
    file.write_text(
        f"""
        server_name: test-{port}
        listen: "127.0.0.1:{port}"
        jetstream {{ store_dir: "{folder / "jetstream"}", sync_interval: always }}
        mqtt {{ listen: "127.0.0.1:{mqtt_port}" }}
        {configuration}
        """
    )
    with (folder / "nats.log").open("ab") as log:
        process = subprocess.Popen([str(program), "-c", str(file)], stdout=log, stderr=log)
    try:
        for each in (port, mqtt_port):
            wait_for_port(each, process)
        yield Nats(process, port, mqtt_port)
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def free_port() -> int:
    """A TCP port of the loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when something accepts connections there; fail when the process ends first."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"ended with {process.returncode} before it listened"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port}")
