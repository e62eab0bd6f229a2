# SPDX-License-Identifier: Apache-2.0
"""Whether a worker is alive: asks for its health, again and again, and tells what it notices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from appliance.engines.worker.link import Link


@dataclass(frozen=True, slots=True)
class PulseLimits:
    """When a worker that does not answer counts as what.

    A hung worker is silent for at most every_s + misses * timeout_s before its streams are given up:
    that has to stay below the second within which the next provider answers.

    Attributes:
        every_s: between two questions.
        timeout_s: for an answer.
        misses: unanswered questions after which nobody waits for it any more.
        hang_s: without any answer after which it is killed.
        busy_s: the same for one that wants to run and gets no processor time: it is not hung, and to
            start another one would take even more of what is short.
        slack_s: an answer that we notice missing later than this was not awaited in earnest: then this
            process is short of time itself, and has no right to judge.
    """

    every_s: float = 0.2
    timeout_s: float = 0.3
    misses: int = 2
    hang_s: float = 3.0
    busy_s: float = 15.0
    slack_s: float = 0.1


@dataclass(frozen=True, slots=True)
class PulseEvents:
    """Who is told and asked.

    Attributes:
        silent: called when it stops answering.
        back: called when it answers again.
        check: asked at each beat; returns why the worker must go, or "".
        wants_to_run: asked when an answer is missing: whether it would run if it could.
    """

    silent: Callable[[], None]
    back: Callable[[], None]
    check: Callable[[], str]
    wants_to_run: Callable[[], bool]


async def follow(
    link: Link,
    limits: PulseLimits,
    events: PulseEvents,
    exited: asyncio.Future[int] | None = None,
) -> str:
    """Watch until the worker cannot be used any more; return why.

    Args:
        link: to the worker.
        limits: of patience.
        events: who is told.
        exited: becomes the exit code of its process; None for one that is somebody else's: it is
            watched for ever.
    """
    clock = asyncio.get_running_loop().time
    missed, hung_s, answered = 0, 0.0, clock()
    while True:
        await _pause(limits.every_s if not missed else limits.every_s / 4, exited)
        if exited is not None and exited.done():
            return f"ended with code {exited.result()}"
        if why := events.check():
            return why
        began = clock()
        if await link.healthy(limits.timeout_s):
            if missed >= limits.misses:
                events.back()
            missed, hung_s, answered = 0, 0.0, clock()
            continue
        took = clock() - began
        if took <= limits.timeout_s + limits.slack_s and not events.wants_to_run():
            missed += 1
            hung_s += took
            if missed == limits.misses:
                events.silent()
        if exited is None:
            continue
        if hung_s > limits.hang_s:
            return f"has not answered for {limits.hang_s:g} s"
        if clock() - answered > limits.busy_s:
            return f"has not answered for {limits.busy_s:g} s"


async def _pause(seconds: float, exited: asyncio.Future[int] | None) -> None:
    if exited is None:
        await asyncio.sleep(seconds)
    else:
        await asyncio.wait({exited}, timeout=seconds)
