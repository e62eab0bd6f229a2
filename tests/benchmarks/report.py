# SPDX-License-Identifier: Apache-2.0
"""The one format in which every benchmark of the project reports.

{"benchmark", "commit", "machine", "results": {NAME: {"unit", "n", "p50", "p95", "p99", "mean"}}}
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table


class Report:
    """Collects results of one benchmark run.

    Args:
        benchmark: its name.
    """

    def __init__(self, benchmark: str) -> None:
        self.benchmark = benchmark
        self.results: dict[str, dict[str, Any]] = {}

    def add(self, name: str, unit: str, samples: Sequence[float]) -> None:
        """Add the samples of one result; without samples there is no result."""
        if not samples:
            return
        values = np.asarray(samples, float)
        p50, p95, p99 = np.percentile(values, [50, 95, 99])
        self.results[name] = {
            "unit": unit,
            "n": len(samples),
            "p50": round(float(p50), 3),
            "p95": round(float(p95), 3),
            "p99": round(float(p99), 3),
            "mean": round(float(values.mean()), 3),
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the report in the project's format."""
        return {
            "benchmark": self.benchmark,
            "commit": _commit(),
            "machine": machine(),
            "results": self.results,
        }

    def show(self) -> None:
        """Print a table."""
        table = Table(title=self.benchmark)
        table.add_column("result", overflow="fold")
        for name in ("unit", "n", "p50", "p95", "p99", "mean"):
            table.add_column(name, justify="right", no_wrap=True)
        for name, result in self.results.items():
            table.add_row(
                name, *(str(result[key]) for key in ("unit", "n", "p50", "p95", "p99", "mean"))
            )
        Console().print(table)

    def write(self, path: Path | None) -> None:
        """Write JSON to `path`, if given."""
        if path is not None:
            path.write_text(json.dumps(self.as_dict(), indent=2) + "\n")


def machine() -> dict[str, Any]:
    """Name the machine: processor, cores, memory, system, and how busy it was."""
    model = platform.processor() or platform.machine()
    with Path("/proc/cpuinfo").open() as lines:
        model = next(
            (ln.split(":", 1)[1].strip() for ln in lines if ln.startswith("model name")), model
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def _commit() -> str:
    result = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return result.stdout.strip() or "unknown"
