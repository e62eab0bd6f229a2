# SPDX-License-Identifier: Apache-2.0
"""Writes the reference pages of `docs/` from the code: `./run docs`; `--check` only compares.

docs/reference/configuration.md    from the settings models of the box and of every plugin
docs/reference/cli.md              from the commands themselves
docs/plugins/hooks.md              from the hook specifications
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from appliance.call.agent import Agent
from appliance.cli.root import COMMANDS, build
from appliance.config.explain import is_secret, models_in
from appliance.config.model import CORE, NAMED, PLACED, SINGLE, WorkerSection
from appliance.plugin.manager import PluginManager

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "reference"

CONFIGURATION = """\
# Configuration

<!-- Written by tools/docs.py from the settings in the code: ./run docs. Do not edit. -->

The box reads one TOML file: the one that `--config` or `TRUNKLINE_CONFIG` names, else `./appliance.toml`,
else `/etc/trunkline/appliance.toml`. `trunkline config check` names every mistake in it with line and
remedy, `trunkline config show` prints every setting with its value. An example to start from is
[configs/appliance.toml](../../configs/appliance.toml).

- Relative paths start at the folder of the file.
- `TRUNKLINE__SECTION__KEY=value` in the environment overrides a key: `TRUNKLINE__BOX__LOG_LEVEL=debug`.
- Secrets need not stand in the file: `{ env = "NAME" }` or `{ file = "PATH" }` instead of any value takes
  it from the environment or from a file.
- An unknown key is an error, so that no typing mistake goes unnoticed.
"""

ROUTES = """\
Which agent answers which number: `"100" = "reception"`. The number may hold `*` and `?`; the most exact
pattern wins, and `agents.default` takes the rest.
"""

SEVERAL = """\
Any number of them, each under a name of your own. `use` names the plugin's offer; the other keys are its
settings.
"""

PLACES = """\
`placement` says where the provider runs: `"inline"` (the default) in the box, `"worker"` in a process of its
own, `"host:port"` in one on another machine ([operations](../operations.md)). Keys of its `worker` table:
"""

SINGLE_ONE = """\
One of them or none. `use` names the plugin's offer; the other keys are its settings.
"""

AGENTS = """\
# Agent files

<!-- Written by tools/docs.py from the settings in the code: ./run docs. Do not edit. -->

Every key of an agent's YAML file. [agents.md](../agents.md) explains how to write one.
"""

CLI = """\
# Commands

<!-- Written by tools/docs.py from the commands themselves: ./run docs. Do not edit. -->

