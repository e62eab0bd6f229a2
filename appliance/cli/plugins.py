# SPDX-License-Identifier: Apache-2.0
"""`trunkline plugins`: what is installed, what each can do, and whether it keeps its contract."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from appliance import config, logs
from appliance.cli.common import (
    PROBLEMS,
    SEARCHED,
    USAGE,
    ConfigOption,
    JsonOption,
    console,
    data_dir,
    discover,
    fail,
    print_json,
)
from appliance.cli.plugin_check import SettingsError, findings, read_settings, select
from appliance.config import ConfigError
from appliance.engines.packs import resolver
from appliance.plugin.conformance import Finding, Outcome
from appliance.plugin.describe import plugin_data
from appliance.plugin.loading import LoadedPlugin
from appliance.plugin.manager import PluginManager

app = typer.Typer(
    no_args_is_help=True,
    help="List, show and check the installed plugins.",
    rich_markup_mode="rich",
)

MARKS = {
    Outcome.PASSED: "[green]pass[/]",
    Outcome.FAILED: "[bold red]FAIL[/]",
    Outcome.NOT_CHECKED: "[yellow]not checked[/]",
    Outcome.NOT_APPLICABLE: "[dim]n/a[/]",
}


def _manager(path: Path | None) -> PluginManager:
    """Load the plugins that the configuration lets in, or all without a configuration."""
    logs.setup("error", "console")
    if path is None:
        path = next((one for one in SEARCHED if one.is_file()), None)
    if path is None:
        return PluginManager.discover()
    try:
        return discover(config.plugins_section(path))
    except ConfigError as error:
        fail(str(error))


@app.command(
    "list",
    epilog="Examples:  trunkline plugins list  |  trunkline plugins list --json | jq '.plugins[].id'",
)
def list_plugins(path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the installed plugins, what they offer, and what is wrong with any of them.

    Exit code 1 when one is faulty.
    """
    manager = _manager(path)
    if as_json:
        print_json(
            {
                "plugins": [plugin_data(one) for one in manager.plugins.values()],
                "denied": [{"id": one.plugin, "reason": one.reason} for one in manager.denied],
                "faults": [
                    {"id": one.plugin, "stage": one.stage, "message": one.message}
                    for one in manager.faults
                ],
            }
        )
    else:
        _print_list(console(), manager)
    if manager.faults:
        raise typer.Exit(PROBLEMS)


def _print_list(out: Console, manager: PluginManager) -> None:
    table = Table("Plugin", "Version", "Runs", "Sends away", "Offers", box=None, pad_edge=False)
    for plugin in manager.plugins.values():
        about = plugin.manifest
        offers = [f"{offer.kind}/{offer.id}" for offer in plugin.offers]
        packs = [f"model pack {pack.id}" for pack in plugin.packs]
        sent = ", ".join(about.sends_off_premises) or "nothing"
        what = "\n".join(offers + packs) or "observers only"
        table.add_row(plugin.id, plugin.installed.version, about.runs, sent, what)
    out.print(table)
    for denied in manager.denied:
        out.print(f"[yellow]denied[/] {denied.plugin}: {escape(denied.reason)}")
    for fault in manager.faults:
        out.print(f"[bold red]fault[/] {escape(str(fault))}")


