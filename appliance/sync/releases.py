# SPDX-License-Identifier: Apache-2.0
"""The hub's configuration on the box's disk: one folder a release, and what people changed in it.

    releases/7-0f3a99b2c1d4/bundle.json       as it was received
    releases/7-0f3a99b2c1d4/agents/NAME.yaml  what calls use; may be edited on the box
    kept/NAME.7.1c2d3e4f.yaml                 an edit that a newer release replaced
    state.json                                which release runs

An edit takes effect with the next call, as in the box's own folder of agents. The next release takes it over
where the hub did not change that agent; otherwise the hub's text goes first and the edit is kept.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from appliance.call.agent import Agent
from appliance.call.agent_file import AgentFileError, AgentLibrary, load_agent
from appliance.sync.files import sync_folder, write_whole
from appliance.sync.trial import Release, State
from appliance.wire import Bundle, WireError

SHOWN_BYTES = 64 * 1024
"""An edit up to this size is reported with its text."""

Check = Callable[[Bundle, Mapping[str, Agent]], list[str]]
"""Says what this box cannot do of a bundle; nothing when all is well."""


class ReleaseError(Exception):
    """A bundle cannot be used; `problems` says all that is wrong with it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A release that calls can use.

    Attributes:
        agents: as the hub sent them.
        edited: the same with what was changed on the box.
    """

    release: Release
    bundle: Bundle
    agents: Mapping[str, Agent]
    edited: AgentLibrary
    check: Check

    def agent(self, name: str) -> Agent | None:
        """Return an agent for a new call: as edited where that is usable, else as the hub sent it."""
        edited = self.edited.get(name)
        sent = self.agents.get(name)
        if edited is None or edited == sent:
            return sent
        return sent if self.check(self.bundle, {name: edited}) else edited

    def version_id(self, agent: Agent) -> str:
        """Return the hub's id of this version; "" when the hub did not send it, or not like this."""
        if self.agents.get(agent.name) != agent:
            return ""
        return next(each.id for each in self.bundle.agents if each.name == agent.name)

    def names(self) -> list[str]:
        """Return the names of all its agents."""
        return sorted({*self.agents, *self.edited.names()})


