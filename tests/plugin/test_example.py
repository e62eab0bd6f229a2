# SPDX-License-Identifier: Apache-2.0
"""The example of the author's guide is installed as the guide says, loaded, checked and tested."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "plugins" / "example"


def run(folder: Path, *command: str) -> str:
    """Run a command with the example on the path; return what it printed."""
    site = folder / "site"
    result = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's source, and the example installed into `site` without network."""
    folder = tmp_path_factory.mktemp("example")
    source = shutil.copytree(EXAMPLE, folder / "source")
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--quiet")
    run(folder, "-m", "pip", "install", *offline, "--target", "site", str(source))
    return folder


def test_the_box_finds_it_and_reads_its_manifest(folder: Path) -> None:
    shown = json.loads(run(folder, "-m", "appliance.cli", "plugins", "show", "whistle", "--json"))
    assert shown["distribution"] == "trunkline-whistle"
    assert shown["manifest"]["kinds"] == ["text_to_speech"]
    assert shown["hooks"] == ["register_providers"]


def test_it_keeps_its_contract(folder: Path) -> None:
    found = json.loads(run(folder, "-m", "appliance.cli", "plugins", "check", "whistle", "--json"))
    assert {one["outcome"] for one in found} == {"passed", "not applicable"}


def test_its_own_tests_pass(folder: Path) -> None:
    said = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "source/tests")
    assert "22 passed" in said
