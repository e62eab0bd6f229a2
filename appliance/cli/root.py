# SPDX-License-Identifier: Apache-2.0
"""The root command: which commands there are, each found in a module of its own."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

COMMANDS = {
    "serve": "appliance.cli.serve",
    "call": "appliance.cli.call",
    "doctor": "appliance.cli.doctor",
    "capacity": "appliance.cli.capacity",
    "agents": "appliance.cli.agents",
    "calls": "appliance.cli.calls",
    "config": "appliance.cli.config",
    "hub": "appliance.cli.hub",
    "models": "appliance.cli.models",
    "plugins": "appliance.cli.plugins",
}
"""Command to module. The module holds `app` (a group) or a function of the command's name."""


class LazyGroup(TyperGroup):
    """Imports a command's module when the command is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command, or None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        holder = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        found = _find(cmd_name)
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=cmd_name)
            return getattr(typer.main.get_command(holder), "commands")[cmd_name]  # noqa: B009
        holder.command(cmd_name)(found)
        return typer.main.get_command(holder)


def _find(name: str) -> typer.Typer | Callable[..., Any]:
    try:
        module = importlib.import_module(COMMANDS[name])
    except ImportError as error:
        return _unavailable(name, str(error))
    found: typer.Typer | Callable[..., Any] = getattr(module, "app", None) or getattr(module, name)
    return found


def _unavailable(name: str, why: str) -> Callable[..., None]:
    def command(arguments: Annotated[list[str] | None, typer.Argument()] = None) -> None:
        del arguments
        typer.echo(f"trunkline {name} cannot be used here: {why}", err=True)
        raise typer.Exit(1)

    command.__doc__ = f"Cannot be used here: {why}."
    return command


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Trunkline answers the phone: local speech recognition, language model and speech.",
    epilog="Exit codes: 0 fine, 1 problems were found, 2 the command was used wrongly.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trunkline {version('trunkline')}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Trunkline answers the phone: local speech recognition, language model and speech."""
    del show_version
    logging.captureWarnings(capture=True)


def build() -> Any:
    """Return the command line as a click command: to run it, or to write its reference."""
    return typer.main.get_command(app)
