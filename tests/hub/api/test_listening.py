# SPDX-License-Identifier: Apache-2.0
"""Recordings in a bucket are heard through the hub, whole or in parts."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.api.recordings import stretch
from cloud_hub.api.settings import ApiSettings
from cloud_hub.app import create_app
from cloud_hub.auth.passwords import Passwords
from tests.hub.api.people import Hub
from tests.hub.db.sample import fill
from tests.hub.s3 import s3_running
from tests.hub.servers import Database

KEY = "r/1"
"""As the sample has it."""


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("", None),
        ("bytes=0-3", (0, 3)),
        ("bytes=7-", (7, 9)),
        ("bytes=-3", (7, 9)),
        ("bytes=-30", (0, 9)),
        ("bytes=8-30", (8, 9)),
        ("bytes=10-", (1, 0)),
        ("bytes=-0", (1, 0)),
        ("bytes=5-3", None),
        ("bytes=-", None),
        ("bytes=0-1,4-5", None),
        ("lines=0-3", None),
    ],
)
def test_a_range_is_read_as_the_standard_says(wanted: str, part: tuple[int, int] | None) -> None:
    assert stretch(wanted, 10) == part


async def test_a_recording_in_a_bucket_is_heard_in_parts(
    api_settings: ApiSettings,
    api_engine: AsyncEngine,
    hub_database: Database,
    quick: Passwords,
    tmp_path: Path,
) -> None:
    sound = os.urandom(3 << 20)
    with s3_running() as settings:
        store = settings.open(tmp_path)
        app = create_app(api_settings, api_engine, passwords=quick, recordings=store)
        hub = Hub(app, api_engine, hub_database)
        sample = fill(hub_database.dsn("postgres"), "heard")
        listener = await hub.member(sample.organization_id, "operator")
        listed = (await listener.get("/recordings")).json()["data"]
        path = f"/recordings/{listed[0]['id']}/content"
        assert (await listener.get(path)).status_code == 404
        store.write(KEY, 0, sound)
        assert store.finish(KEY, len(sound), hashlib.sha256(sound).digest())
        whole = await listener.get(path)
        assert (whole.status_code, whole.content) == (200, sound)
        assert whole.headers["accept-ranges"] == "bytes"
        assert whole.headers["content-disposition"].startswith("attachment")
        part = await listener.get(path, headers={"Range": "bytes=-5"})
        assert (part.status_code, part.content) == (206, sound[-5:])
        assert part.headers["content-range"] == f"bytes 3145723-3145727/{len(sound)}"
        beyond = await listener.get(path, headers={"Range": "bytes=3145728-"})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */3145728")
    away = await listener.get(path)
    assert (away.status_code, away.json()["code"]) == (503, "unavailable")
    await hub.close()