class Releases:
    """The folder of all this."""

    def __init__(self, folder: Path, check: Check) -> None:
        self.folder = folder
        self._check = check
        self._state = folder / "state.json"

    def state(self) -> State:
        """Return what was last written; a damaged file counts as none."""
        try:
            return State.model_validate_json(self._state.read_bytes())
        except (FileNotFoundError, ValidationError):
            return State()

    def write(self, state: State) -> None:
        """Put a state on the disk."""
        write_whole(self._state, state.model_dump_json().encode())

    def stage(self, release: Release, payload: bytes, running: Release | None) -> Loaded:
        """Check a bundle and lay it out; nothing of what runs is touched.

        Args:
            release: what it is.
            payload: the bundle as received, already known to be the hub's.
            running: whose edits it takes over.

        Raises:
            ReleaseError: it cannot be used on this box.
        """
        staging = self.folder / "staging"
        shutil.rmtree(staging, ignore_errors=True)
        bundle = _bundle(payload)
        edits = self._carried(bundle, running)
        for document in bundle.agents:
            text = edits.get(document.name, document.yaml)
            write_whole(staging / "sent" / f"{document.name}.yaml", document.yaml.encode())
            write_whole(staging / "agents" / f"{document.name}.yaml", text.encode())
        for name in edits.keys() - {document.name for document in bundle.agents}:
            write_whole(staging / "agents" / f"{name}.yaml", edits[name].encode())
        agents = _agents(staging / "sent", bundle)
        problems = self._check(bundle, agents)
        if problems:
            raise ReleaseError(problems)
        write_whole(staging / "bundle.json", payload)
        place = self._place(release)
        shutil.rmtree(place, ignore_errors=True)  # left by a crash: what runs is never staged again
        place.parent.mkdir(parents=True, exist_ok=True)
        staging.rename(place)
        sync_folder(place.parent)
        return self.load(release)

    def load(self, release: Release) -> Loaded:
        """Return a release that was staged.

        Raises:
            ReleaseError: it is not whole any more, or this box cannot use it (now).
        """
        place = self._place(release)
        try:
            payload = (place / "bundle.json").read_bytes()
        except OSError as error:
            raise ReleaseError([f"release {release.version} cannot be read: {error}"]) from error
        if hashlib.sha256(payload).hexdigest() != release.sha256:
            raise ReleaseError([f"release {release.version} is damaged on the disk"])
        bundle = _bundle(payload)
        agents = _agents(place / "sent", bundle)
        return Loaded(release, bundle, agents, AgentLibrary(place / "agents"), self._check)

    def drift(self, release: Release | None) -> dict[str, Any]:
        """Return what was changed on the box: edited, removed and added agents, and edits kept aside."""
        changes: dict[str, Any] = {}
        if release is not None:
            sent, here = self._texts(release, "sent"), self._texts(release, "agents")
            for name in sorted(sent.keys() | here.keys()):
                if sent.get(name) != here.get(name):
                    changes[name] = _change(sent.get(name), here.get(name))
        kept = sorted(path.name for path in (self.folder / "kept").glob("*.yaml"))
        found: dict[str, Any] = {"agents": changes} if changes else {}
        return {**found, "kept": kept} if kept else found

    def keep_edits(self, release: Release | None, successor: Release | None) -> None:
        """Copy aside the edits of a release that its successor did not take over. Does nothing twice."""
        if release is None:
            return
        taken = {} if successor is None else self._texts(successor, "agents")
        sent = self._texts(release, "sent")
        for name, text in self._texts(release, "agents").items():
            if text in (sent.get(name), taken.get(name)):
                continue
            digest = hashlib.sha256(text.encode()).hexdigest()[:8]
            path = self.folder / "kept" / f"{name}.{release.version}.{digest}.yaml"
            if not path.exists():
                write_whole(path, text.encode())

    def prune(self, state: State) -> None:
        """Remove releases that nothing can go back to, after their edits were kept."""
        needed = {self._place(each).name for each in (state.running, state.good) if each}
        for place in sorted((self.folder / "releases").glob("*-*")):
            if place.name not in needed:
                version, _, digest = place.name.partition("-")
                self.keep_edits(Release(version=int(version), sha256=digest), state.running)
                shutil.rmtree(place, ignore_errors=True)

    def _place(self, release: Release) -> Path:
        return self.folder / "releases" / f"{release.version}-{release.sha256[:12]}"

    def _texts(self, release: Release, which: str) -> dict[str, str]:
        found = {}
        for path in sorted((self._place(release) / which).glob("*.yaml")):
            found[path.stem] = path.read_text(encoding="utf-8", errors="replace")
        return found

    def _carried(self, bundle: Bundle, running: Release | None) -> dict[str, str]:
        """Return the edits of what runs that the new bundle leaves room for."""
        if running is None:
            return {}
        sent = self._texts(running, "sent")
        coming = {document.name: document.yaml for document in bundle.agents}
        return {
            name: text
            for name, text in self._texts(running, "agents").items()
            if text != sent.get(name) and coming.get(name) == sent.get(name)
        }


def _bundle(payload: bytes) -> Bundle:
    try:
        return Bundle.decode(payload)
    except WireError as error:
        raise ReleaseError([str(error)]) from error


def _agents(folder: Path, bundle: Bundle) -> dict[str, Agent]:
    agents: dict[str, Agent] = {}
    problems: list[str] = []
    for document in bundle.agents:
        if hashlib.sha256(document.yaml.encode()).hexdigest() != document.sha256:
            problems.append(
                f"{document.name}: the text does not have the hash that the bundle names"
            )
        try:
            agent = load_agent(folder / f"{document.name}.yaml")
        except AgentFileError as error:
            problems += [
                f"{each.path.name}:{each.line}: {each.key}: {each.message}"
                for each in error.problems
            ]
            continue
        if agent.name != document.name:
            problems.append(f"{document.name}: the text names the agent {agent.name!r}")
        agents[agent.name] = agent
    if problems:
        raise ReleaseError(problems)
    return agents


def _change(sent: str | None, here: str | None) -> dict[str, Any]:
    if here is None:
        return {"change": "removed"}
    change: dict[str, Any] = {
        "change": "added" if sent is None else "edited",
        "sha256": hashlib.sha256(here.encode()).hexdigest(),
    }
    return {**change, "yaml": here} if len(here.encode()) <= SHOWN_BYTES else change
