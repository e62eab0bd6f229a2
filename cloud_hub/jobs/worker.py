# SPDX-License-Identifier: Apache-2.0
"""Does what is due. Any number of workers share the jobs through one table.

A job is taken by a lease on its row (`FOR UPDATE SKIP LOCKED`, then committed), so no transaction stays
open while it works and a pooler between is no matter. A worker that dies leaves the lease behind; when it has
run out, another takes the job. For that moment, two might be at one job: each job is such that doing it
twice, even at once, is the same as once.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.db.session import nobody

log = logging.getLogger(__name__)

LEASE: Final = timedelta(minutes=30)
PAUSE_S: Final = 15.0
"""Between two looks at what is due."""
RETRY: Final = timedelta(minutes=1)
LONGEST_RETRY: Final = timedelta(hours=1)

Counts = Mapping[str, int]

_ENLIST = text("INSERT INTO job_runs (name) VALUES (:name) ON CONFLICT DO NOTHING")
_TAKE = text("""
    UPDATE job_runs
    SET leased_until = now() + :lease, worker = :worker, started_at = now()
    WHERE name = (
        SELECT name FROM job_runs
        WHERE name = ANY (:names) AND next_at <= now()
            AND (leased_until IS NULL OR leased_until < now())
        ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING name, failures
""")
_DONE = text("""
    UPDATE job_runs
    SET leased_until = NULL, finished_at = now(), next_at = now() + :every,
        result = CAST(:result AS jsonb), error = '', failures = 0
    WHERE name = :name AND worker = :worker AND leased_until IS NOT NULL
""")
_FAILED = text("""
    UPDATE job_runs
    SET leased_until = NULL, finished_at = now(), next_at = now() + :pause,
        error = :error, failures = failures + 1
    WHERE name = :name AND worker = :worker AND leased_until IS NOT NULL
""")
_LET_GO = text("""
    UPDATE job_runs SET leased_until = NULL WHERE worker = :worker AND leased_until IS NOT NULL
""")


@dataclass(frozen=True, slots=True)
class Job:
    """Something done by the clock.

    Attributes:
        name: also of its row.
        every: from the end of one run to the next.
        work: does it, and says how many of what; doing it again must do no harm.
    """

    name: str
    every: timedelta
    work: Callable[[], Awaitable[Counts]]


class Worker:
    """One process at the jobs.

    Args:
        engine: of the role `trunkline_jobs`.
        jobs: all of them.
        name: by which an operator finds this process.
        lease: how long a job may take before another worker may think this one dead.
    """

    def __init__(
        self, engine: AsyncEngine, jobs: Sequence[Job], name: str, *, lease: timedelta = LEASE
    ) -> None:
        self._engine, self._name, self._lease = engine, name, lease
        self._jobs = {job.name: job for job in jobs}

    async def run(self, pause_s: float = PAUSE_S) -> None:
        """Do what is due until cancelled; a database that is away is waited for."""
        while True:
            try:
                while await self.work_once():
                    pass
            except (SQLAlchemyError, OSError) as error:
                log.warning("the jobs wait: %s", str(error).partition("\n")[0])
            await asyncio.sleep(pause_s)

    async def work_once(self) -> str | None:
        """Do one job that is due; return its name, None when none is. Cancelled, it gives the job back.

        Raises:
            SQLAlchemyError: the database cannot be used now.
        """
        taken = await self._take()
        if taken is None:
            return None
        job, failures = self._jobs[taken[0]], taken[1]
        try:
            async with asyncio.timeout(self._lease.total_seconds()):
                counts = await job.work()
        except asyncio.CancelledError:
            await self._let_go()
            raise
        except Exception as error:  # one job must not stop the others, whatever it is
            log.exception("the job %s failed", job.name)
            await self._failed(job, failures, error)
        else:
            told = ", ".join(f"{what} {count}" for what, count in counts.items() if count)
            log.info("job %s: %s", job.name, told or "nothing to do")
            await self._write(_DONE, name=job.name, every=job.every, result=json.dumps({**counts}))
        return job.name

    async def _take(self) -> tuple[str, int] | None:
        async with nobody(self._engine) as session:
            for name in self._jobs:
                await session.execute(_ENLIST, {"name": name})
        async with nobody(self._engine) as session:
            wanted = {"names": list(self._jobs), "worker": self._name, "lease": self._lease}
            row = (await session.execute(_TAKE, wanted)).one_or_none()
        return None if row is None else (row.name, row.failures)

    async def _failed(self, job: Job, failures: int, error: Exception) -> None:
        pause = min(RETRY * 2 ** min(failures, 10), LONGEST_RETRY, job.every)
        said = f"{type(error).__name__}: {error}".partition("\n")[0][:500]
        await self._write(_FAILED, name=job.name, pause=pause, error=said.replace("\0", ""))

    async def _let_go(self) -> None:
        async with nobody(self._engine) as session:
            await session.execute(_LET_GO, {"worker": self._name})

    async def _write(self, statement: object, **values: object) -> None:
        async with nobody(self._engine) as session:
            await session.execute(statement, {"worker": self._name, **values})  # type: ignore[call-overload]
