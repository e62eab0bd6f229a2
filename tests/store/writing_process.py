# SPDX-License-Identifier: Apache-2.0
"""A process that talks through a call until it is killed. Used by the tests of the store.

Appends an event every few milliseconds and then prints its number; a number printed with `synced`
in front is on the disk.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

from appliance.store import Event, Store


def tell(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def talk(path: Path) -> None:
    store = Store.open(path, outbox=True)
    await store.recover()
    call_id = f"call-{len(store.calls(10_000))}"
    store.begin_call(call_id, agent="desk", started_at=datetime.now(UTC))
    await store.sync()
    tell("call", call_id)
    seq = 0
    while True:
        for _ in range(4):
            store.append(call_id, [Event(call_id, seq, seq * 5, "x", {"text": "word " * 20})])
            tell("appended", seq)
            seq += 1
        await asyncio.sleep(0.005)
        if seq % 200 == 0:
            await store.sync()
            tell("synced", seq - 1)


if __name__ == "__main__":
    asyncio.run(talk(Path(sys.argv[1])))
