# SPDX-License-Identifier: Apache-2.0
"""How the box is, for its hub: read from the kernel's files; what cannot be read is left out."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from appliance.sync.link import LinkState
from appliance.wire import Health


@dataclass(frozen=True, slots=True)
class BoxFacts:
    """What the box itself knows.

    Attributes:
        calls: going on now.
        faults: what is wrong, each for a person.
        kept_back: see `wire.Health`.
        trunks: state of each, by name.
        engines: state of each worker, by name.
    """

    calls: int = 0
    faults: tuple[str, ...] = ()
    kept_back: Mapping[str, int] = field(default_factory=dict)
    trunks: Mapping[str, str] = field(default_factory=dict)
    engines: Mapping[str, str] = field(default_factory=dict)


class HealthMeter:
    """Measures; keeps the last CPU times, because a load is a difference.

    Args:
        data_dir: on the disk whose room matters.
        root: of the kernel's files.
    """

    def __init__(self, data_dir: Path, root: Path = Path("/")) -> None:
        self._data_dir = data_dir
        self._proc = root / "proc"
        self._thermal = root / "sys/class/thermal"
        self._last = self._cpu_times()

    def read(self, facts: BoxFacts, link: LinkState | None) -> Health:
        """Return how the box is. Reads files: not for the event loop."""
        faults = list(facts.faults)
        if link is not None and link.fault:
            faults.append(link.fault)
        return Health(
            cpu_percent=self._cpu_percent(),
            memory_percent=self._memory_percent(),
            disk_free_bytes=shutil.disk_usage(self._data_dir).free,
            temperature_c=self._temperature(),
            calls=facts.calls,
            waiting_rows=link.waiting_rows if link else 0,
            waiting_bytes=link.waiting_bytes if link else 0,
            kept_back=dict(facts.kept_back),
            faults=tuple(faults),
            trunks=dict(facts.trunks),
            engines=dict(facts.engines),
        )

    def _cpu_times(self) -> tuple[int, int] | None:
        """Return (busy, all) in ticks since the start of the machine (proc(5), `/proc/stat`)."""
        try:
            line = (self._proc / "stat").read_text().splitlines()[0]
            times = [int(value) for value in line.split()[1:9]]
        except (OSError, ValueError, IndexError):
            return None
        return sum(times) - times[3] - times[4], sum(times)

    def _cpu_percent(self) -> float | None:
        before, self._last = self._last, self._cpu_times()
        if before is None or self._last is None or self._last[1] <= before[1]:
            return None
        return round(100 * (self._last[0] - before[0]) / (self._last[1] - before[1]), 1)

    def _memory_percent(self) -> float | None:
        try:
            lines = (self._proc / "meminfo").read_text().splitlines()
            sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
            return round(100 * (1 - sizes["MemAvailable"] / sizes["MemTotal"]), 1)
        except (OSError, ValueError, LookupError, ZeroDivisionError):
            return None

    def _temperature(self) -> float | None:
        """Return the hottest sensor's reading."""
        found = []
        for sensor in self._thermal.glob("thermal_zone*/temp"):
            try:
                found.append(int(sensor.read_text()) / 1000)
            except (OSError, ValueError):
                continue
        return max(found, default=None)
