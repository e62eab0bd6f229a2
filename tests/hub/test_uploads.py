# SPDX-License-Identifier: Apache-2.0
"""Recordings from box to hub by mutual TLS: cut in the middle, hub restarted, damaged; whole in the end."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from appliance.sync import uploads as module
from appliance.sync.claim import ClaimDetails, Door
from appliance.sync.hub_http import hub_client
from appliance.sync.identity import HubFiles
from appliance.sync.uploads import UploadRules, Uploads
from cloud_hub.db.models.calls import Recording, Upload
from cloud_hub.db.session import tenant
from cloud_hub.fleet.broker import free_port
from cloud_hub.fleet.ca import CertificateAuthority
from cloud_hub.fleet.claim import Claims, HubAddress, create_token
from cloud_hub.fleet.device_api import device_app
from cloud_hub.fleet.recordings import RecordingFiles
from cloud_hub.fleet.signing import SigningKey
from cloud_hub.fleet.tls_peer import device_server, server_context
from cloud_hub.fleet.uploads import upload_routes
from cloud_hub.ingest.writes import identifier
from tests.hub import uplink
from tests.hub.mqtt_box import until

PIECE = 4096


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", PIECE)
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(module, "TRY_AGAIN_S", 0.05)
    monkeypatch.setattr(module, "SETTLED_S", -1.0)


class SmallDeviceHub:
    """The hub's interface for boxes on a fixed port; may be stopped and started again."""

    def __init__(self, folder: Path, engine: AsyncEngine) -> None:
        self.folder = folder
        self.engine = engine
        self.port = free_port()
        self.url = f"https://localhost:{self.port}"
        self.authority = CertificateAuthority.open(folder / "ca")
        self.recordings = RecordingFiles(folder / "recordings")
        self._server: Any = None
        self._serving: asyncio.Task[None] | None = None
        certificate, key = self.authority.issue_server(["localhost"])
        for name, text in (
            ("server.pem", certificate.chain_pem),
            ("server.key", key),
            ("root.pem", self.authority.root_pem),
        ):
            (folder / name).write_text(text)

    async def start(self) -> None:
        """A new process, as far as memory goes."""
        key = SigningKey.open(self.folder / "signing.key")
        address = HubAddress("localhost", 1, self.url)
        app = device_app(Claims(self.engine, self.authority, key.public, address), self.authority)
        app.include_router(upload_routes(self.engine, self.recordings))
        files = [self.folder / name for name in ("server.pem", "server.key", "root.pem")]
        server = device_server(app, "127.0.0.1", self.port, server_context(*files))
        self._server, self._serving = server, asyncio.create_task(server.serve())
        await until(lambda: server.started, "the HTTPS server")

    async def stop(self) -> None:
        assert self._serving is not None
        self._server.should_exit = self._server.force_exit = True
        await self._serving


