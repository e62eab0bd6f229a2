# SPDX-License-Identifier: Apache-2.0
"""`python -m cloud_hub.jobs`, or `python -m cloud_hub jobs`: one worker. Start as many as are wanted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from datetime import timedelta
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.db.session import create_engine
from cloud_hub.fleet.recordings import RecordingStore
from cloud_hub.fleet.settings import process_name
from cloud_hub.fleet.storage import StorageSettings
from cloud_hub.jobs.retention import Retention
from cloud_hub.jobs.settings import JobSettings
from cloud_hub.jobs.upkeep import Upkeep
from cloud_hub.jobs.worker import Job, Worker
from cloud_hub.settings import DatabaseSettings


def all_jobs(engine: AsyncEngine, store: RecordingStore, settings: JobSettings) -> list[Job]:
    """Return everything that is done by the clock."""
    upkeep = Upkeep(engine, store, quarantine=timedelta(days=settings.quarantine_days))
    retention = Retention(
        engine, store, days=settings.retention_days, months=settings.retention_months
    )
    minute, hour = timedelta(minutes=1), timedelta(hours=1)
    return [
        Job("partitions", hour, upkeep.partitions),
        Job("commands", minute, upkeep.commands),
        Job("limits", 10 * minute, upkeep.limits),
        Job("claims", 10 * minute, upkeep.claims),
        Job("idempotency", hour, upkeep.idempotency),
        Job("uploads", hour, upkeep.uploads),
        Job("people", 24 * hour, upkeep.people),
        Job("quarantine", 24 * hour, upkeep.quarantine),
        Job("retention", 6 * hour, retention.work),
    ]


async def work(
    database: DatabaseSettings, storage: StorageSettings, settings: JobSettings, data_folder: Path
) -> None:
    """Run a worker until SIGTERM or SIGINT."""
    if database.database_jobs_url is None:
        sys.exit("TRUNKLINE_HUB_DATABASE_JOBS_URL is not set: a worker needs the database")
    engine = create_engine(database.database_jobs_url.get_secret_value(), pool_size=1)
    jobs = all_jobs(engine, storage.open(data_folder), settings)
    worker = Worker(engine, jobs, process_name("jobs"))
    working = asyncio.create_task(worker.run(), name="jobs")
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, working.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await working
    finally:
        await engine.dispose()


def main() -> None:
    """Run a worker with the settings of the environment."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    database = DatabaseSettings()
    asyncio.run(work(database, StorageSettings(), JobSettings(), database.data_folder))


if __name__ == "__main__":
    main()
