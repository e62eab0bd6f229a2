# SPDX-License-Identifier: Apache-2.0
"""When a worker counts as silent, as hung, as starved: in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from appliance.engines.worker.link import Link
from appliance.engines.worker.pulse import PulseEvents, PulseLimits, follow
from tests.virtual_time import run

LIMITS = PulseLimits()


class Answers:
    """A link whose health checks are answered while `well` says so; else after `takes_s`, badly."""

    def __init__(self, well: Callable[[float], bool], takes_s: float = LIMITS.timeout_s) -> None:
        self.well = well
        self.takes_s = takes_s

    async def healthy(self, timeout_s: float) -> bool:
        if self.well(asyncio.get_running_loop().time()):
            return True
        await asyncio.sleep(self.takes_s)
        return False


async def watch(
    link: Answers, *, starved: bool = False
) -> tuple[str, float, list[tuple[str, float]]]:
    """Return why the watch ended, when, and what was told when."""
    loop = asyncio.get_running_loop()
    told: list[tuple[str, float]] = []
    events = PulseEvents(
        silent=lambda: told.append(("silent", loop.time())),
        back=lambda: told.append(("back", loop.time())),
        check=lambda: "" if loop.time() < 40 else "enough",
        wants_to_run=lambda: starved,
    )
    exited: asyncio.Future[int] = loop.create_future()
    why = await follow(cast("Link", link), LIMITS, events, exited)
    return why, loop.time(), told


def test_a_hung_worker_is_given_up_within_a_second_and_killed_within_a_few() -> None:
    why, ended, told = run(watch(Answers(lambda now: now < 5)))
    assert why == "has not answered for 3 s"
    [(what, when)] = told
    assert what == "silent"
    assert when - 5 < 1.0
    assert ended - 5 < 4.0


def test_a_worker_that_answers_again_is_used_again() -> None:
    why, _, told = run(watch(Answers(lambda now: not 5 < now < 7)))
    assert why == "enough"
    assert [what for what, _ in told] == ["silent", "back"]


def test_a_worker_that_gets_no_processor_is_not_taken_for_hung_for_a_long_while() -> None:
    why, ended, told = run(watch(Answers(lambda now: now < 5), starved=True))
    assert why == "has not answered for 15 s"
    assert ended == pytest.approx(20, abs=1)
    assert not told


def test_a_box_that_is_short_of_time_itself_does_not_judge() -> None:
    late: Any = Answers(lambda now: not 5 < now < 10, takes_s=1.0)
    why, _, told = run(watch(late))
    assert (why, told) == ("enough", [])
