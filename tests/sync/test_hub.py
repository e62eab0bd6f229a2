# SPDX-License-Identifier: Apache-2.0
"""The box follows its hub identity: before it is claimed, once it is, and when that changes. Mutual TLS."""

from __future__ import annotations

import contextlib
import itertools
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.store import Event, Store
from appliance.sync.hub import Hub
from appliance.wire import Identity, new_id, to_text
from cloud_hub.fleet.broker import server_binary
from cloud_hub.fleet.ca import CertificateAuthority
from tests.hub.servers import Nats, free_port, wait_for_port
from tests.sync.lab import until
from tests.sync.small_hub import SmallHub


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority.open(tmp_path / "ca")


@pytest.fixture
def nats(tmp_path: Path, authority: CertificateAuthority) -> Iterator[Nats]:
    """A server whose MQTT side asks boxes for their certificate."""
    folder = tmp_path / "nats"
    folder.mkdir()
    certificate, key = authority.issue_server(["localhost", "127.0.0.1"])
    for name, text in (("c.pem", certificate.chain_pem), ("k.pem", key)):
        (folder / name).write_text(text)
    (folder / "root.pem").write_text(authority.root_pem)
    inner, outer = free_port(), free_port()
    tls = f'{folder}/c.pem", key_file: "{folder}/k.pem", ca_file: "{folder}/root.pem"'
    (folder / "nats.conf").write_text(
        f"""
        server_name: "box-test"
        listen: "127.0.0.1:{inner}"
        jetstream {{ store_dir: "{folder}/jetstream" }}
        mqtt {{ listen: "127.0.0.1:{outer}", tls {{ cert_file: "{tls}, verify: true }} }}
        """
    )
    process = subprocess.Popen([server_binary(), "-c", folder / "nats.conf"])
    try:
        for port in (inner, outer):
            wait_for_port(port, process)
        yield Nats(process, inner, outer)
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store.open(tmp_path / "box.db", outbox=True)
    yield store
    await store.aclose()


@pytest.fixture
async def hub(tmp_path: Path, store: Store) -> AsyncIterator[Hub]:
    hub = Hub(store, tmp_path / "data")
    hub.start()
    yield hub
    await hub.aclose()


_seq = itertools.count()


def talk(store: Store, events: int) -> None:
    for _ in range(events):
        store.append("c1", [Event("c1", next(_seq), 0, "x", {})])


def claim(hub: Hub, nats: Nats, authority: CertificateAuthority) -> str:
    """Do what a claim does to the box's files; return its id."""
    box_id = new_id()
    issued = authority.issue_box(hub.files.request(), box_id)
    hub.files.store(
        Identity(
            box_id=box_id,
            certificate=issued.chain_pem,
            ca=authority.root_pem,
            signing_key="",
            mqtt_host="localhost",
            mqtt_port=nats.mqtt_port,
            api_url="https://localhost:1",
            expires_at=to_text(issued.not_after),
            renew_after=to_text(datetime.now(UTC) + timedelta(days=60)),
        )
    )
    return box_id


def connected(hub: Hub) -> Callable[[], bool]:
    return lambda: hub._link is not None and hub._link.state().connected


async def test_facts_from_before_the_claim_reach_the_hub_by_mutual_tls_1_3(
    tmp_path: Path, store: Store, hub: Hub, nats: Nats, authority: CertificateAuthority
) -> None:
    talk(store, 20)
    await store.sync()
    assert await hub.state() is None
    worker = SmallHub(nats.url, tmp_path / "hub.db")
    async with worker.running():
        claim(hub, nats, authority)
        await until(connected(hub), "the box is connected")
        talk(store, 20)
        await until(lambda: len(worker.facts()) == 40, "all facts are at the hub")
        await until(lambda: worker.facts("health"), "and how the box is")
    health = worker.facts("health")[0]
    assert health["waiting_rows"] == 20
    assert int(str(health["disk_free_bytes"])) > 0
    assert "faults" not in health or health["faults"] == []
    assert hub._link is not None
    assert hub._link._connection is not None
    socket = hub._link._connection._client.socket()
    assert isinstance(socket, ssl.SSLSocket)
    assert socket.version() == "TLSv1.3"


async def test_a_box_claimed_anew_begins_anew(
    tmp_path: Path, store: Store, hub: Hub, nats: Nats, authority: CertificateAuthority
) -> None:
    claim(hub, nats, authority)
    await until(connected(hub), "the box is connected")
    talk(store, 30)  # nobody takes them
    await store.sync()
    hub.files.remove()
    await until(lambda: hub._link is None, "the link is gone with the identity")
    worker = SmallHub(nats.url, tmp_path / "hub.db")
    second = claim(hub, nats, authority)
    await until(connected(hub), "the box is connected again")
    talk(store, 5)
    async with worker.running():
        await until(lambda: len(worker.facts()) == 5, "what came after is there")
    with contextlib.closing(worker.database()) as db:
        assert [
            row[0] for row in db.execute("SELECT box FROM facts WHERE kind = 'call.event'")
        ] == [second] * 5


async def test_a_broker_with_another_authority_gets_nothing(
    tmp_path: Path, store: Store, hub: Hub, nats: Nats
) -> None:
    talk(store, 5)
    claim(hub, nats, CertificateAuthority.open(tmp_path / "other"))

    def refused() -> bool:
        return hub._link is not None and "certificate" in hub._link.state().fault.lower()

    await until(refused, "the box does not trust it")
    state = await hub.state()
    assert state is not None
    assert not state.connected
    assert state.waiting_rows >= 5
