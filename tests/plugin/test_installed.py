# SPDX-License-Identifier: Apache-2.0
"""Every plugin of this repository loads, and keeps the contract of what it offers."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from appliance.plugin.manager import PluginManager
from tests.engines.make_piper_voice import make_voice

ROOT = Path(__file__).parents[2]


def entry_points() -> list[str]:
    """Return the plugin ids that the packages in plugins/ declare."""
    ids: list[str] = []
    for project in sorted((ROOT / "plugins").glob("*/pyproject.toml")):
        declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        ids += declared.get("entry-points", {}).get("trunkline", {})
    return ids


PLUGINS = entry_points()
NEEDS_MORE = {"openai": "a server: tests/engines checks it against a real one"}
"""What cannot be built from what the repository holds."""


def check(plugin: str, folder: Path, *options: str) -> list[dict[str, Any]]:
    """Check a plugin as a person would; return the findings, of which none failed."""
    result = subprocess.run(
        [sys.executable, "-m", "appliance.cli", "plugins", "check", plugin, "--json", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.stdout, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)
    assert {one["name"]: one["detail"] for one in found if one["passed"] is False} == {}
    assert result.returncode == 0
    return found


def test_every_plugin_of_the_repository_loads() -> None:
    manager = PluginManager.discover(PLUGINS)
    assert manager.faults == []
    assert set(manager.plugins) == set(PLUGINS)


@pytest.mark.slow
@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_passes_its_check(plugin: str, tmp_path: Path) -> None:
    options = ("-s", f"model={make_voice(tmp_path)}") if plugin == "piper" else ()
    found = check(plugin, tmp_path, *options)
    unchecked = {one["detail"] for one in found if one["outcome"] == "not checked"}
    assert not unchecked or plugin in NEEDS_MORE
