# SPDX-License-Identifier: Apache-2.0
"""Reads agents from YAML files; every problem is reported with file, line and remedy."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from appliance.call.agent import Agent


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in an agent file; `line` counts from 1."""

    path: Path
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return f"{self.path}:{self.line}: {key}{self.message}"


class AgentFileError(Exception):
    """An agent file cannot be used; `problems` says all that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def load_agent(path: Path) -> Agent:
    """Read one agent.

    Raises:
        AgentFileError: unreadable, not YAML, or not a valid agent.
    """
    try:
        tree = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise AgentFileError([Problem(path, 1, "", f"cannot be read: {error}")]) from error
    except MarkedYAMLError as error:
        line = (error.problem_mark.line if error.problem_mark else 0) + 1
        message = f"not valid YAML: {error.problem or error.context}"
        raise AgentFileError([Problem(path, line, "", message)]) from error
    if not isinstance(tree, dict):
        message = "an agent file is a mapping; start with 'version: 1'"
        raise AgentFileError([Problem(path, 1, "", message)])
    try:
        return Agent.model_validate(tree)
    except ValidationError as error:
        raise AgentFileError([_problem(path, tree, item) for item in error.errors()]) from error


def load_agents(folder: Path) -> tuple[dict[str, Agent], list[Problem]]:
    """Read all agents (`*.yaml`, `*.yml`) of a folder: the valid ones by name, and all problems."""
    agents: dict[str, Agent] = {}
    files: dict[str, Path] = {}
    problems: list[Problem] = []
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            agent = load_agent(path)
        except AgentFileError as error:
            problems += error.problems
            continue
        if agent.name in agents:
            message = f"{agent.name!r} is also the name in {files[agent.name].name}; rename one"
            problems.append(Problem(path, 1, "name", message))
            continue
        agents[agent.name], files[agent.name] = agent, path
    return agents, problems


class AgentLibrary:
    """The agents of a folder, read again when a file changes: the next call gets the new one.

    A file that has become invalid keeps its last good version in service; `problems` says so.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamp: tuple[tuple[str, int, int], ...] = ()
        self._agents: dict[str, Agent] = {}
        self.problems: list[Problem] = []

    def names(self) -> list[str]:
        """Return the names of all agents."""
        self._refresh()
        return sorted(self._agents)

    def get(self, name: str) -> Agent | None:
        """Return the newest valid version of an agent."""
        self._refresh()
        return self._agents.get(name)

    def _refresh(self) -> None:
        files = sorted([*self._folder.glob("*.yaml"), *self._folder.glob("*.yml")])
        stamp = tuple((f.name, (s := f.stat()).st_mtime_ns, s.st_size) for f in files)
        if stamp == self._stamp:
            return
        loaded, self.problems = load_agents(self._folder)
        broken = {problem.path for problem in self.problems}
        kept = self._agents if broken else {}
        self._agents = {**kept, **loaded}
        self._stamp = stamp


def _problem(path: Path, tree: Any, item: Any) -> Problem:
    location = [part for part in item["loc"] if not _is_union_tag(part)]
    line, model = _line(tree, location), Agent
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), _known_keys(model, location[:-1]), n=1)
        message = "unknown key" + (f"; did you mean {near[0]!r}?" if near else "; remove it")
    elif item["type"] == "missing":
        message = "missing; add it"
    elif not str(item["msg"]).startswith("Value error"):
        message = f"{message} (got {item['input']!r:.60})"
    return Problem(path, line, ".".join(map(str, location)), message)


def _is_union_tag(part: Any) -> bool:
    return part in {"end_call", "book_appointment", "webhook", "plugin"}


def _line(tree: Any, location: list[Any]) -> int:
    line = 1
    for part in location:
        try:
            marks = tree.lc.data[part]
            line = marks[0] + 1
            tree = tree[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line


def _known_keys(model: type[BaseModel], location: list[Any]) -> list[str]:
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type):
            return []
        if not issubclass(field.annotation, BaseModel):
            return []
        model = field.annotation
    return list(model.model_fields)
