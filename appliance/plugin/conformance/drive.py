# SPDX-License-Identifier: Apache-2.0
"""Runs a provider's streams the way the core does, and measures how they behave when interrupted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from appliance.plugin.conformance.findings import (
    NotApplicableError,
    ViolationError,
    require,
)
from appliance.plugin.conformance.leaks import held, left_tasks
from appliance.plugin.conformance.watchdog import LIMIT_S, LoopWatchdog
from appliance.plugin.errors import ProviderError

T = TypeVar("T")

CANCEL_LIMIT_S = 0.020
"""How long a stream may take to end after its task was cancelled."""

ATTEMPTS = 3
"""A busy machine can spoil a measurement; it does not spoil three in a row."""

STREAM_DEADLINE_S = 60.0


async def given(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield `items`, giving way to other tasks between them, as live input does."""
    for item in items:
        await asyncio.sleep(0)
        yield item


async def collect(stream: AsyncIterator[T]) -> list[T]:
    """Return all items of a stream."""
    return [item async for item in stream]


async def take(stream: AsyncIterator[T], what: str) -> T:
    """Return the next item.

    Raises:
        ViolationError: the stream ended, or nothing came in time.
    """
    try:
        return await asyncio.wait_for(anext(stream), STREAM_DEADLINE_S)
    except StopAsyncIteration:
        raise ViolationError(f"the stream ended without {what}") from None
    except TimeoutError:
        raise ViolationError(f"no {what} came within {STREAM_DEADLINE_S:g} s") from None


@dataclass(frozen=True, slots=True)
class Interruption:
    """When to interrupt a stream: after `items` came, then `after_s` more."""

    items: int
    after_s: float
    what: str


INTERRUPTIONS = (
    Interruption(0, 0.0, "at once"),
    Interruption(0, 0.03, "after 30 ms"),
    Interruption(1, 0.0, "after the first item"),
)


async def cancel_quickly(stream: Callable[[], AsyncIterator[object]]) -> str:
    """Cancel the task that consumes a stream, at several moments.

    Returns:
        The slowest moment's latency, for the report.

    Raises:
        ViolationError: it took longer than `CANCEL_LIMIT_S`, went on, or left a task behind.
        NotApplicableError: every stream was over before it could be interrupted.
    """
    before = held()
    worst, moment = -1.0, ""
    for interruption in INTERRUPTIONS:
        latency = await _best_of(partial(_cancel_once, stream, interruption))
        if latency is not None and latency > worst:
            worst, moment = latency, interruption.what
    if worst < 0:
        raise NotApplicableError("it is done before it can be interrupted")
    require(
        worst <= CANCEL_LIMIT_S,
        f"cancelled {moment}, it took {worst * 1000:.0f} ms to stop; "
        f"{CANCEL_LIMIT_S * 1000:.0f} ms are allowed",
    )
    left = await left_tasks(before)
    require(not left, f"cancelled, it left tasks behind: {', '.join(left)}")
    return f"{worst * 1000:.1f} ms at most"


async def _best_of(measure: Callable[[], Awaitable[float | None]]) -> float | None:
    best: float | None = None
    for _ in range(ATTEMPTS):
        latency = await measure()
        if latency is None:
            continue
        best = latency if best is None else min(best, latency)
        if best <= CANCEL_LIMIT_S:
            break
    return best


async def _cancel_once(
    stream: Callable[[], AsyncIterator[object]], point: Interruption
) -> float | None:
    """Return the seconds from cancel to the end of the task, or None when it was over before."""
    came = asyncio.Event()
    seen = 0

    async def consume() -> None:
        nonlocal seen
        async for _ in stream():
            seen += 1
            if seen >= point.items:
                came.set()

    task = asyncio.create_task(consume(), name="conformance-consumer")
    if point.items:
        arrival = asyncio.create_task(came.wait(), name="conformance-arrival")
        await asyncio.wait(
            {task, arrival}, timeout=STREAM_DEADLINE_S, return_when=asyncio.FIRST_COMPLETED
        )
        arrival.cancel()
    await asyncio.sleep(point.after_s)
    if task.done():
        task.result()
        return None
    start = time.perf_counter()
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5.0)
    latency = time.perf_counter() - start
    require(bool(done), f"cancelled {point.what}, it had not stopped after 5 s")
    if not task.cancelled() and (error := task.exception()) is not None:
        raise ViolationError(f"cancelled, it raised {type(error).__name__}: {error}")
    require(task.cancelled(), f"cancelled {point.what}, it carried on: it swallowed CancelledError")
    return latency


async def loop_stays_free(work: Callable[[], Awaitable[object]]) -> str:
    """Run `work` and see that the event loop was never held up longer than a frame.

    Raises:
        ViolationError: it was, in each of `ATTEMPTS`.
    """
    best, where = float("inf"), ""
    for _ in range(ATTEMPTS):
        async with LoopWatchdog() as watchdog:
            await work()
        if watchdog.longest_s < best:
            best, where = watchdog.longest_s, watchdog.where
        if best <= LIMIT_S:
            return f"{best * 1000:.1f} ms at most"
    at = f" at {where}" if where else ""
    raise ViolationError(
        f"it blocked the event loop for {best * 1000:.0f} ms{at}; "
        f"{LIMIT_S * 1000:.0f} ms are allowed: compute in a thread of your own"
    )


class SourceBrokeError(Exception):
    """Raised on purpose by the input of a stream."""


async def breaking(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield `items`, then fail as a lost connection does."""
    async for item in given(items):
        yield item
    raise SourceBrokeError


async def ends_when_its_source_breaks(stream: AsyncIterator[object]) -> str:
    """Consume a stream whose input fails.

    Raises:
        ViolationError: it hung, ended as if all were well, or raised something of its own.
    """
    before = held()
    try:
        await asyncio.wait_for(collect(stream), STREAM_DEADLINE_S)
    except SourceBrokeError:
        detail = "the failure came through"
    except ProviderError as error:
        detail = f"raised {type(error).__name__}"
    except TimeoutError:
        raise ViolationError("its input failed and it hung") from None
    except Exception as error:
        raise ViolationError(
            f"its input failed and it raised {type(error).__name__}: {error}"
        ) from error
    else:
        raise ViolationError("its input failed and it ended as if all were well")
    left = await left_tasks(before)
    require(not left, f"its input failed and it left tasks behind: {', '.join(left)}")
    return detail
