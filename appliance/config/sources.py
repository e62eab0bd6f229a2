# SPDX-License-Identifier: Apache-2.0
"""Where values come from: the file, the environment, and secrets kept beside either.

A value of the form `{ env = "NAME" }` or `{ file = "PATH" }` stands for the content of that
environment variable or file, so that no secret need be written into `appliance.toml`.
`TRUNKLINE__SECTION__KEY=value` overrides a key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.config.lines import KeyPath, key_lines, line_of

PREFIX = "TRUNKLINE__"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `value` is as a person may see it: secrets are masked."""

    where: str
    key: str
    value: str
    message: str
    remedy: str

    def __str__(self) -> str:
        key = f"{self.key} = {self.value}" if self.value else self.key
        subject = f" {key}:" if key else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.where}:{subject} {self.message}{remedy}"


class ConfigError(Exception):
    """The configuration cannot be used; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        listed = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"The configuration has {count}:\n{listed}")
        self.problems = problems


@dataclass(slots=True)
class Tree:
    """The merged values, and where each of them was written.

    Attributes:
        data: as `tomllib` gives it, with overrides and references filled in.
        secret: paths whose value came from `{env=...}`, `{file=...}`: never shown.
    """

    path: Path
    data: dict[str, Any]
    lines: dict[KeyPath, int]
    problems: list[Problem] = field(default_factory=list)
    secret: set[KeyPath] = field(default_factory=set)
    overridden: dict[KeyPath, str] = field(default_factory=dict)

    def where(self, path: KeyPath) -> str:
        """Return the place of `path`: `file:line`, or the environment variable that set it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overridden:
                return f"environment variable {self.overridden[path[:length]]}"
        return f"{self.path}:{line_of(self.lines, path)}"

    def report(self, path: KeyPath, message: str, remedy: str = "", value: str = "") -> None:
        """Note a problem at `path`."""
        key = ".".join(map(str, path))
        self.problems.append(Problem(self.where(path), key, value, message, remedy))


def read(path: Path, environ: Mapping[str, str]) -> Tree:
    """Read the file, apply the environment, and fill in references.

    Raises:
        ConfigError: the file cannot be read or is not TOML. Other problems are noted in the tree.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        problem = Problem(
            str(path), "", "", "no such file", "name one with --config, or start from configs/"
        )
        raise ConfigError([problem]) from error
    except (OSError, UnicodeDecodeError) as error:
        problem = Problem(str(path), "", "", f"cannot be read: {error}", "make it readable UTF-8")
        raise ConfigError([problem]) from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, line = _toml_error(error)
        problem = Problem(
            f"{path}:{line}", "", "", f"not valid TOML: {message}", "correct the line"
        )
        raise ConfigError([problem]) from error
    tree = Tree(path, data, key_lines(text))
    _override(tree, environ)
    tree.data = _resolved(tree, tree.data, (), environ)
    return tree


def _toml_error(error: tomllib.TOMLDecodeError) -> tuple[str, int]:
    found = re.search(r"^(.*) \(at line (\d+), column \d+\)$", str(error))
    if found:
        return found.group(1), int(found.group(2))
    return str(error).replace(" (at end of document)", " at the end of the file"), 1


def _override(tree: Tree, environ: Mapping[str, str]) -> None:
    for variable in sorted(environ):
        if not variable.upper().startswith(PREFIX):
            continue
        parts = [part for part in variable[len(PREFIX) :].split("__") if part]
        if len(parts) < 2:
            continue
        target: Any = tree.data
        path: KeyPath = ()
        for position, part in enumerate(parts):
            key = _key(target, part)
            path = (*path, key)
            if position == len(parts) - 1:
                target[key] = _value(environ[variable])
                tree.overridden[path] = variable
            else:
                target = _step(target, key)
                if target is None:
                    tree.overridden[path] = variable
                    tree.report(path, "holds no settings to override", "correct the name")
                    break


def _key(target: Any, part: str) -> str | int:
    if isinstance(target, list):
        return int(part) if part.isdigit() and int(part) < len(target) else part.lower()
    written = (str(key) for key in target if str(key).lower() == part.lower())
    return next(written, part.lower())


def _step(target: Any, key: str | int) -> Any:
    if isinstance(target, list):
        found = target[key] if isinstance(key, int) else None
    else:
        found = target.setdefault(key, {})
    return found if isinstance(found, dict | list) else None


def _value(text: str) -> Any:
    """Lists and tables are written as in TOML; everything else is text, which the models convert."""
    if text[:1] in {"[", "{"}:
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return text


def _resolved(tree: Tree, value: Any, path: KeyPath, environ: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_resolved(tree, one, (*path, n), environ) for n, one in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and path:
        ((kind, name),) = value.items()
        if kind in {"env", "file"} and isinstance(name, str):
            tree.secret.add(path)
            return _referenced(tree, kind, name, path, environ)
    return {key: _resolved(tree, one, (*path, key), environ) for key, one in value.items()}


def _referenced(tree: Tree, kind: str, name: str, path: KeyPath, environ: Mapping[str, str]) -> str:
    if kind == "env":
        if name in environ:
            return environ[name]
        tree.report(path, f"the environment variable {name} is not set", f"set {name}")
        return ""
    file = tree.path.parent / name
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        tree.report(path, f"the file {file} cannot be read: {reason}", "make it readable")
        return ""
