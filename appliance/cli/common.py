# SPDX-License-Identifier: Apache-2.0
"""What commands share: where the configuration is, how it is loaded, how errors and JSON are printed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from appliance import config, logs
from appliance.config import BoxConfig, ConfigError
from appliance.plugin.manager import PluginManager, Policy

SEARCHED = (Path("appliance.toml"), Path("/etc/trunkline/appliance.toml"))

OK, PROBLEMS, USAGE = 0, 1, 2
"""Exit codes."""

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="TRUNKLINE_CONFIG",
        help="The configuration. Default: ./appliance.toml, then /etc/trunkline/appliance.toml.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def console() -> Console:
    """Return a console for human output."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def fail(message: str, code: int = PROBLEMS) -> NoReturn:
    """Print `message` to standard error and end with `code`."""
    print(message, file=sys.stderr)
    raise typer.Exit(code)


def print_json(data: Any) -> None:
    """Print data as JSON on standard output."""
    print(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def find_config(path: Path | None) -> Path:
    """Return the configuration file to use; end the program when there is none."""
    if path is not None:
        return path
    for candidate in SEARCHED:
        if candidate.is_file():
            return candidate
    looked = " or ".join(map(str, SEARCHED))
    fail(f"No configuration found: {looked}. Name one with --config.", USAGE)


def discover(section: config.PluginsSection) -> PluginManager:
    """Load the plugins that the configuration lets in."""
    egress = None if section.egress is None else frozenset(section.egress)
    policy = Policy(allow_cloud=section.allow_cloud, egress=egress)
    return PluginManager.discover(section.allow, section.deny, policy=policy)


def load_config(path: Path | None, *, quiet: bool = True) -> tuple[BoxConfig, PluginManager]:
    """Load the configuration and the plugins it lets in; end the program with all that is wrong.

    Args:
        path: from `ConfigOption`.
        quiet: log warnings and errors only: for commands whose output is data.
    """
    file = find_config(path)
    logs.setup("warning" if quiet else "info", "console")
    try:
        manager = discover(config.plugins_section(file))
        loaded = config.load(file, manager)
    except ConfigError as error:
        fail(str(error))
    if not quiet:
        logs.setup(loaded.box.log_level, loaded.box.log_format)
    return loaded, manager


def data_dir(path: Path | None) -> Path:
    """Return the data folder for commands that also work without a configuration.

    It is that of the configuration, else `TRUNKLINE_DATA_DIR`, else `./var`.
    """
    if path is None and not any(candidate.is_file() for candidate in SEARCHED):
        return Path(os.environ.get("TRUNKLINE_DATA_DIR", "var")).absolute()
    try:
        return config.box_section(find_config(path)).data_dir
    except ConfigError as error:
        fail(str(error))
