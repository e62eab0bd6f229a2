# SPDX-License-Identifier: Apache-2.0
"""A NATS cluster of three that copy every stream, two ingest workers: one of each may die at any time."""

from __future__ import annotations

import pytest
from nats.js.api import StreamInfo

from cloud_hub.ingest.worker import STREAM
from tests.hub.losses.hub import RealHub, wait_for
from tests.hub.losses.processes import children
from tests.hub.losses.world import Scale, killing, running, under_fire
from tests.hub.servers import folder_for_server

pytestmark = pytest.mark.slow

SCALE = Scale(
    boxes=10, processes=2, rate=100, nodes=3, workers=2, patience=0.2, reconnect_max_s=2.0
)


async def test_a_node_and_a_worker_killed_under_load_lose_nothing_and_repeat_nothing() -> None:
    with folder_for_server("losses") as folder:
        async with running(folder, SCALE) as world:
            assert world.hub.process.pid is not None

            async def two_workers() -> bool:
                return len(children(world.hub.process.pid or 0, "cloud_hub.ingest")) == 2

            await wait_for(two_workers, "two workers", 30)
            await under_fire(world, killing(world, ["broker", "ingest"] * 2), 15, 3)
            await world.settle(120)
            verdict = await world.count()
            assert verdict.clean, verdict
            assert verdict.rows > 500
            assert world.kills == {"broker": 2, "ingest": 2}
            info = await stream(world.hub)
            assert info.config.num_replicas == 3
            assert info.cluster is not None
            assert len(info.cluster.replicas or ()) == 2


async def stream(hub: RealHub) -> StreamInfo:
    """Ask the cluster about the stream of what boxes send."""
    client = await hub.settings.access().connect_hub("test")
    try:
        return await client.jetstream().stream_info(STREAM)
    finally:
        await client.close()
