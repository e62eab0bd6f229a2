# SPDX-License-Identifier: Apache-2.0
"""The demonstration that the README promises, from its start to its checked end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.lab.process import ROOT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ((), "the agent came from the hub: the box had none of its own"),
        (("--without-hub",), "the agent ended the call"),
    ],
)
def test_the_demonstration_ends_well(options: tuple[str, ...], wanted: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "appliance.demo", *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "yes  Oliver is in the calendar for Friday at 14:30" in done.stdout
    assert f"yes  {wanted}" in done.stdout
    assert "NO " not in done.stdout
