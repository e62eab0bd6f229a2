# SPDX-License-Identifier: Apache-2.0
"""`trunkline agents`: list and validate agent files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from appliance.call.agent import Agent
from appliance.call.agent_file import AgentFileError, load_agent, load_agents
from appliance.cli.common import (
    PROBLEMS,
    USAGE,
    ConfigOption,
    JsonOption,
    console,
    fail,
    load_config,
    print_json,
)
from appliance.config import BoxConfig
from appliance.plugin import Kind

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="List and validate agents."
)


@app.command("list")
def list_agents(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the agents of the configuration's folder.

    Example: trunkline agents list --json
    """
    loaded, _ = load_config(config)
    agents, problems = load_agents(loaded.agents.dir)
    if as_json:
        print_json([_row(agent) for agent in agents.values()])
    else:
        table = Table("agent", "revision", "language", "tools", "description")
        for agent in agents.values():
            tools = ", ".join(tool.name for tool in agent.tools)
            table.add_row(agent.name, agent.revision(), agent.language, tools, agent.description)
        console().print(table)
    for problem in problems:
        typer.echo(str(problem), err=True)
    if problems:
        raise typer.Exit(PROBLEMS)


@app.command()
def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Agent files; by default the whole folder.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check agent files; each problem is named with file, line and remedy.

    With a configuration, the engines and plugin tools that an agent names must exist in it.

    Examples:
      trunkline agents validate
      trunkline agents validate agents/reception.yaml
    """
    loaded = load_config(config)[0] if config is not None or not files else None
    paths = list(files or [])
    if loaded is not None and not files:
        folder = loaded.agents.dir
        paths = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
        if not paths:
            fail(f"There is no agent file in {folder}.", USAGE)
    problems: list[str] = []
    for path in paths:
        try:
            agent = load_agent(path)
        except AgentFileError as error:
            problems += [str(problem) for problem in error.problems]
            continue
        if loaded is not None:
            problems += [f"{path}: {missing}" for missing in missing_parts(agent, loaded)]
    if as_json:
        print_json({"files": [str(path) for path in paths], "problems": problems})
    else:
        for problem in problems:
            typer.echo(problem)
        typer.echo(f"{len(paths)} file(s), {len(problems)} problem(s)")
    if problems:
        raise typer.Exit(PROBLEMS)


def missing_parts(agent: Agent, config: BoxConfig) -> list[str]:
    """Return what an agent names and the configuration does not have, each with the remedy."""
    named = {
        Kind.SPEECH_TO_TEXT: agent.engines.speech_to_text,
        Kind.LANGUAGE_MODEL: agent.engines.language_model,
        Kind.TEXT_TO_SPEECH: agent.engines.text_to_speech,
        Kind.TOOL: tuple(tool.name for tool in agent.tools if tool.type == "plugin"),
    }
    missing = []
    for kind, names in named.items():
        known = config.providers(kind)
        section = "tools" if kind is Kind.TOOL else kind.value
        for name in names:
            if name not in known:
                have = ", ".join(known) or "none"
                missing.append(
                    f"{section} {name!r} is not configured; add [{section}.{name}] to "
                    f"{config.path.name}, or use one of: {have}"
                )
    return missing


def _row(agent: Agent) -> dict[str, object]:
    return {
        "name": agent.name,
        "revision": agent.revision(),
        "language": agent.language,
        "tools": [tool.name for tool in agent.tools],
        "description": agent.description,
    }
