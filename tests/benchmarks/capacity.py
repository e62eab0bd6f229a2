# SPDX-License-Identifier: Apache-2.0
"""`./run bench-capacity`: calls held with p95 within a target, and where the time goes."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    for target in options.targets.split(","):
        print(f"  calls held at p95 within {target} ms", flush=True)
        found = measure(options.config.absolute(), [*bounds, "--target-ms", target])
        report.add(f"trunkline/calls_held_at_{target}ms", "calls", [found["held"]])
        print(
            f"  {found['held']} calls; bound by {found['bound_by'] or 'no single stage'}",
            flush=True,
        )
        for step in found["steps"]:
            _step(report, step, target)
    report.show()
    report.write(options.json)


def _step(report: Report, step: dict[str, Any], target: str) -> None:
    name = f"trunkline/{{}}_at_{target}ms@{step['calls']}"
    for key, unit in (("p50_ms", "ms"), ("p95_ms", "ms"), ("missed", "share"), ("cpu", "share")):
        if step[key] is not None:
            report.add(name.format(f"answer_{key}" if unit == "ms" else key), unit, [step[key]])
    for stage, value in step["stages"].items():
        report.add(name.format(f"{stage}_p95_ms"), "ms", [value])
    report.add(name.format("memory"), "MiB", [step["memory_mib"]])


if __name__ == "__main__":
    main()