Exit codes: 0 fine, 1 problems were found, 2 the command was used wrongly. `--json` prints data for programs.
"""


def main() -> None:
    """Write the pages, or with `--check` end with 1 when one is not current."""
    check = "--check" in sys.argv[1:]
    stale = []
    for path, text in pages().items():
        if check:
            stale += [] if path.is_file() and path.read_text(encoding="utf-8") == text else [path]
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    hooks = [sys.executable, str(ROOT / "docs" / "plugins" / "write_hooks.py")]
    done = subprocess.run([*hooks, *(["--check"] if check else [])], check=False)
    for path in stale:
        print(f"{path.relative_to(ROOT)} is not current: ./run docs")
    if stale or done.returncode:
        sys.exit(1)


def pages() -> dict[Path, str]:
    """Return the text of each page."""
    return {
        PAGES / "configuration.md": configuration(),
        PAGES / "agents.md": agents(),
        PAGES / "cli.md": commands(),
    }


def agents() -> str:
    """Return the reference of agent files."""
    inner = (part.replace("#### ", "## ", 1) for part in _inner(Agent, set()))
    return "\n".join([AGENTS, _table(Agent), *inner]).rstrip() + "\n"


def configuration() -> str:
    """Return the configuration reference."""
    manager = PluginManager.discover()
    parts = [CONFIGURATION]
    for name, model in CORE.items():
        parts += [f"## [{name}]\n", _about(model), _table(model)]
    parts += ["## [routes]\n", ROUTES]
    for section, kind in {**NAMED, **SINGLE}.items():
        title = f"[{section}.NAME]" if section in NAMED else f"[{section}]"
        parts += [f"## {title}\n", SEVERAL if section in NAMED else SINGLE_ONE]
        if kind in PLACED:
            parts += [PLACES, _table(WorkerSection)]
        for offer in sorted(manager.offers(kind), key=lambda one: one.id):
            parts += [f'### use = "{offer.id}"\n', f"{offer.summary}\n", _table(offer.settings)]
            parts += list(_inner(offer.settings, set()))
    return "\n".join(parts).rstrip() + "\n"


def _inner(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[str]:
    for name, info in model.model_fields.items():
        for inner in models_in(info.annotation):
            if inner not in seen:
                seen.add(inner)
                yield f"#### {inner.__name__}, in `{name}`\n"
                yield _table(inner)
                yield from _inner(inner, seen)


def _about(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "") + "\n"


def _table(model: type[BaseModel]) -> str:
    if not model.model_fields:
        return "It has no settings.\n"
    rows = ["| key | type | default | what it does |", "|---|---|---|---|"]
    for name, info in model.model_fields.items():
        default = info.get_default(call_default_factory=True, validated_data={})
        shown = "required" if default is PydanticUndefined else _default(default)
        about = (info.description or "").replace("|", "\\|").replace("\n", " ")
        rows.append(f"| `{info.alias or name}` | {_type(info)} | {shown} | {about} |")
    return "\n".join(rows) + "\n"


def _default(value: Any) -> str:
    if value is None or value == "" or is_secret(type(value)):
        return ""
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, set | frozenset):
        value = sorted(value)
    if isinstance(value, list | tuple):
        return f"`[{', '.join(str(getattr(one, 'value', one)) for one in value)}]`"
    return f"`{getattr(value, 'value', value)}`"


def _type(info: Any) -> str:
    if is_secret(info.annotation):
        return "secret"
    if get_origin(info.annotation) is Literal:
        return " or ".join(f"`{one}`" for one in get_args(info.annotation))
    text = inspect.formatannotation(info.annotation)
    for old, new in (
        ("typing.", ""),
        ("pathlib.", ""),
        ("collections.abc.", ""),
        (" | None", ""),
        ("tuple[", "list["),
        ("frozenset[", "list["),
        (", ...]", "]"),
        ("'", '"'),
    ):
        text = text.replace(old, new)
    text = re.sub(r"\w+(?:\.\w+)*\.(\w+)", r"\1", text)
    text = text.removeprefix("Optional[").replace("|", "or")
    return text if len(text) < 60 else text.partition("[")[0].lower()


def commands() -> str:
    """Return the command reference."""
    parts = [CLI]
    root = build()
    context = root.make_context("trunkline", [], resilient_parsing=True)
    for name in COMMANDS:
        parts += _command(root.get_command(context, name), f"trunkline {name}", context)
    return "\n".join(parts).rstrip() + "\n"


def _command(command: Any, name: str, parent: Any) -> Iterator[str]:
    context = typer.Context(command, info_name=name, parent=parent)
    yield f"## {name}\n"
    yield from _prose(inspect.cleandoc(command.help or "").replace("\f", ""))
    subcommands = getattr(command, "commands", None)
    if subcommands:
        for key, inner in subcommands.items():
            yield from _command(inner, f"{name} {key}", context)
        return
    rows = [_parameter(one) for one in command.params if one.name != "help"]
    if rows:
        yield "| argument or option | what it does |\n|---|---|\n" + "\n".join(rows) + "\n"


def _prose(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        lines = paragraph.splitlines()
        if lines and lines[0].startswith("Example"):
            first = lines[0].partition(":")[2].strip()
            examples = [line.strip() for line in ([first] if first else []) + lines[1:]]
            yield "```sh\n" + "\n".join(examples) + "\n```\n"
        else:
            yield paragraph + "\n"


def _parameter(one: Any) -> str:
    names = ", ".join(f"`{option}`" for option in [*one.opts, *one.secondary_opts])
    if one.param_type_name == "argument":
        names = f"`{(one.metavar or one.name).upper()}`"
    about = " ".join((getattr(one, "help", "") or "").split()).replace("|", "\\|")
    default = one.default
    if default not in (None, False, (), [], "") and not callable(default):
        about = f"{about} Default: `{getattr(default, 'value', default)}`."
    return f"| {names} | {about} |"


if __name__ == "__main__":
    main()
