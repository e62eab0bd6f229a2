# SPDX-License-Identifier: Apache-2.0
"""The examples of the API guide, run as they stand against a served application."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import uvicorn
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from appliance.sync.claim import ClaimDetails, Door
from appliance.sync.identity import HubFiles
from cloud_hub.auth.accounts import make_setup_link
from cloud_hub.db import models as m
from cloud_hub.db.dsn import sqlalchemy_url
from cloud_hub.db.ids import uuid7
from cloud_hub.fleet.tls_peer import QuietServer
from tests.hub.api.people import Hub
from tests.hub.device import device_hub
from tests.hub.mqtt_box import until

GUIDE = Path(__file__).parents[3] / "docs" / "hub" / "api.md"


def parts() -> tuple[str, str]:
    """The examples before and after there are calls."""
    before, after = GUIDE.read_text().split("## Calls")
    blocks = [
        "\n".join(re.findall(r"```bash\n(.*?)```", each, re.DOTALL)) for each in (before, after)
    ]
    return blocks[0], blocks[1]


async def shell(folder: Path, script: str, **variables: str) -> str:
    """Run a script in which nothing may fail; variables and functions are handed on to the next."""
    state = folder / "state.sh"
    text = f"set -euo pipefail\n[ ! -e {state} ] || . {state}\n{script}\n"
    text += f"declare -p HUB KEY BOX > {state}; declare -f >> {state}\n"
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        text,
        cwd=folder,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode() + output.decode()
    return output.decode()


def add_call(dsn: str, appliance_id: str) -> None:
    """A call with a turn, as ingest would have written it."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT organization_id FROM appliances").fetchone()
    assert row is not None
    call_id, now = uuid7(), datetime.now(UTC)
    engine = create_engine(sqlalchemy_url(dsn))
    with Session(engine) as session, session.begin():
        session.add(
            m.Call(
                organization_id=row[0],
                id=call_id,
                appliance_id=appliance_id,
                direction="inbound",
                status="ended",
                started_at=now,
            )
        )
        session.flush()
        words = "Good morning, Ward and Sons."
        session.add(
            m.Turn(
                organization_id=row[0],
                call_id=call_id,
                seq=0,
                role="agent",
                text=words,
                started_ms=0,
            )
        )
    engine.dispose()


async def test_every_example_of_the_guide_works(hub: Hub, tmp_path: Path) -> None:
    config = uvicorn.Config(hub.app, host="127.0.0.1", port=0, lifespan="off", log_level="warning")
    server = QuietServer(config)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started, "the API")
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    token = await make_setup_link(hub.engine)
    assert token is not None
    before, after = parts()
    async with (
        device_hub(tmp_path, hub.engine) as boxes,
        Door(boxes.url, boxes.authority.root_pem) as door,
    ):
        pending = await door.ask(HubFiles(tmp_path / "box"), ClaimDetails("7", "lobby", "1"))
        await shell(tmp_path, before, HUB=url, TOKEN=token, CODE=pending.code)
    box = re.search(r'BOX="([^"]+)"', (tmp_path / "state.sh").read_text())
    assert box
    add_call(hub.database.dsn("postgres"), box[1])
    said = await shell(tmp_path, after)
    assert "Good morning, Ward and Sons." in said
    assert '"intact":true' in said
    server.should_exit = True
    await serving
