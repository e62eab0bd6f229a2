# SPDX-License-Identifier: Apache-2.0
"""schemathesis against the served API, with all its checks: what the description promises is so.

Once as a program whose key has every scope, once as the owner signed in. Deeds that end the session that is
asking (signing out, a new password) are left to other tests.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn

from cloud_hub.auth.operations import SCOPES
from cloud_hub.fleet.tls_peer import QuietServer
from tests.hub.api.people import Hub, Person
from tests.hub.mqtt_box import until

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 4
"""Of each operation and phase; more are found by running it longer, see the configuration file."""
SEED = 20261121
ENDS_THE_SESSION = (
    "sign_out",
    "revoke_session",
    "change_password",
    "confirm_second_factor",
    "remove_second_factor",
    "remove_member",
    "update_member",
)
DEADLINE_S = 900.0


@pytest.fixture
async def url(hub: Hub) -> AsyncIterator[str]:
    """The application, served."""
    hub.app.openapi()  # made once and kept: who loads it waits at most 10 s
    config = uvicorn.Config(hub.app, host="127.0.0.1", port=0, lifespan="off", log_level="warning")
    server = QuietServer(config)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started, "the API")
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await serving


async def schemathesis(url: str, *options: str) -> str:
    """Run it; return its report. What it finds is a failure."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)),
        *("run", f"{url}/v1/openapi.json", "--checks", "all", "--workers", "1", "--no-color"),
        *("--max-examples", str(EXAMPLES), "--seed", str(SEED), "--generation-database", "none"),
        *("--phases", "examples,coverage,fuzzing", "--suppress-health-check", "all"),
        *("--request-timeout", "60"),
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    said: list[str] = []
    try:
        async with asyncio.timeout(DEADLINE_S):
            async for line in process.stdout:
                said.append(line.decode())  # noqa: PERF401 - also what is said until time runs out counts
            await process.wait()
    except TimeoutError:
        pytest.fail(f"not done in {DEADLINE_S:.0f} s: {''.join(said)}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    report = "".join(said)
    assert process.returncode == 0, report
    return report


@pytest.mark.slow
async def test_the_api_is_as_described_for_a_program(url: str, ada: Person) -> None:
    made = await ada.made("/keys", {"name": "all of it", "scopes": list(SCOPES)})
    report = await schemathesis(url, "--header", f"Authorization: Bearer {made['key']}")
    assert re.search(r"Operations:\s+\d+ selected / \d+ total", report)


@pytest.mark.slow
async def test_the_api_is_as_described_for_the_owner(url: str, ada: Person) -> None:
    cookies = "; ".join(f"{each.name}={each.value}" for each in ada.client.cookies.jar)
    left_out = [part for name in ENDS_THE_SESSION for part in ("--exclude-operation-id", name)]
    await schemathesis(
        url,
        *("--header", f"Cookie: {cookies}"),
        *("--header", f"X-CSRF-Token: {ada.client.headers['X-CSRF-Token']}"),
        *("--header", f"Trunkline-Organization: {ada.organization_id}"),
        # The cookie given above goes with every request, also those that would be tried without.
        *("--generation-with-security-parameters", "false"),
        *left_out,
    )
    assert (await ada.get("/session")).status_code == 200, "the session was good to the end"
