# SPDX-License-Identifier: Apache-2.0
"""What the box tells of itself, read from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.sync.health import BoxFacts, HealthMeter
from appliance.sync.link import LinkState


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    zones = tmp_path / "sys/class/thermal"
    for number, milli in enumerate((41_000, 63_500)):
        (zones / f"thermal_zone{number}").mkdir(parents=True)
        (zones / f"thermal_zone{number}" / "temp").write_text(f"{milli}\n")
    (tmp_path / "proc/meminfo").write_text(
        "MemTotal:  8000 kB\nMemFree: 10 kB\nMemAvailable: 2000 kB\n"
    )
    (tmp_path / "proc/stat").write_text("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2\n")
    return tmp_path


def test_load_memory_and_temperature_are_read_and_the_load_is_that_of_the_last_minute(
    root: Path,
) -> None:
    meter = HealthMeter(root, root)
    (root / "proc/stat").write_text("cpu  150 0 150 950 150 0 0 0 0 0\n")
    health = meter.read(BoxFacts(calls=3, trunks={"pbx": "ready"}), None)
    assert (health.cpu_percent, health.memory_percent, health.temperature_c) == (25.0, 75.0, 63.5)
    assert (health.calls, health.trunks) == (3, {"pbx": "ready"})


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    health = HealthMeter(tmp_path, tmp_path).read(BoxFacts(), None)
    assert health.cpu_percent is health.memory_percent is health.temperature_c is None
    assert health.disk_free_bytes is not None


def test_faults_of_box_and_link_are_told_together(root: Path) -> None:
    link = LinkState(connected=False, fault="no broker", waiting_rows=7, waiting_bytes=700)
    health = HealthMeter(root, root).read(BoxFacts(faults=("disk full",)), link)
    assert health.faults == ("disk full", "no broker")
    assert (health.waiting_rows, health.waiting_bytes) == (7, 700)
