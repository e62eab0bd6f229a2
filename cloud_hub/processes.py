# SPDX-License-Identifier: Apache-2.0
"""What runs beside the rest for a while: tasks, and child processes that are started again when they die."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

log = logging.getLogger(__name__)

STOP_DEADLINE_S = 15.0
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
STEADY_S = 30.0
"""A process that ran this long is started again at once."""


@asynccontextmanager
async def in_background(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Do `work` in a task for as long as the block lasts."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def kept_running(
    name: str, command: Sequence[str], environment: Mapping[str, str]
) -> AsyncIterator[None]:
    """Keep a process running for the length of the block; at its end it gets SIGTERM and time to finish."""
    async with in_background(_keep(name, command, environment), f"keeper of {name}"):
        yield


async def _keep(name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
    clock, pause = asyncio.get_running_loop().time, FIRST_PAUSE_S
    while True:
        started = clock()
        process = await asyncio.create_subprocess_exec(
            *_bound_to_parent(), *command, env=dict(environment), start_new_session=True
        )
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await _stop(process)
            raise
        pause = FIRST_PAUSE_S if clock() - started > STEADY_S else min(pause * 2, LONGEST_PAUSE_S)
        log.error("%s ended with code %s; starting it again in %.1f s", name, code, pause)
        await asyncio.sleep(pause)


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_DEADLINE_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _bound_to_parent() -> list[str]:
    # setpriv (util-linux) sets the parent-death signal between fork and exec.
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