class Cut(httpx.AsyncBaseTransport):
    """Cuts the connection in the middle of the n-th request, or spoils its body."""

    def __init__(self, inner: httpx.AsyncBaseTransport, world: World) -> None:
        self._inner = inner
        self._world = world

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        world = self._world
        if request.method == "PATCH":
            world.pieces += 1
            if world.pieces in world.cut_at:
                body = await request.aread()

                async def half() -> AsyncIterator[bytes]:
                    yield body[: len(body) // 2]
                    raise httpx.WriteError("cut")

                request = httpx.Request(
                    request.method, request.url, headers=request.headers, content=half()
                )
            elif world.pieces in world.spoil_at:
                body = bytes(byte ^ 1 for byte in await request.aread())
                request = httpx.Request(
                    request.method, request.url, headers=request.headers, content=body
                )
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


@dataclass
class World:
    """A hub and a box with recordings."""

    hub: SmallDeviceHub
    organization: UUID
    files: HubFiles
    box_id: UUID
    folder: Path
    active: int = 0
    pieces: int = 0
    cut_at: set[int] = field(default_factory=set)
    spoil_at: set[int] = field(default_factory=set)
    running: set[str] = field(default_factory=set)
    reports: list[Mapping[str, Any]] = field(default_factory=list)

    def record(self, call_id: str, data: bytes) -> Path:
        """Write a recording; each is newer than the one before."""
        path = self.folder / "recordings" / "2026-11-21" / f"{call_id}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        at = time.time() - 1000 + len(list(path.parent.iterdir()))
        os.utime(path, (at, at))
        return path

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        async with hub_client(self.files) as client:
            client._transport = Cut(client._transport, self)
            yield client

    @contextlib.asynccontextmanager
    async def uploading(self, **rules: Any) -> AsyncIterator[Uploads]:
        uploads = Uploads(
            self.folder / "recordings",
            self.folder / "uploads.db",
            self.files.identity,
            self.client,
            UploadRules(**{"kib_s": 0, **rules}),
            is_over=lambda call_id: call_id not in self.running,
            calls=lambda: self.active,
            report=lambda stream, kind, data: self.reports.append({"kind_": kind, **data}),
        )
        uploads.start()
        try:
            yield uploads
        finally:
            await uploads.aclose()

    async def stored(self) -> dict[UUID, bytes]:
        """Return what the hub holds, by call."""
        async with tenant(self.hub.engine, self.organization) as session:
            rows = (await session.scalars(select(Recording).order_by(Recording.id))).all()
        assert len({row.call_id for row in rows}) == len(rows)
        return {row.call_id: self.hub.recordings.path(row.storage_key).read_bytes() for row in rows}

    async def holds(self, **recordings: bytes) -> None:
        """Wait until the hub holds exactly these, and nothing half."""
        wanted = {identifier(self.box_id, name): data for name, data in recordings.items()}

        async def there() -> bool:
            return len(await self.stored()) >= len(wanted)

        await until(there, "the recordings to arrive", 60)
        assert await self.stored() == wanted
        await until(
            lambda: not list((self.hub.folder / "recordings").rglob("*.part")), "no part to be left"
        )


@pytest.fixture
async def world(tmp_path: Path, api_engine: AsyncEngine) -> AsyncIterator[World]:
    folder = tmp_path / "hub"
    folder.mkdir()
    hub = SmallDeviceHub(folder, api_engine)
    await hub.start()
    organization = await uplink.organization(api_engine)
    async with tenant(api_engine, organization) as session:
        token = await create_token(session, organization, "a box")
    files = HubFiles(tmp_path / "box" / "hub")
    async with Door(hub.url, hub.authority.root_pem) as door:
        identity = await door.redeem(files, token, ClaimDetails())
    yield World(hub, organization, files, UUID(identity.box_id), tmp_path / "box")
    await hub.stop()


def sound(pieces: float, seed: int = 0) -> bytes:
    return hashlib.shake_128(bytes([seed])).digest(int(pieces * PIECE))


async def test_recordings_arrive_whole_and_the_oldest_first(world: World) -> None:
    world.record("first", sound(2.5, 1))
    world.record("second", sound(1, 2))
    async with world.uploading():
        await world.holds(first=sound(2.5, 1), second=sound(1, 2))
    async with tenant(world.hub.engine, world.organization) as session:
        rows = await session.scalars(select(Recording.call_id).order_by(Recording.id))
        assert list(rows) == [identifier(world.box_id, name) for name in ("first", "second")]
    pieces = world.pieces
    async with world.uploading() as uploads:  # a new process sends nothing again
        await until(lambda: uploads._ledger is not None, "a look")
        assert world.pieces == pieces


async def test_a_connection_cut_in_the_middle_and_a_restarted_hub_cost_only_time(
    world: World,
) -> None:
    world.record("call", sound(8))
    world.cut_at = {2, 5}
    world.spoil_at = {4}
    async with world.uploading(kib_s=64):
        await until(lambda: world.pieces >= 3, "the first pieces")
        await world.hub.stop()
        await world.hub.start()
        await until(lambda: world.pieces >= 6, "more pieces")
        await world.hub.stop()
        await world.hub.start()
        await world.holds(call=sound(8))
    assert world.pieces < 20  # what had arrived was not sent again


async def test_nothing_is_sent_during_a_call_or_of_a_call(world: World) -> None:
    world.running = {"now"}
    world.active = 1
    world.record("now", sound(1, 1))
    world.record("before", sound(1, 2))
    async with world.uploading() as uploads:
        await until(lambda: uploads._ledger is not None, "a look")
        assert world.pieces == 0
        world.active = 0
        await world.holds(before=sound(1, 2))
        world.running.clear()
        await world.holds(before=sound(1, 2), now=sound(1, 1))


async def test_two_calls_with_the_same_sound_have_a_recording_each(world: World) -> None:
    world.record("one", sound(1))
    world.record("other", sound(1))
    async with world.uploading():
        await world.holds(one=sound(1), other=sound(1))


async def test_only_what_the_hub_confirmed_is_deleted_by_age(world: World) -> None:
    path = world.record("old", sound(1, 1))
    world.running = {"still"}
    other = world.record("still", sound(1, 2))
    async with world.uploading(keep_days=0):
        await world.holds(old=sound(1, 1))
        await until(lambda: not path.exists(), "the confirmed recording to be deleted")
    assert other.exists()


async def test_without_room_the_oldest_go_and_the_hub_is_told(world: World) -> None:
    paths = [world.record(f"c{number}", sound(1, number)) for number in range(4)]
    async with world.uploading(send=False, max_bytes=2 * PIECE):
        await until(lambda: not paths[1].exists(), "room to be made")
    assert [path.exists() for path in paths] == [False, False, True, True]
    assert [report["call_id"] for report in world.reports] == ["c0", "c1"]
    assert await world.stored() == {}


async def test_a_file_that_is_not_what_was_announced_begins_anew(world: World) -> None:
    data = sound(1)
    pair = f"call_id {base64.b64encode(b'c').decode()},sha256 "
    pair += base64.b64encode(hashlib.sha256(b"other").hexdigest().encode()).decode()
    tus = {"Tus-Resumable": "1.0.0"}
    async with world.client() as client:
        begun = await client.post(
            module.UPLOADS,
            headers={**tus, "Upload-Length": str(len(data)), "Upload-Metadata": pair},
        )
        assert begun.status_code == 201
        url = begun.headers["Location"]
        piece = {**tus, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
        answer = await client.patch(url, headers=piece, content=data)
        assert answer.status_code == 460
        assert (await client.head(url, headers=tus)).headers["Upload-Offset"] == "0"
        wrong = await client.patch(url, headers={**piece, "Upload-Offset": "9"}, content=b"x")
        assert wrong.status_code == 409
        assert (await client.patch(url, headers=piece, content=data + b"x")).status_code == 413
        assert (await client.head(url)).status_code == 412
    assert await world.stored() == {}
    async with tenant(world.hub.engine, world.organization) as session:
        assert await session.scalar(select(Upload.status)) == "receiving"


async def test_a_box_sees_no_upload_of_another(world: World, tmp_path: Path) -> None:
    world.record("mine", sound(1))
    async with world.uploading():
        await world.holds(mine=sound(1))
    async with tenant(world.hub.engine, world.organization) as session:
        upload = await session.scalar(select(Upload.id))
        token = await create_token(session, world.organization, "another")
    files = HubFiles(tmp_path / "other")
    async with Door(world.hub.url, world.hub.authority.root_pem) as door:
        await door.redeem(files, token, ClaimDetails())
    async with hub_client(files) as client:
        answer = await client.head(f"{module.UPLOADS}/{upload}", headers={"Tus-Resumable": "1.0.0"})
        assert answer.status_code == 404
