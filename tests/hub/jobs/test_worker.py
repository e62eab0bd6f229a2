# SPDX-License-Identifier: Apache-2.0
"""How workers share the jobs: each is done by one at a time, whoever dies or fails."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.jobs.worker import Counts, Job, Worker
from tests.hub.servers import Database

HOUR = timedelta(hours=1)
DEADLINE_S = 120.0


@pytest.fixture(autouse=True)
def no_runs_yet(hub_database: Database) -> None:
    sql(hub_database, "DELETE FROM job_runs")


def sql(database: Database, statement: str, *values: Any) -> None:
    with psycopg.connect(database.dsn("postgres")) as connection:
        connection.execute(statement.encode(), values)


def run_of(database: Database, name: str) -> dict[str, Any]:
    with psycopg.connect(database.dsn("postgres"), row_factory=dict_row) as connection:
        row = connection.execute(
            "SELECT *, next_at - now() AS due_in FROM job_runs WHERE name = %s", (name,)
        ).fetchone()
    assert row is not None
    return row


class Diary:
    """Jobs that write down when they are done."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.at_once = 0
        self.most_at_once = 0

    def job(self, name: str, *, every: timedelta = HOUR) -> Job:
        async def work() -> Counts:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            await asyncio.sleep(0)
            self.at_once -= 1
            self.done.append(name)
            return {"things": 3, "others": 0}

        return Job(name, every, work)


async def test_what_is_due_is_done_once_and_then_rests(
    jobs_engine: AsyncEngine, hub_database: Database
) -> None:
    diary = Diary()
    worker = Worker(jobs_engine, [diary.job("a"), diary.job("b")], "w")
    assert {await worker.work_once(), await worker.work_once()} == {"a", "b"}
    assert await worker.work_once() is None
    row = run_of(hub_database, "a")
    assert (row["result"], row["error"], row["failures"]) == ({"things": 3, "others": 0}, "", 0)
    assert row["leased_until"] is None
    assert HOUR - timedelta(minutes=5) < row["due_in"] <= HOUR
    sql(hub_database, "UPDATE job_runs SET next_at = now() WHERE name = 'a'")
    assert await worker.work_once() == "a"


async def test_many_workers_do_each_job_once(jobs_engine: AsyncEngine) -> None:
    diary = Diary()
    jobs = [diary.job(str(number)) for number in range(6)]
    workers = [Worker(jobs_engine, jobs, f"w{number}") for number in range(4)]

    async def all_of(worker: Worker) -> None:
        while await worker.work_once():
            pass

    await asyncio.gather(*(all_of(worker) for worker in workers))
    assert sorted(diary.done) == sorted(job.name for job in jobs)


async def test_a_failing_job_is_noted_tried_again_and_stops_no_other(
    jobs_engine: AsyncEngine, hub_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    diary, broken = Diary(), True

    async def sometimes() -> Counts:
        if broken:
            raise RuntimeError("the storage is away\nwith more lines")
        return {}

    worker = Worker(jobs_engine, [Job("bad", HOUR, sometimes), diary.job("good")], "w")
    assert {await worker.work_once(), await worker.work_once()} == {"bad", "good"}
    assert diary.done == ["good"]
    row = run_of(hub_database, "bad")
    assert (row["error"], row["failures"]) == ("RuntimeError: the storage is away", 1)
    assert row["due_in"] <= timedelta(minutes=1), "not only after the whole hour"
    assert "the job bad failed" in caplog.text
    sql(hub_database, "UPDATE job_runs SET next_at = now() WHERE name = 'bad'")
    await worker.work_once()
    assert timedelta(minutes=1) < run_of(hub_database, "bad")["due_in"] <= timedelta(minutes=2)
    broken = False
    sql(hub_database, "UPDATE job_runs SET next_at = now() WHERE name = 'bad'")
    await worker.work_once()
    assert run_of(hub_database, "bad")["failures"] == 0


async def test_the_job_of_a_worker_that_died_is_taken_when_its_lease_is_over(
    jobs_engine: AsyncEngine, hub_database: Database
) -> None:
    diary = Diary()
    worker = Worker(jobs_engine, [diary.job("a")], "second")
    sql(
        hub_database,
        "INSERT INTO job_runs (name, worker, leased_until) VALUES ('a', 'dead', now() + %s)",
        HOUR,
    )
    assert await worker.work_once() is None
    sql(hub_database, "UPDATE job_runs SET leased_until = now() - interval '1 s'")
    assert await worker.work_once() == "a"
    assert run_of(hub_database, "a")["worker"] == "second"


async def test_a_worker_that_is_told_to_stop_gives_its_job_back(
    jobs_engine: AsyncEngine, hub_database: Database
) -> None:
    begun = asyncio.Event()

    async def endless() -> Counts:
        begun.set()
        await asyncio.Event().wait()
        return {}

    running = asyncio.create_task(Worker(jobs_engine, [Job("a", HOUR, endless)], "w").run())
    await asyncio.wait_for(begun.wait(), DEADLINE_S)
    assert run_of(hub_database, "a")["leased_until"] is not None
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    row = run_of(hub_database, "a")
    assert row["leased_until"] is None
    assert row["due_in"] <= timedelta(0), "another worker can go on at once"


@pytest.mark.slow
async def test_two_processes_do_all_jobs_and_stop_when_told(
    hub_database: Database, tmp_path: Any
) -> None:
    environment = {
        **os.environ,
        "TRUNKLINE_HUB_DATABASE_JOBS_URL": hub_database.dsn("trunkline_jobs"),
        "TRUNKLINE_HUB_DATA_FOLDER": str(tmp_path),
    }
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cloud_hub", "jobs", env=environment
        )
        for _ in range(2)
    ]
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not _all_done(hub_database):  # noqa: ASYNC110 - another process tells by its rows
                await asyncio.sleep(0.2)
            while not all(_minds_sigterm(each.pid) for each in processes):  # noqa: ASYNC110 - one may start late
                await asyncio.sleep(0.05)
            for process in processes:
                process.send_signal(signal.SIGTERM)
            assert [await process.wait() for process in processes] == [0, 0]
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _minds_sigterm(pid: int) -> bool:
    """Return whether the process has a handler for it (proc(5), `SigCgt`)."""
    caught = re.search(
        r"^SigCgt:\t([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
    )
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def _all_done(database: Database) -> bool:
    with psycopg.connect(database.dsn("postgres")) as connection:
        row = connection.execute(
            "SELECT count(*), count(finished_at), max(error) FROM job_runs"
        ).fetchone()
    assert row is not None
    assert not row[2]
    return bool(row[0] == row[1] == 9)