@app.command(
    "show",
    epilog="Examples:  trunkline plugins show espeak  |  trunkline plugins show sip --json",
)
def show(
    plugin: Annotated[str, typer.Argument(help="Id of a plugin.")],
    path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a plugin: its manifest, settings, capabilities and hooks."""
    manager = _manager(path)
    found = manager.plugins.get(plugin)
    if found is None:
        _explain_absence(manager, plugin)
    if as_json:
        print_json(plugin_data(found))
    else:
        _print_plugin(console(), found)


def _explain_absence(manager: PluginManager, plugin: str) -> NoReturn:
    faults = [str(one) for one in manager.faults if one.plugin == plugin]
    if faults:
        fail("\n".join(faults))
    for denied in manager.denied:
        if denied.plugin == plugin:
            fail(f"plugin {plugin}: denied: {denied.reason}")
    known = ", ".join(manager.plugins) or "none"
    fail(f"No plugin {plugin!r} is installed. Installed: {known}.", USAGE)


def _print_plugin(out: Console, plugin: LoadedPlugin) -> None:
    data = plugin_data(plugin)
    out.print(f"[bold]{plugin.id}[/] {data['version']}  ({data['distribution']})")
    out.print(escape(plugin.manifest.summary))
    out.print("\n[bold]Manifest[/]")
    rows = {key: value for key, value in data["manifest"].items() if key not in {"id", "summary"}}
    out.print(_pairs(rows))
    out.print(f"\n[bold]Hooks[/]  {', '.join(data['hooks'])}")
    for pack in data["model_packs"]:
        out.print(f"\n[bold]Model pack[/] {pack['id']}: {escape(pack['summary'])}")
        out.print(_pairs(pack["parts"]))
    for offer in data["offers"]:
        out.print(f"\n[bold]{offer['kind']}/{offer['id']}[/]  {escape(offer['summary'])}")
        out.print(_pairs(offer["capabilities"]))
        out.print(_settings_table(offer["settings"]))


def _pairs(rows: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None)
    for key, value in rows.items():
        table.add_row(f"[dim]{key}[/]", escape(_text(value)))
    return table


def _settings_table(settings: list[dict[str, Any]]) -> Table:
    table = Table("Setting", "Type", "Default", "Description", box=None)
    for one in settings:
        default = "[yellow]required[/]" if one["required"] else escape(_text(one["default"]))
        table.add_row(one["name"], escape(one["type"]), default, escape(one["description"]))
    return table


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key}={_text(one)}" for key, one in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value) or '""'


@app.command(
    "check",
    epilog="Examples:  trunkline plugins check  |  trunkline plugins check espeak  |  "
    "trunkline plugins check openai --settings base_url=http://127.0.0.1:8080/v1 --settings model=m",
)
def check(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...", help="Plugins (espeak) or offers (text_to_speech/espeak)."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--settings", "-s", help="KEY=VALUE, or a TOML file; for one ID only."),
    ] = None,
    path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run plugins through the contract of what they offer.

    What needs a key, a server or a model that is not here is reported as not checked, which is no
    pass; give settings to check it. Exit code 1 when a check fails.
    """
    manager = _manager(path)
    try:
        chosen = select(manager, ids or [], read_settings(settings or []))
    except SettingsError as error:
        fail(str(error), USAGE)
    models = resolver(data_dir(path), manager)
    checks = findings(manager, chosen, models)
    if as_json:
        with _output_is_ours():
            found = asyncio.run(_run(checks, None))
        print_json([_finding_data(one) for one in found])
    else:
        found = asyncio.run(_run(checks, console()))
    if any(one.outcome is Outcome.FAILED for one in found):
        raise typer.Exit(PROBLEMS)


@contextmanager
def _output_is_ours() -> Iterator[None]:
    """Send what C libraries print to standard error: standard output is for JSON alone."""
    sys.stdout.flush()
    ours = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(ours, 1)
        os.close(ours)


async def _run(checks: AsyncIterator[Finding], out: Console | None) -> list[Finding]:
    """Print findings as they are made, and return them all."""
    found: list[Finding] = []
    async for finding in checks:
        if out is not None:
            _print_finding(out, finding, found[-1] if found else None)
        found.append(finding)
    if out is not None:
        counts = {mark: sum(one.outcome is mark for one in found) for mark in Outcome}
        said = ", ".join(f"{count} {mark}" for mark, count in counts.items() if count)
        out.print(f"\n{said or 'nothing to check'}")
    return found


def _print_finding(out: Console, finding: Finding, previous: Finding | None) -> None:
    """Print one line; a reason that is that of the line before is not repeated."""
    if previous is None or previous.subject != finding.subject:
        out.print(f"\n[bold]{escape(finding.subject)}[/]")
    known = previous is not None and previous.detail == finding.detail
    detail = f"  [dim]{escape(finding.detail)}[/]" if finding.detail and not known else ""
    if finding.outcome is Outcome.FAILED:
        detail = f"\n        [red]{escape(finding.detail)}[/]"
    out.print(f"  {MARKS[finding.outcome]}  {escape(finding.name)}{detail}")


def _finding_data(finding: Finding) -> dict[str, Any]:
    return {
        "subject": finding.subject,
        "name": finding.name,
        "outcome": finding.outcome.value,
        "passed": finding.passed,
        "detail": finding.detail,
    }
