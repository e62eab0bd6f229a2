# SPDX-License-Identifier: Apache-2.0
"""Calls go on while their engines are killed one after another: no dead air, no word lost.

Real box, real workers, real signals, real time; the line is in memory and the engines' words are known.
`TRUNKLINE_KILLS` says how often each worker is killed (default 1).
"""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from pathlib import Path

import pytest

from appliance.box import Box
from appliance.engines.worker.base import WorkerState
from appliance.store import STORE_FILE, Reader
from tests.engines.memory_line import MemoryLine, start_box
from tests.telephony.peers import until

pytestmark = pytest.mark.slow

CALLS = 8
DEAD_AIR_S = 1.5
ROUNDS = int(os.environ.get("TRUNKLINE_KILLS", "1"))
START_S = 120.0
"""For a worker to come up again: the next one is killed only then."""


async def kill_each(box: Box, line: MemoryLine, rounds: int) -> int:
    """Kill every worker so many times, at changing moments of the calls; return how many died."""
    killed = 0
    for number in range(rounds):
        for place in range(len(box.engines.workers())):
            await line.runs(0.6 + 0.14 * (killed % 11))
            os.kill(box.engines.workers()[place].pid, signal.SIGKILL)
            killed += 1
            await until(partial(restarted, box, place, number + 1), START_S, "it is up again")
    return killed


def restarted(box: Box, place: int, times: int) -> bool:
    worker = box.engines.workers()[place]
    return worker.state is WorkerState.READY and worker.restarts >= times


async def test_eight_calls_go_on_while_each_worker_is_killed_in_turn(tmp_path: Path) -> None:
    line = MemoryLine(CALLS)
    box = await start_box(tmp_path, line)
    try:
        line.ring(box.switchboard)
        await until(lambda: all(caller.asked >= 1 for caller in line.callers), 30)
        killed = await kill_each(box, line, ROUNDS)
        asked = [caller.asked for caller in line.callers]
        await until(
            lambda: all(c.asked > before for c, before in zip(line.callers, asked, strict=True)), 60
        )
        for caller in line.callers:
            caller.stopping = True
        await until(lambda: all(caller.finished for caller in line.callers), 60, "all say goodbye")
        await asyncio.wait_for(box.switchboard.idle(), 10)
    finally:
        await box.aclose()
    assert killed == 6 * ROUNDS
    longest = max(silence for caller in line.callers for silence in caller.silences)
    assert longest < DEAD_AIR_S, (
        f"{longest:.2f} s of silence; ticks late by {max(line.late_s):.2f} s"
    )
    with Reader(tmp_path / "var" / STORE_FILE) as store:
        calls = store.calls()
        assert len(calls) == CALLS
        heard = sorted(questions(store, call.id) for call in calls)
        answered = sorted(answers(store, call.id) for call in calls)
    assert heard == sorted(caller.asked for caller in line.callers)
    assert answered == heard


def questions(store: Reader, call: str) -> int:
    """Return how many questions of the caller are in the transcript; all of them, in order."""
    lines = [line.text for line in store.transcript(call) if line.who == "caller"]
    assert lines == [f"Question {number}." for number in range(1, len(lines) + 1)]
    return len(lines)


def answers(store: Reader, call: str) -> int:
    """Return how many questions the agent has answered to the end."""
    said = [line.text for line in store.transcript(call) if line.who == "agent"][1:]
    for number, text in enumerate(said, 1):
        assert f"question {number}," in text, said
        assert text.endswith("not a word longer."), said
    return len(said)
