# SPDX-License-Identifier: Apache-2.0
"""Calls a box with more and more callers at once until it answers too slowly, and says what held it up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from appliance.caller.open_loop import Heard, OpenCallers
from appliance.caller.plan import Utterances, Voices, plan
from appliance.capacity.child import ChildOrder
from appliance.capacity.ramp import Ramp
from appliance.capacity.stages import StageTimes, binding, stage_times
from appliance.capacity.usage import usage
from appliance.plugin import TextToSpeech, Transport, UnavailableError

START_S = 180.0
MISSED = 0.02
"""A load is not held when more of its questions than this stay without an answer."""
FIRST_S = 7.0
"""Callers wait so long before they speak: most greetings are over by then."""
ANSWERS = 16
"""Answers wanted of a step; a call is asked between 4 and 6 times."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to find out.

    Attributes:
        target_ms: 95 of 100 answers are to begin within this time of the caller's last word, at the wire.
        most: try no more calls than this.
        minutes: begin no further step after this time.
        turns: questions of each call; 0: from 6 at low loads to 4 at high ones.
    """

    target_ms: float = 900.0
    most: int = 250
    minutes: float = 12.0
    turns: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """How one load went.

    Attributes:
        calls: callers at once.
        latencies_ms: of every answer that was measured, at the caller's wire.
        p50_ms: their median; NaN without answers.
        p95_ms: their 95th percentile.
        missed: share of questions without an answer.
        refused: calls that were not taken or did not last.
        cpu: share of the whole machine's processors that the box used.
        memory_mib: of the box and its workers, at the end.
        stages: 95th percentile of each stage.
        held: fast enough, nothing missed, nothing refused.
    """

    calls: int
    latencies_ms: tuple[float, ...]
    p50_ms: float
    p95_ms: float
    missed: float
    refused: int
    cpu: float
    memory_mib: float
    stages: StageTimes
    held: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found.

    Attributes:
        held: calls at once within the target.
        bound_by: `recognition`, `model`, `synthesis`, `media`, `phone line` (its library holds no more
            calls), `most` (more was not to be tried), `time` (the search was cut short), or "" when no stage
            stands out.
        steps: in the order in which they were tried.
    """

    held: int
    bound_by: str
    target_ms: float
    steps: Sequence[Step] = field(default_factory=tuple)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; what was not measured is null."""
        data = asdict(self)
        for step in data["steps"]:
            step["stages"] = dict(step["stages"]["p95_ms"])
            for key in ("p50_ms", "p95_ms"):
                step[key] = None if math.isnan(step[key]) else step[key]
        return data


async def measure(
    order: ChildOrder,
    wanted: Wanted,
    transport: Transport,
    voice: TextToSpeech,
    utterances: Utterances,
    told: Callable[[Step], None] = lambda _: None,
) -> Outcome:
    """Ramp up and return what was found. Takes minutes, never much more than `wanted.minutes`.

    Args:
        order: the box to measure.
        wanted: target and bounds.
        transport: what the callers dial with; not started. It is closed at the end.
        voice: what they speak with.
        utterances: what they say.
        told: called after each step.

    Raises:
        UnavailableError: the box does not start; the message is its own.
    """
    deadline = time.monotonic() + 60 * wanted.minutes
    voices = Voices(voice)
    steps: list[Step] = []
    async with MeasuredProcess(order) as box:
        callers = OpenCallers(transport)
        await transport.start(callers)
        try:
            lines = min(box.capacity, transport.status().capacity)
            ramp = Ramp(min(wanted.most, lines))
            warm = await plan(
                voices, 1, 1, seed=0, utterances=utterances, plain=True, first_s=FIRST_S
            )
            # The first answer of a new box reads the prompt for all that follow: it counts for nothing.
            await callers.run([replace(warm[0], dial_s=0.0)], [box.target])
            while (load := ramp.next_load()) is not None and time.monotonic() < deadline:
                step = await _step(box, callers, voices, utterances, load, wanted)
                ramp.add(load, held=step.held)
                steps.append(step)
                told(step)
        finally:
            await transport.aclose()
    unfinished = ramp.next_load() is not None
    return Outcome(
        ramp.held, bound_by(steps, ramp, lines, unfinished=unfinished), wanted.target_ms, steps
    )


async def _step(
    box: MeasuredProcess,
    callers: OpenCallers,
    voices: Voices,
    utterances: Utterances,
    load: int,
    wanted: Wanted,
) -> Step:
    turns = wanted.turns or min(6, max(4, math.ceil(ANSWERS / load)))
    planned = await plan(
        voices, load, turns, seed=load, utterances=utterances, plain=True, first_s=FIRST_S
    )
    box.answers.clear()
    before, began = usage([box.pid]), time.monotonic()
    heard = await callers.run(planned, [box.target] * load)
    after, seconds = usage([box.pid]), time.monotonic() - began
    cores = len(os.sched_getaffinity(0))
    cpu = (after.cpu_s - before.cpu_s) / seconds / cores
    return judge(load, heard, box.answers, cpu, after.pss_mib, wanted.target_ms)


def judge(
    load: int,
    heard: Sequence[Heard],
    answers: Sequence[dict[str, Any]],
    cpu: float,
    memory_mib: float,
    target_ms: float,
) -> Step:
    """Return how a load went.

    Args:
        load: callers at once.
        heard: what each of them heard.
        answers: what the box measured itself: `total` and `parts` of each answer, in ms.
        cpu: share of the machine that it used.
        memory_mib: what it used.
        target_ms: bound of the 95th percentile.
    """
    latencies = [1000 * value for one in heard for value in one.latencies_s]
    missed = [value for one in heard for value in one.missed]
    refused = sum(one.failed for one in heard)
    share = sum(missed) / len(missed) if missed else 1.0
    p50, p95 = np.percentile(latencies, [50, 95]) if latencies else (math.nan, math.nan)
    box_p95 = float(np.percentile([one["total"] for one in answers], 95)) if answers else math.nan
    wire = 0.0 if math.isnan(p95) or math.isnan(box_p95) else float(p95) - box_p95
    return Step(
        calls=load,
        latencies_ms=tuple(round(value, 1) for value in latencies),
        p50_ms=round(float(p50), 1),
        p95_ms=round(float(p95), 1),
        missed=round(share, 4),
        refused=refused,
        cpu=round(cpu, 3),
        memory_mib=round(memory_mib, 1),
        stages=stage_times([one["parts"] for one in answers], wire),
        held=bool(latencies) and p95 <= target_ms and share <= MISSED and not refused,
    )


def bound_by(steps: Sequence[Step], ramp: Ramp, lines: int, *, unfinished: bool) -> str:
    """Return what ended the search; see `Outcome`."""
    if not steps:
        return "time"
    failed = [step for step in steps if step.calls == ramp.too_much]
    if not failed:
        return "time" if unfinished else "phone line" if ramp.held >= lines else "most"
    # Where not even the first load is held, there is nothing to compare with: the longest stage it is.
    light = steps[0].stages if steps[0].held else StageTimes({})
    return binding(light, failed[-1].stages)


class MeasuredProcess:
    """The box in its process; a context manager.

    Attributes:
        target: where to call it.
        capacity: calls that its phone line can hold.
        pid: its process.
        answers: what it measured since this was cleared.
    """

    def __init__(self, order: ChildOrder) -> None:
        self._order = order
        self._scratch = tempfile.TemporaryDirectory(prefix="trunkline-capacity-")
        self.target = ""
        self.capacity = 0
        self.pid = 0
        self.answers: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        folder = Path(self._order.folder or self._scratch.name)
        order = ChildOrder(**{**asdict(self._order), "folder": str(folder)})
        with (folder / "box.log").open("w") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "appliance.capacity.child", json.dumps(asdict(order))),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        self.pid = self._process.pid
        try:
            ready = await asyncio.wait_for(self._ready(), START_S)
        except (TimeoutError, ValueError):
            await self._stop()
            said = (folder / "box.log").read_text().strip().splitlines()
            why = said[-1] if said else f"nothing within {START_S:.0f} s"
            raise UnavailableError(f"the box did not start: {why}") from None
        port = ready["listening"][0].rsplit(":", 1)[1]
        self.target = f"sip:capacity@127.0.0.1:{port}"
        self.capacity = ready["capacity"]
        self._reading = asyncio.get_running_loop().create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading
        await self._stop()
        self._scratch.cleanup()

    async def _ready(self) -> dict[str, Any]:
        while line := await self._line():
            if "ready" in line:
                ready: dict[str, Any] = line["ready"]
                return ready
        raise ValueError("it ended")

    async def _read(self) -> None:
        while line := await self._line():
            if "answer" in line:
                self.answers.append(line["answer"])

    async def _line(self) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        text = await self._process.stdout.readline()
        found: dict[str, Any] | None = json.loads(text) if text else None
        return found

    async def _stop(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 20)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
