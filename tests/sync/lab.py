# SPDX-License-Identifier: Apache-2.0
"""What the tests of the link share."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Callable

from appliance.store import Store
from appliance.sync.link import HubLink
from appliance.sync.mqtt import Endpoint
from appliance.sync.sender import Limits
from tests.hub.servers import Nats, wait_for_port

QUICK = Limits(answer_s=0.5, retry_s=0.2, retry_max_s=1.0, idle_s=0.5)
BOX = "019a0000-0000-7000-8000-00000000b0c5"


async def until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def linked(store: Store, nats: Nats, **options: object) -> AsyncIterator[HubLink]:
    link = HubLink(store, Endpoint("127.0.0.1", nats.mqtt_port, BOX), limits=QUICK, **options)  # type: ignore[arg-type]
    link.start()
    try:
        yield link
    finally:
        await asyncio.to_thread(link.close)


def start_again(server: Nats) -> subprocess.Popen[bytes]:
    """Start the server once more, with the same ports; it has forgotten everything."""
    process = subprocess.Popen(server.process.args)
    wait_for_port(server.mqtt_port, process)
    return process
