# SPDX-License-Identifier: Apache-2.0
"""What a process holds at a moment, and what is left of it later: tasks, threads, open files."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SETTLE_S = 2.0
"""How long after `aclose` a thread may take to be really gone."""


@dataclass(frozen=True, slots=True)
class Held:
    """Tasks and Python threads that live; how many native threads and open files there are.

    Native counts come from /proc and are 0 where it does not exist.
    """

    tasks: frozenset[asyncio.Task[object]]
    threads: frozenset[threading.Thread]
    native_threads: int
    files: int


def held() -> Held:
    """Look. Call it on the event loop's thread."""
    return Held(
        frozenset(task for task in asyncio.all_tasks() if not task.done()),
        frozenset(threading.enumerate()),
        _entries("/proc/self/task"),
        _entries("/proc/self/fd"),
    )


def _entries(folder: str) -> int:
    try:
        return len(list(Path(folder).iterdir()))
    except OSError:
        return 0


def new_tasks(before: Held, now: Held) -> list[str]:
    """Name the tasks that were not there before."""
    return sorted(_task_name(task) for task in now.tasks - before.tasks)


def _task_name(task: asyncio.Task[object]) -> str:
    coroutine = task.get_coro()
    return f"{task.get_name()} ({getattr(coroutine, '__qualname__', coroutine)})"


def new_threads(before: Held, now: Held) -> list[str]:
    """Name the threads that were not there before, but for the loop's own default pool."""
    return sorted(
        thread.name
        for thread in now.threads - before.threads
        if not thread.name.startswith("asyncio_")
    )


async def left_tasks(before: Held) -> list[str]:
    """Name the tasks that are still there after `SETTLE_S`; at once when there are none."""
    return await _settled(lambda: new_tasks(before, held()))


async def left_threads(before: Held) -> list[str]:
    """Name the threads that are still there after `SETTLE_S`; at once when there are none."""
    return await _settled(lambda: new_threads(before, held()))


async def _settled(problem: Callable[[], list[str]]) -> list[str]:
    deadline = time.monotonic() + SETTLE_S
    while found := problem():
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.01)
    return found
