# SPDX-License-Identifier: Apache-2.0
"""A whole box with a call on its line writes for its hub what it writes for itself."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from uuid import UUID

import pytest

from appliance.store import STORE_FILE, Reader
from tests.engines.memory_line import MemoryLine, start_box
from tests.telephony.peers import until


@pytest.mark.slow
async def test_a_call_is_in_the_outbox_from_its_beginning_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUNKLINE__HUB__ENABLED", "true")
    line = MemoryLine(1)
    box = await start_box(tmp_path, line, placements=("inline", "inline"))
    try:
        assert box.hub is not None
        assert await box.hub.state() is None  # no hub has claimed it; calls are answered
        line.ring(box.switchboard)
        (caller,) = line.callers
        await until(lambda: caller.asked >= 2, 60)
        caller.stopping = True
        await until(lambda: caller.finished, 60)
        await asyncio.wait_for(box.switchboard.idle(), 10)
    finally:
        await box.aclose()
    with Reader(tmp_path / "var" / STORE_FILE) as store:
        (call,) = store.calls()
        assert UUID(call.id).version == 7
        (part,) = [part for part in store.outbox_parts() if part.stream == "calls"]
        rows = store.outbox_rows("calls", part.epoch, 1, most=10**6, max_bytes=2**30)
        told = [(kind, json.loads(data)) for _, kind, _, data in rows]
        assert [kind for kind, _ in told][:1] == ["call.began"]
        assert told[-1][0] == "call.ended"
        assert told[-1][1]["cause"] == call.cause
        events = [data["seq"] for kind, data in told if kind == "call.event"]
        assert events == [event.seq for event in store.events(call.id)]
        lines = [(data["who"], data["text"]) for kind, data in told if kind == "call.turn"]
        assert lines == [(line.who, line.text) for line in store.transcript(call.id)]
        used = {(d["provider"], d["kind"], d["unit"]): 0 for k, d in told if k == "usage"}
        for kind, data in told:
            if kind == "usage":
                used[data["provider"], data["kind"], data["unit"]] += data["quantity"]
        assert used == {(u.provider, u.kind, u.unit): u.quantity for u in store.usage(call.id)}
