# SPDX-License-Identifier: Apache-2.0
"""`python -m cloud_hub.ingest`: one worker. Start as many as are needed, on any machine."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from cloud_hub.db.session import create_engine
from cloud_hub.fleet.settings import FleetSettings, process_name
from cloud_hub.ingest.worker import Worker
from cloud_hub.settings import DatabaseSettings


async def work(settings: FleetSettings, database: DatabaseSettings) -> None:
    """Run a worker until SIGTERM or SIGINT."""
    if database.database_ingest_url is None:
        sys.exit("TRUNKLINE_HUB_DATABASE_INGEST_URL is not set: a worker needs the database")
    engine = create_engine(database.database_ingest_url.get_secret_value())
    client = await settings.access().connect_hub(process_name("ingest"))
    worker = Worker(client, engine)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    try:
        await worker.run(settings.nats_replicas)
    finally:
        # What was acknowledged is flushed; draining would wait for pulls that nobody reads any more.
        await client.flush()
        await client.close()
        await engine.dispose()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(work(FleetSettings(), DatabaseSettings()))
