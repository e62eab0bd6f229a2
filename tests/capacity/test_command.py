# SPDX-License-Identifier: Apache-2.0
"""`trunkline capacity` on real parts: a box in its process, callers over SIP, starter models."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.process import DEMO_CONFIG, ROOT


def capacity(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "appliance.cli", "capacity", *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=240,
    )


@pytest.mark.slow
def test_one_call_is_held_and_every_stage_is_told() -> None:
    demo = ("--config", str(DEMO_CONFIG))
    done = capacity(*demo, "--most", "1", "--turns", "1", "--target-ms", "20000", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["held"], found["bound_by"]) == (1, "most")
    (step,) = found["steps"]
    assert step["held"]
    assert (step["calls"], len(step["latencies_ms"]), step["refused"]) == (1, 1, 0)
    assert set(step["stages"]) == {"recognition", "model", "synthesis", "media"}
    assert 0 < step["p50_ms"] <= step["p95_ms"] < 20_000


def test_without_an_agent_it_says_which_option_names_one(tmp_path: Path) -> None:
    config = tmp_path / "appliance.toml"
    config.write_text(
        '[box]\ndata_dir = "data"\n[agents]\ndir = "agents"\n'
        '[speech_to_text.local]\nuse = "scripted"\n'
    )
    done = capacity("--config", str(config))
    assert done.returncode == 1
    assert "--agent" in done.stderr or "agents" in done.stderr
