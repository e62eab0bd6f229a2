# SPDX-License-Identifier: Apache-2.0
"""The demonstration that the README promises, from its start to its checked end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.lab.process import ROOT

pytestmark = pytest.mark.slow


def test_the_demonstration_ends_well() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "appliance.demo"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Oliver is in the calendar for Friday at 14:30" in done.stdout
    assert "the agent ended the call" in done.stdout
