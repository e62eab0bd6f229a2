# SPDX-License-Identifier: Apache-2.0
"""Reads `appliance.toml` into a `BoxConfig`, or says in one message everything that is wrong with it."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from appliance.config import explain
from appliance.config.lines import KeyPath
from appliance.config.model import (
    CORE,
    INLINE,
    NAMED,
    PLACED,
    SINGLE,
    AgentsSection,
    BoxConfig,
    BoxSection,
    Configured,
    HubSection,
    LimitsSection,
    Placement,
    PluginsSection,
    RecordingSection,
    WorkerSection,
)
from appliance.config.sources import ConfigError, Problem, Tree, read
from appliance.plugin import ConfigurationError, Kind, Offer, Settings

_S = TypeVar("_S", bound=Settings)
DEFAULT_VOICE_ACTIVITY = "silero"
_PLACE = re.compile(r"inline|worker|([A-Za-z0-9.\-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}")


class OfferSource(Protocol):
    """The part of the plugin manager that is needed here."""

    def offer(self, kind: Kind, id: str) -> Offer:  # noqa: A002
        """Return an offer, or raise ConfigurationError that says what is installed."""
        ...


def load(path: Path, plugins: OfferSource, environ: Mapping[str, str] | None = None) -> BoxConfig:
    """Read and validate the configuration, the settings of every plugin it uses included.

    Args:
        path: the file; relative paths in it are relative to its folder.
        plugins: who offers what.
        environ: overrides and secrets; by default the process environment.

    Raises:
        ConfigError: with all problems.
    """
    tree = read(path, os.environ if environ is None else environ)
    reader = _Reader(tree)
    config = reader.config(plugins)
    if tree.problems:
        raise ConfigError(sorted(tree.problems, key=_by_line))
    return config


def plugins_section(path: Path, environ: Mapping[str, str] | None = None) -> PluginsSection:
    """Read the `[plugins]` section alone: it says which plugins may load, so it is read first.

    Raises:
        ConfigError: the file cannot be read, or this section is wrong.
    """
    tree = read(path, os.environ if environ is None else environ)
    tree.problems = [one for one in tree.problems if one.key.startswith("plugins.")]
    section = _Reader(tree).core("plugins", PluginsSection)
    if tree.problems:
        raise ConfigError(tree.problems)
    return section


def box_section(path: Path, environ: Mapping[str, str] | None = None) -> BoxSection:
    """Read the `[box]` section alone, for what needs no plugin.

    Raises:
        ConfigError: the file cannot be read, or this section is wrong.
    """
    tree = read(path, os.environ if environ is None else environ)
    tree.problems = [one for one in tree.problems if one.key.startswith("box.")]
    reader = _Reader(tree)
    section = reader.core("box", BoxSection)
    if tree.problems:
        raise ConfigError(tree.problems)
    return section.model_copy(update={"data_dir": reader.absolute(section.data_dir)})


def _by_line(problem: Problem) -> tuple[str, int]:
    file, _, line = problem.where.rpartition(":")
    return (file, int(line)) if line.isdigit() else (problem.where, 0)


class _Reader:
    """One pass over a tree; problems are noted in it."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._folder = tree.path.absolute().parent

    def config(self, plugins: OfferSource) -> BoxConfig:
        self._check_sections()
        box = self.core("box", BoxSection)
        agents = self.core("agents", AgentsSection)
        recording = self.core("recording", RecordingSection)
        recordings = recording.dir and self.absolute(recording.dir)
        return BoxConfig(
            path=self._tree.path,
            box=box.model_copy(update={"data_dir": self.absolute(box.data_dir)}),
            agents=agents.model_copy(update={"dir": self.absolute(agents.dir)}),
            limits=self.core("limits", LimitsSection),
            recording=recording.model_copy(update={"dir": recordings}),
            plugins=self.core("plugins", PluginsSection),
            hub=self.core("hub", HubSection),
            routes=self._routes(),
            configured=self._configured(plugins),
        )

    def core(self, name: str, model: type[_S]) -> _S:
        """Validate a core section; where it is wrong, its defaults stand in until the error is raised."""
        value = self._table((name,), self._tree.data.get(name, {}))
        try:
            return model.model_validate(value)
        except ValidationError as error:
            explain.report(self._tree, (name,), model, error)
            return model()

    def _check_sections(self) -> None:
        known = [*CORE, *NAMED, *SINGLE, "routes"]
        for name in self._tree.data:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                remedy = f"did you mean [{near[0]}]?" if near else f"known: {', '.join(known)}"
                self._tree.report((name,), "unknown section", remedy)

    def _routes(self) -> dict[str, str]:
        routes = self._table(("routes",), self._tree.data.get("routes", {}))
        for pattern, agent in routes.items():
            if not isinstance(agent, str) or not agent:
                self._tree.report(
                    ("routes", pattern),
                    "a route names an agent",
                    'write "NUMBER" = "AGENT"',
                    explain.shown(agent),
                )
        return {pattern: str(agent) for pattern, agent in routes.items()}

    def _configured(self, plugins: OfferSource) -> dict[Kind, dict[str, Configured]]:
        found: dict[Kind, dict[str, Configured]] = {}
        for section, kind in NAMED.items():
            entries = self._table((section,), self._tree.data.get(section, {}))
            if "use" in entries and not isinstance(entries["use"], dict):
                remedy = f"write [{section}.NAME], for instance [{section}.local]"
                self._tree.report((section,), "each provider of this section has a name", remedy)
                continue
            for name, entry in entries.items():
                one = self._provider(plugins, kind, (section, name), name, entry)
                if one is not None:
                    found.setdefault(kind, {})[name] = one
        for section, kind in SINGLE.items():
            entry = self._tree.data.get(section)
            if entry is None and kind is Kind.VOICE_ACTIVITY:
                entry = {"use": DEFAULT_VOICE_ACTIVITY}
            if entry is not None:
                one = self._provider(plugins, kind, (section,), section, entry)
                if one is not None:
                    found[kind] = {section: one}
        return found

    def _provider(
        self, plugins: OfferSource, kind: Kind, path: KeyPath, name: str, entry: Any
    ) -> Configured | None:
        if not isinstance(entry, dict):
            remedy = f'write [{".".join(map(str, path))}] and under it use = "PLUGIN"'
            self._tree.report(path, "is a table", remedy, explain.shown(entry))
            return None
        settings = dict(entry)
        use = settings.pop("use", None)
        placement = self._placement(kind, path, settings)
        if not isinstance(use, str):
            self._tree.report((*path, "use"), "missing", 'name the plugin: use = "PLUGIN"')
            return None
        try:
            offer = plugins.offer(kind, use)
        except ConfigurationError as error:
            self._tree.report((*path, "use"), error.message, error.remedy, explain.shown(use))
            return None
        try:
            validated = offer.settings.model_validate(settings)
        except ValidationError as error:
            explain.report(self._tree, path, offer.settings, error)
            return None
        return Configured(name, offer, self._located(validated), placement)

    def _placement(self, kind: Kind, path: KeyPath, settings: dict[str, Any]) -> Placement:
        """Take out of a provider's table what says where it runs."""
        if kind not in PLACED:
            return Placement()
        where = settings.pop("placement", INLINE)
        table = self._table((*path, "worker"), settings.pop("worker", {}))
        if not isinstance(where, str) or not _PLACE.fullmatch(where):
            remedy = 'write "inline", "worker" or "host:port" of a worker on another machine'
            self._tree.report((*path, "placement"), "no such place", remedy, explain.shown(where))
            return Placement()
        try:
            worker = self._located(WorkerSection.model_validate(table))
        except ValidationError as error:
            explain.report(self._tree, (*path, "worker"), WorkerSection, error)
            return Placement()
        placement = Placement(where, worker)
        for key in ("ca", "cert", "key") if placement.remote else ():
            if getattr(worker, key) is None:
                remedy = f"add the PEM file: {WorkerSection.model_fields[key].description}"
                self._tree.report((*path, "worker", key), "missing", remedy)
        return placement

    def _located(self, value: Any) -> Any:
        """Return settings with every relative path in them taken from the folder of the file."""
        if isinstance(value, Path):
            return self.absolute(value)
        if isinstance(value, BaseModel):
            found = {name: getattr(value, name) for name in value.model_fields_set}
            located = {name: self._located(one) for name, one in found.items()}
            changed = {name: one for name, one in located.items() if one != found[name]}
            return value.model_copy(update=changed) if changed else value
        if isinstance(value, dict):
            return {key: self._located(one) for key, one in value.items()}
        if isinstance(value, tuple | list):
            return type(value)(self._located(one) for one in value)
        return value

    def _table(self, path: KeyPath, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self._tree.report(path, "is a section", f"write [{path[0]}]", explain.shown(value))
        return {}

    def absolute(self, path: Path) -> Path:
        """Return a path as meant by the file: relative to its folder."""
        return (self._folder / path.expanduser()).resolve()
