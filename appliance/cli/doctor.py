# SPDX-License-Identifier: Apache-2.0
"""`trunkline doctor`: what is wrong with this box, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from appliance import config as configuration
from appliance import logs
from appliance.cli.common import (
    PROBLEMS,
    SEARCHED,
    ConfigOption,
    JsonOption,
    console,
    data_dir,
    discover,
    find_config,
    load_config,
    print_json,
)
from appliance.config import BoxConfig, ConfigError, PluginsSection
from appliance.doctor import Finding, Status, box_findings, machine_findings, tune
from appliance.doctor.parts import plugins
from appliance.plugin.manager import PluginManager

_SIGN = {Status.OK: "[green]ok  [/]", Status.WARN: "[yellow]warn[/]", Status.FAIL: "[red]FAIL[/]"}


def doctor(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    machine_only: Annotated[
        bool, typer.Option("--machine", help="Look at the machine only: no engine, no line.")
    ] = False,
    tuned: Annotated[
        bool,
        typer.Option("--tune", help="Propose settings for this hardware, as TOML to paste."),
    ] = False,
) -> None:
    """Check the machine, the models, the network, the PBX and the phone line.

    It starts the line for a moment, and changes nothing. Exit code 1 when something fails.

    Examples:
      trunkline doctor
      trunkline doctor --config /etc/trunkline/appliance.toml --json
      trunkline doctor --machine
      trunkline doctor --tune
    """
    logs.setup("error")
    if tuned:
        _tune(config, as_json=as_json)
        return
    found: list[Finding] = []
    out = console()

    def show(finding: Finding) -> None:
        found.append(finding)
        if as_json:
            return
        out.print(f"{_SIGN[finding.status]} {escape(finding.check)}: {escape(finding.what)}")
        if finding.remedy and finding.status is not Status.OK:
            out.print(f"       [bold]->[/] {escape(finding.remedy)}")

    loaded, manager = _load(config, show, machine_only=machine_only)
    folder = loaded.box.data_dir if loaded else data_dir(None) if config is None else Path.cwd()
    for finding in machine_findings(folder, loaded):
        show(finding)
    if manager is not None:
        for finding in plugins(manager):
            show(finding)
    if loaded is not None and manager is not None and not machine_only:
        asyncio.run(_look(loaded, manager, show))
    if as_json:
        print_json([asdict(finding) for finding in found])
    if any(finding.status is Status.FAIL for finding in found):
        raise typer.Exit(PROBLEMS)


def _tune(config: Path | None, *, as_json: bool) -> None:
    """Print a proposal for the configuration, or for the example one where there is none."""
    known = config is not None or any(path.is_file() for path in SEARCHED)
    loaded = load_config(config)[0] if known else None
    proposal = tune.propose(tune.look(), loaded)
    if as_json:
        print_json(proposal.to_dict())
    else:
        console().print(proposal.toml(), markup=False, end="")


def _load(
    config: Path | None, show: Callable[[Finding], None], *, machine_only: bool
) -> tuple[BoxConfig | None, PluginManager | None]:
    if config is None and not any(path.is_file() for path in SEARCHED):
        if not machine_only:
            remedy = "name one with --config to have engines and the phone line checked"
            show(Finding("configuration", Status.WARN, "none was found", remedy))
        return None, discover(PluginsSection())
    path = find_config(config)
    try:
        manager = discover(configuration.plugins_section(path))
    except ConfigError as error:
        show(_broken(error))
        return None, None
    try:
        loaded = configuration.load(path, manager)
    except ConfigError as error:
        show(_broken(error))
        return None, manager
    show(Finding("configuration", Status.OK, f"{path} is valid"))
    return loaded, manager


def _broken(error: ConfigError) -> Finding:
    return Finding("configuration", Status.FAIL, str(error), "run: trunkline config check")


async def _look(config: BoxConfig, manager: PluginManager, show: Callable[[Finding], None]) -> None:
    async for finding in box_findings(config, manager):
        show(finding)
