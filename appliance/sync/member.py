# SPDX-License-Identifier: Apache-2.0
"""All that makes a box a member of a fleet, put together: link, desired state, commands, recordings.

The box without a hub does not know this module; a box with one asks it for agents first, then its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from appliance import logs
from appliance.call.agent import Agent
from appliance.config import BoxConfig
from appliance.plugin import ModelResolver
from appliance.store import Store, StoreError
from appliance.sync.claim import ClaimError, Door
from appliance.sync.commands import CommandError, Commands, Done
from appliance.sync.desired import DesiredState
from appliance.sync.fit import problems, with_bundle
from appliance.sync.health import BoxFacts
from appliance.sync.hub import FOLDER, Hub
from appliance.sync.hub_http import fetch, hub_client
from appliance.sync.identity import HubFiles
from appliance.sync.link import upkeep
from appliance.sync.releases import Loaded
from appliance.sync.uploads import UploadRules, Uploads
from appliance.wire import Bundle, topics

TROUBLES = frozenset({"error", "error.recognition", "error.reply", "error.speech"})
"""Events of a call that say that its agent could not do its work."""

DRAIN_S = 600.0
LOG_LINES = 2000
MIB = 2**20


@dataclass(frozen=True, slots=True)
class BoxSide:
    """What the box lends.

    Attributes:
        models: finds model packs.
        own_agents: names of the box's own agents.
        facts: of its health.
        calls: how many are under way.
        configure: from now on new calls follow this configuration.
        drain: refuses new calls and waits for the others, for so many seconds.
        restart: has the box's process begin anew, once calls have ended.
    """

    models: ModelResolver
    own_agents: Callable[[], Collection[str]]
    facts: Callable[[], BoxFacts]
    calls: Callable[[], int]
    configure: Callable[[BoxConfig], None]
    drain: Callable[[float], Awaitable[None]]
    restart: Callable[[], None]


class Member:
    """`restore` before the phone lines open, `start` after, `aclose` at the end.

    Args:
        config: of the box.
        store: of the box, with its outbox.
        box: see `BoxSide`.
        software: name and version.
    """

    def __init__(self, config: BoxConfig, store: Store, box: BoxSide, software: str) -> None:
        self._config = config
        self._store = store
        self._box = box
        self._troubled: set[str] = set()
        data_dir = config.box.data_dir
        self._files = files = HubFiles(data_dir / FOLDER)
        self.desired = DesiredState(
            files.folder,
            files.identity,
            store.report,
            lambda url, most: fetch(files, url, most),
            self._unfit,
            software=software,
            changed=self._changed,
        )
        actions = {
            "restart": self._restart,
            "drain": self._drain,
            "collect_logs": self._collect_logs,
            "rotate": self._rotate,
        }
        self.commands = Commands(files.folder / "commands.json", files.identity, store, actions)
        self.uploads = Uploads(
            config.recordings_dir,
            files.folder / "uploads.db",
            files.identity,
            lambda: hub_client(files),
            upload_rules(config),
            is_over=self._is_over,
            calls=box.calls,
            report=store.report,
        )
        self.hub = Hub(
            store,
            data_dir,
            handlers={
                topics.DESIRED: self.desired.received,
                topics.COMMAND: self.commands.received,
            },
            upkeep=upkeep(config.hub.keep_days, config.hub.outbox_max_mib),
            software=software,
            facts=box.facts,
        )

    def restore(self) -> None:
        """Bring back what the hub wanted last. Without it the box has its own agents."""
        self.desired.start()

    def start(self) -> None:
        """Follow the hub from now on."""
        self.commands.start()
        self.uploads.start()
        self.hub.start()

    async def aclose(self) -> None:
        """Stop following; what was not sent stays. Idempotent."""
        await self.hub.aclose()
        await self.uploads.aclose()
        await self.commands.aclose()
        await self.desired.aclose()

    def agent(self, name: str) -> Agent | None:
        """Return an agent of the hub's, for a new call."""
        return self.desired.agent(name)

    def version_id(self, agent: Agent) -> str:
        """Return which version of the hub's this is; "" for an agent of the box's own."""
        return self.desired.version_id(agent)

    def call_event(self, call_id: str, kind: str, data: Mapping[str, Any]) -> None:
        """Note what happens in a call."""
        if kind in TROUBLES and not data.get("late"):
            self._troubled.add(call_id)

    def call_ended(self, call: Mapping[str, Any]) -> None:
        """Note how a call went; `call` as the observers get it."""
        failed = call["id"] in self._troubled or call["cause"] == "failed"
        self._troubled.discard(call["id"])
        if call["cause"] != "shutdown":
            self.desired.call_ended(call["agent_version"], failed=failed)

    def _unfit(self, bundle: Bundle, agents: Mapping[str, Agent]) -> list[str]:
        box = self._box
        return problems(self._config, box.models, box.own_agents(), bundle, agents)

    def _changed(self, loaded: Loaded | None) -> None:
        self._box.configure(with_bundle(self._config, loaded.bundle if loaded else None))

    def _is_over(self, call_id: str) -> bool:
        try:
            call = self._store.call(call_id)
        except StoreError:
            return False
        return call is None or call.ended_at is not None

    # -- commands ----------------------------------------------------------------------------

    async def _restart(self, parameters: Mapping[str, Any]) -> Done:
        del parameters
        return Done(then=self._box.restart)

    async def _drain(self, parameters: Mapping[str, Any]) -> Done:
        seconds = parameters.get("timeout_s", DRAIN_S)
        if not isinstance(seconds, (int, float)) or not 0 <= seconds <= DRAIN_S:
            raise CommandError(f"timeout_s is a number of seconds up to {DRAIN_S:.0f}")
        await self._box.drain(float(seconds))
        return Done({"calls": self._box.calls()})

    async def _collect_logs(self, parameters: Mapping[str, Any]) -> Done:
        if self._config.hub.logs != "send":
            raise CommandError("logs stay on this site, says its configuration")
        lines = parameters.get("lines", LOG_LINES)
        if not isinstance(lines, int) or not 0 < lines <= LOG_LINES:
            raise CommandError(f"lines is a number up to {LOG_LINES}")
        return Done({"lines": logs.recent(lines)})

    async def _rotate(self, parameters: Mapping[str, Any]) -> Done:
        del parameters
        try:
            async with Door.of(self._files) as door:
                identity = await door.renew(self._files)
        except ClaimError as error:
            raise CommandError(str(error)) from error
        return Done({"expires_at": identity.expires_at})


def upload_rules(config: BoxConfig) -> UploadRules:
    """Return what the configuration says of recordings. Those kept in a store of their own stay there."""
    hub = config.hub
    return UploadRules(
        send=hub.audio == "send",
        kib_s=hub.upload_kib_s,
        pause_calls=hub.upload_pause_calls,
        keep_days=hub.recordings_keep_days,
        max_bytes=None if hub.recordings_max_mib is None else hub.recordings_max_mib * MIB,
    )
