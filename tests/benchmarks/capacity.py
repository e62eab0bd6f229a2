# SPDX-License-Identifier: Apache-2.0
"""`./run bench-capacity`: calls held with p95 within a target, and where the time goes."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appliance.capacity.stages import STAGES
from tests.benchmarks.report import Report
from tests.lab.process import DEMO_CONFIG, ROOT


def measure(config: Path, options: list[str]) -> dict[str, Any]:
    """Run the command a customer runs; return what it found.

    Raises:
        RuntimeError: it failed; the message is its own.
    """
    command = [sys.executable, "-m", "appliance.cli", "capacity", "--config", str(config), "--json"]
    done = subprocess.run(
        [*command, *options], stdout=subprocess.PIPE, text=True, cwd=ROOT, check=False
    )
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise RuntimeError(f"trunkline capacity failed: {done.stdout}") from error
    return found


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="./run bench-capacity", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--config", type=Path, default=DEMO_CONFIG, help="what to measure")
    parser.add_argument("--targets", default="900", help="p95 in ms; several with commas between")
    parser.add_argument("--minutes", default="12", help="bound of each search (default 12)")
    parser.add_argument("--most", default="250", help="try no more calls than this")
    parser.add_argument("--quick", action="store_true", help="2 calls at most, one question each")
    options = parser.parse_args()
    bounds = ["--minutes", options.minutes, "--most", options.most]
    if options.quick:
        bounds = ["--minutes", "1", "--most", "2", "--turns", "1"]
    report = Report("capacity")
    steps: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for target in options.targets.split(","):
        print(f"  calls held at p95 within {target} ms", flush=True)
        found = measure(options.config.absolute(), [*bounds, "--target-ms", target])
        report.add(f"trunkline/calls_held_within_{target}ms", "calls", [found["held"]])
        print(
            f"  {found['held']} calls; bound by {found['bound_by'] or 'no single stage'}",
            flush=True,
        )
        for step in found["steps"]:
            steps[step["calls"]].append(step)
    for load in sorted(steps):
        add(report, load, steps[load])
    report.show()
    report.write(options.json)


def add(report: Report, load: int, steps: Sequence[dict[str, Any]]) -> None:
    """Put what was measured at one load into the report; each step is one sample of all but latency."""
    name = f"trunkline/{{}}@{load}"
    latencies = [value for step in steps for value in step["latencies_ms"]]
    report.add(name.format("answer_latency"), "ms", latencies)
    for stage in STAGES:
        known = [step["stages"][stage] for step in steps if stage in step["stages"]]
        report.add(name.format(f"{stage}_p95"), "ms", known)
    for key, unit in (("missed", "share"), ("refused", "calls"), ("memory_mib", "MiB")):
        report.add(name.format(key), unit, [step[key] for step in steps])
    report.add(name.format("processors"), "%", [100 * step["cpu"] for step in steps])


if __name__ == "__main__":
    main()
