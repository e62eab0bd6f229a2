# SPDX-License-Identifier: Apache-2.0
"""A box that talks and reports to its hub until it is killed. Used by the tests of the link."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

from appliance.store import Event, Store
from appliance.sync.link import HubLink
from appliance.sync.mqtt import Endpoint
from appliance.wire import new_id


async def talk(path: Path, mqtt_port: int, box_id: str) -> None:
    store = Store.open(path, outbox=True)
    await store.own_outbox(box_id)
    await store.recover()
    HubLink(store, Endpoint("127.0.0.1", mqtt_port, box_id)).start()
    call = new_id()
    store.begin_call(call, agent="desk", started_at=datetime.now(UTC))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    seq = 0
    while True:
        for _ in range(5):
            store.append(call, [Event(call, seq, seq * 5, "x", {"text": "word " * 10})])
            store.record_usage(call, provider="p", kind="prompt", unit="tokens", quantity=1)
            seq += 1
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(talk(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
