# SPDX-License-Identifier: Apache-2.0
"""The whole hub as a process: from an empty folder to a claimed box, and out again without a trace."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from appliance.sync.claim import ClaimDetails, Door, fetch_authority
from appliance.sync.identity import HubFiles
from cloud_hub.fleet.broker import free_port
from tests.hub.api.people import PASSWORD

DEADLINE_S = 180.0


@dataclass
class Started:
    """A hub that has said it is ready."""

    process: asyncio.subprocess.Process
    url: str
    boxes: str
    said: list[str] = field(default_factory=list)

    @property
    def setup_token(self) -> str | None:
        found = re.search(r"/setup#(\S+)", "\n".join(self.said))
        return found[1] if found else None


@asynccontextmanager
async def hub_process(environment: dict[str, str]) -> AsyncIterator[Started]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cloud_hub", stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    said: list[str] = []
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not said or said[-1] != "The hub is ready.":
                line = (await process.stdout.readline()).decode()
                assert line, f"the hub ended: {said}"
                said.append(line.strip())
        text = "\n".join(said)
        api = re.search(r"(http://\S+)/v1", text)
        boxes = re.search(r"boxes: (https://\S+)", text)
        assert api
        assert boxes
        yield Started(process, api[1], boxes[1], said)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(DEADLINE_S):
                await process.wait()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    ports = {name: str(free_port()) for name in ("NATS_PORT", "MQTT_PORT", "DEVICE_PORT")}
    wanted = {**ports, "API_PORT": "0", "DATA_FOLDER": str(tmp_path / "hub")}
    return {**os.environ, **{f"TRUNKLINE_HUB_{name}": value for name, value in wanted.items()}}


@pytest.mark.slow
async def test_an_empty_folder_becomes_a_hub_that_claims_a_box_and_stops_cleanly(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    async with hub_process(environment) as hub, httpx.AsyncClient(base_url=hub.url) as client:
        assert hub.setup_token
        page = await client.get("/setup")
        assert "Become the owner" in page.text
        wanted = {
            "token": hub.setup_token,
            "email": "ada@example.com",
            "name": "Ada",
            "password": PASSWORD,
            "organization": "Ward & Sons",
        }
        made = await client.post("/v1/setup", json=wanted)
        assert made.status_code == 201, made.text
        client.headers["X-CSRF-Token"] = made.json()["csrf_token"]
        authority = await fetch_authority(hub.boxes)
        async with Door(hub.boxes, authority.pem) as door:
            files = HubFiles(tmp_path / "box")
            pending = await door.ask(files, ClaimDetails(serial="7", name="lobby", software="1"))
            claimed = await client.post("/v1/appliances", json={"code": pending.code})
            assert claimed.status_code == 201, claimed.text
            assert await door.collect(files, pending) is not None
    assert hub.process.returncode == 0
    assert not list((tmp_path / "hub").glob("postgres/data/postmaster.pid"))
    async with hub_process(environment) as again, httpx.AsyncClient(base_url=again.url) as client:
        assert again.setup_token is None
        answer = await client.post(
            "/v1/sign-in", json={"email": "ada@example.com", "password": PASSWORD}
        )
        assert answer.status_code == 200
        listed = await client.get("/v1/appliances")
        assert [box["name"] for box in listed.json()["data"]] == ["lobby"]
        second = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cloud_hub", stderr=asyncio.subprocess.PIPE, env=environment
        )
        _, complaint = await second.communicate()
        assert second.returncode == 1
        assert b"another hub works in" in complaint
