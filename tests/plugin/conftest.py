# SPDX-License-Identifier: Apache-2.0
"""Installs small plugins for a test: real packages with real metadata, in a folder on `sys.path`."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import logging
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

API_AND_RUNS = 'api = 1\nruns = "local"\n'
"""The rest of a valid manifest."""

_numbers = itertools.count()

GOOD_CODE = """
from appliance.plugin import hookimpl

@hookimpl
def register_providers():
    return []
"""


@dataclass
class Site:
    """A folder of installed plugins."""

    path: Path

    def install(
        self,
        plugin: str,
        code: str = GOOD_CODE,
        *,
        manifest: str | None = API_AND_RUNS,
        kinds: str = "[]",
        distribution: str = "",
    ) -> str:
        """Install a plugin and return the name of its module.

        `manifest` is added to a valid one (whose keys it may not repeat); None leaves it out.
        """
        module = f"installed_{plugin}_{next(_numbers)}"
        name = distribution or f"trunkline-{plugin}"
        package = self.path / module
        package.mkdir()
        (package / "__init__.py").write_text(textwrap.dedent(code))
        if manifest is not None:
            (package / "plugin.toml").write_text(self.manifest(plugin, kinds) + manifest)
        info = self.path / f"{name.replace('-', '_')}-1.2.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\n")
        (info / "entry_points.txt").write_text(f"[trunkline]\n{plugin} = {module}\n")
        importlib.invalidate_caches()
        return module

    @staticmethod
    def manifest(plugin: str, kinds: str = "[]") -> str:
        return (
            f'id = "{plugin}"\nkinds = {kinds}\n'
            'licence = "Apache-2.0"\nsummary = "A plugin for a test."\n'
        )

    def whole_manifest(self, plugin: str, text: str) -> None:
        """Replace the manifest of an installed plugin."""
        package = next(self.path.glob(f"installed_{plugin}_*"))
        (package / "plugin.toml").write_text(text)


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    """Commands set up logging for the whole process: begin and end without it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield Site(folder)
    for name in [name for name in sys.modules if name.startswith("installed_")]:
        del sys.modules[name]


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until `condition` holds; fail when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    for _ in itertools.takewhile(lambda _: not condition(), itertools.count()):
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.005)
