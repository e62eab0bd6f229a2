# SPDX-License-Identifier: Apache-2.0
"""`./run bench-soak`: hours of calls at 80 % of capacity; memory, files, threads and latency must stay flat.

Each line of the box is kept busy: when a call ends, the next begins. Every minute is a sample, all of them
are in the JSON under `minutes`. The drift compares the last third of them with the first.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from appliance.caller.build import build_transport, context, line_settings
from appliance.caller.open_loop import Heard, OpenCallers
from appliance.caller.plan import PlannedCall, Voices, plan
from appliance.capacity.usage import usage
from appliance.plugin.manager import PluginManager
from tests.benchmarks.report import Report
from tests.lab.process import DEMO_CONFIG, BoxProcess, espeak

SHARE = 0.8
TURNS = 6
WARM_UP_MIN = 2
"""Minutes that count for no drift: engines and pools fill in them."""


@dataclass(frozen=True, slots=True)
class Minute:
    """One sample: what the box used at its end, and how calls that ended in it went."""

    minute: float
    pss_mib: float
    files: int
    threads: int
    processes: int
    cpu_percent: float
    calls: int
    failed: int
    missed: int
    answers: int
    p50_ms: float | None
    p95_ms: float | None


class SoakReport(Report):
    """The project's report with every minute in it."""

    def __init__(self, minutes: Sequence[Minute]) -> None:
        super().__init__("soak")
        self.minutes = minutes

    def as_dict(self) -> dict[str, Any]:
        """Return the report and its samples."""
        return {**super().as_dict(), "minutes": [asdict(minute) for minute in self.minutes]}


class Soak:
    """Keeps lines busy and samples.

    Args:
        box: what is called.
        lines: calls at once.
        sample_s: time between samples.
    """

    def __init__(self, box: BoxProcess, lines: int, sample_s: float) -> None:
        self._box = box
        self._lines = lines
        self._sample_s = sample_s
        self._heard: list[Heard] = []
        self.all: list[Heard] = []
        self.minutes: list[Minute] = []

    async def run(self, callers: OpenCallers, voices: Voices, seconds: float) -> None:
        """Call for so long; the calls that run then are ended."""
        async with asyncio.TaskGroup() as group:
            lines = [
                group.create_task(self._line(callers, voices, number))
                for number in range(self._lines)
            ]
            await self._sample(seconds)
            for line in lines:
                line.cancel()

    async def _line(self, callers: OpenCallers, voices: Voices, number: int) -> None:
        for call in itertools.count():
            (planned,) = await plan(voices, 1, TURNS, seed=1000 * number + call)
            first = planned.dial_s if call == 0 else 0.2
            planned = PlannedCall(first, planned.turns, planned.hang_up_s)
            self._heard += await callers.run([planned], [self._box.target])

    async def _sample(self, seconds: float) -> None:
        began = time.monotonic()
        spent = usage([self._box.pid]).cpu_s
        due = began
        while due < began + seconds:
            due += self._sample_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            now = await asyncio.to_thread(usage, [self._box.pid])
            if now.processes == 0:
                raise RuntimeError("the box ended by itself")
            heard, self._heard = self._heard, []
            self.all += heard
            latencies = [1000 * value for one in heard for value in one.latencies_s]
            self.minutes.append(
                Minute(
                    minute=round((due - began) / 60, 3),
                    pss_mib=round(now.pss_mib, 2),
                    files=now.files,
                    threads=now.threads,
                    processes=now.processes,
                    cpu_percent=round(100 * (now.cpu_s - spent) / self._sample_s, 2),
                    calls=len(heard),
                    failed=sum(one.failed for one in heard),
                    missed=sum(sum(one.missed) for one in heard),
                    answers=len(latencies),
                    p50_ms=_percentile(latencies, 50),
                    p95_ms=_percentile(latencies, 95),
                )
            )
            spent = now.cpu_s
            print(f"  {json.dumps(asdict(self.minutes[-1]))}", flush=True)


def _percentile(values: Sequence[float], which: float) -> float | None:
    return round(float(np.percentile(values, which)), 1) if values else None


def drift(values: Sequence[float]) -> float:
    """Return by how much the median of the last third differs from that of the first."""
    third = max(1, len(values) // 3)
    return float(np.median(values[-third:]) - np.median(values[:third]))


def summarize(report: Report, soak: Soak, lines: int) -> None:
    """Put the distributions and the drifts into the report."""
    name = f"trunkline/{{}}@{lines}"
    latencies = [1000 * value for one in soak.all for value in one.latencies_s]
    report.add(name.format("answer_latency"), "ms", latencies)
    missed = [float(value) for one in soak.all for value in one.missed]
    report.add(name.format("missed_turns"), "share", missed)
    report.add(name.format("failed_calls"), "share", [float(one.failed) for one in soak.all])
    warm = [one for one in soak.minutes if one.minute > WARM_UP_MIN] or soak.minutes
    for key, unit in (("pss_mib", "MiB"), ("files", "files"), ("threads", "threads")):
        values = [float(getattr(one, key)) for one in warm]
        report.add(name.format(key), unit, values)
        report.add(name.format(f"{key}_drift"), unit, [drift(values)])
    for key in ("p50_ms", "p95_ms"):
        known = [value for one in warm if (value := getattr(one, key)) is not None]
        if known:
            report.add(name.format(f"answer_{key}_drift"), "ms", [drift(known)])


async def drive(config: Path, lines: int, seconds: float, sample_s: float, folder: Path) -> Soak:
    """Start the box, call it, and return what was seen."""
    synthesizer = espeak()
    built = context(folder, Path)
    plugins = PluginManager.discover(["sip"])
    transport = await build_transport(plugins, line_settings("sip:100@127.0.0.1", "PCMU"), built)
    with BoxProcess(folder, config) as box:
        callers = OpenCallers(transport)
        await transport.start(callers)
        soak = Soak(box, lines, sample_s)
        try:
            await soak.run(callers, Voices(synthesizer), seconds)
        finally:
            await transport.aclose()
            await synthesizer.aclose()
    return soak


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="./run bench-soak", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--minutes", type=float, default=30, help="how long (default 30)")
    parser.add_argument("--calls", type=int, help="calls at once")
    parser.add_argument(
        "--capacity", type=int, help="calls that ./run bench-capacity found; 80 %% of it are driven"
    )
    parser.add_argument("--sample", type=float, default=60, help="seconds of a sample (default 60)")
    parser.add_argument("--config", type=Path, default=DEMO_CONFIG, help="the box to call")
    parser.add_argument("--quick", action="store_true", help="a minute and a half, one call")
    options = parser.parse_args()
    if options.quick:
        options.minutes, options.calls, options.sample = 1.5, 1, 15
    lines = options.calls or max(1, int(SHARE * (options.capacity or 0)))
    if not options.calls and not options.capacity:
        parser.error("say how many calls: --calls, or --capacity for 80 % of it")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        soak = asyncio.run(
            drive(
                options.config.absolute(), lines, 60 * options.minutes, options.sample, Path(folder)
            )
        )
    report = SoakReport(soak.minutes)
    summarize(report, soak, lines)
    report.show()
    report.write(options.json)


if __name__ == "__main__":
    main()
