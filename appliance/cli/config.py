# SPDX-License-Identifier: Apache-2.0
"""`trunkline config`: check the configuration, show what the box makes of it."""

from __future__ import annotations

from typing import Any

import typer
from pydantic import BaseModel, SecretBytes, SecretStr

from appliance.call.agent_file import load_agents
from appliance.cli.common import (
    PROBLEMS,
    ConfigOption,
    JsonOption,
    discover,
    find_config,
    load_config,
    print_json,
)
from appliance.config import BoxConfig, ConfigError, load, plugins_section
from appliance.config.model import CORE, INLINE, NAMED, PLACED, SINGLE, Configured
from appliance.config.toml import dumps
from appliance.plugin import Kind

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Check and show the configuration.",
    epilog="Example: trunkline config check --config appliance.toml",
)


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Validate the configuration, its plugins' settings, and the agents that it names.

    Example: trunkline config check --json
    """
    path = find_config(config)
    problems: list[dict[str, str]] = []
    try:
        loaded = load(path, discover(plugins_section(path)))
        problems += [{"where": str(path), "message": text} for text in _agent_problems(loaded)]
    except ConfigError as error:
        problems = [
            {
                "where": one.where,
                "key": one.key,
                "value": one.value,
                "message": one.message,
                "remedy": one.remedy,
                "text": str(one),
            }
            for one in error.problems
        ]
    if as_json:
        print_json(problems)
    elif problems:
        for problem in problems:
            typer.echo(problem.get("text") or problem["message"])
    else:
        typer.echo(f"{path} is fine.")
    if problems:
        raise typer.Exit(PROBLEMS)


@app.command()
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every setting with its value, defaults and overrides included. Secrets are masked.

    Example: trunkline config show
    """
    loaded, _ = load_config(config)
    tree = effective(loaded)
    if as_json:
        print_json(tree)
    else:
        typer.echo(dumps(tree), nl=False)


def effective(config: BoxConfig) -> dict[str, Any]:
    """Return the configuration as it would be written with nothing left to a default."""
    tree: dict[str, Any] = {name: masked(config.section(name)) for name in CORE}
    tree["routes"] = dict(config.routes)
    for section, kind in NAMED.items():
        found = config.providers(kind)
        if found:
            tree[section] = {name: _provider(one) for name, one in found.items()}
    for section, kind in SINGLE.items():
        for one in config.providers(kind).values():
            tree[section] = _provider(one)
    return tree


def _provider(one: Configured) -> dict[str, Any]:
    written: dict[str, Any] = {"use": one.offer.id, **masked(one.settings)}
    if one.kind in PLACED:
        written["placement"] = one.placement.where
        if one.placement.where != INLINE:
            written["worker"] = masked(one.placement.worker)
    return written


def masked(value: Any) -> Any:
    """Return settings as plain data, with every secret replaced."""
    if isinstance(value, SecretStr | SecretBytes):
        return "(hidden)"
    if isinstance(value, BaseModel):
        return {name: masked(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, dict):
        return {str(key): masked(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [masked(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _agent_problems(config: BoxConfig) -> list[str]:
    agents, problems = load_agents(config.agents.dir)
    found = [str(problem) for problem in problems]
    if not config.agents.dir.is_dir():
        found.append(f"agents.dir: there is no folder {config.agents.dir}; create it")
    named = [("agents.default", config.agents.default)]
    named += [(f"routes.{pattern}", agent) for pattern, agent in config.routes.items()]
    known = ", ".join(agents) or "none"
    for key, name in named:
        if name is not None and name not in agents:
            found.append(f"{key}: there is no agent {name!r}; known: {known}")
    for agent in agents.values():
        for kind in (Kind.SPEECH_TO_TEXT, Kind.LANGUAGE_MODEL, Kind.TEXT_TO_SPEECH):
            configured = config.providers(kind)
            found += [
                f"agent {agent.name}: engines.{kind.value}: {name!r} is not configured; "
                f"add [{kind.value}.{name}] or use one of: {', '.join(configured) or 'none'}"
                for name in getattr(agent.engines, kind.value)
                if name not in configured
            ]
    return found
