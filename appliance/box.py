# SPDX-License-Identifier: Apache-2.0
"""The composition root: builds the box from its configuration, starts and stops it in order."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import httpx
import structlog

from appliance.audio.recorder import RecordingWriter
from appliance.call.admission import Admission
from appliance.call.agent import Agent, BookAppointment, EndCall, Webhook
from appliance.call.agent_file import AgentLibrary
from appliance.call.log import Event
from appliance.call.shell import CallEngines
from appliance.call.switchboard import Switchboard
from appliance.call.toolbox import ToolBox
from appliance.call.tools import BookAppointmentTool, EndCallTool, WebhookTool
from appliance.config import BoxConfig
from appliance.engines.packs import resolver
from appliance.engines.pool import EnginePool
from appliance.plugin import BuildContext, Tool, Transport, TransportStatus
from appliance.plugin.manager import PluginManager
from appliance.store import STORE_FILE, Policy, Store

if (
    TYPE_CHECKING
):  # a box without a hub needs neither MQTT nor certificates: 0.1 s and 12 MiB at its start
    from appliance.sync.health import BoxFacts
    from appliance.sync.hub import Hub
    from appliance.sync.member import Member

_log = structlog.get_logger(__name__)

SWITCH_INTERVAL_S = 0.001
"""How long one Python thread may keep the others waiting. The media thread must not wait 5 ms, which is
the interpreter's default: that is a quarter of a frame."""


class Box:
    """A running box. `await Box.start(...)`, then `await box.aclose()`.

    Args:
        config: what to build.
        plugins: what the site's plugins offer.
        progress: told, in a few words, what is being started.
        listen: told each event of each call, for a live view.
        now: local time, aware.
    """

    def __init__(
        self,
        config: BoxConfig,
        plugins: PluginManager,
        *,
        progress: Callable[[str], None] = lambda _: None,
        listen: Callable[[str, Event], None] = lambda *_: None,
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    ) -> None:
        self.config = config
        self.plugins = plugins
        self.agents = AgentLibrary(config.agents.dir)
        self._progress = progress
        self._listen = listen
        self._now = now
        self._transports: dict[str, Transport] = {}
        self._resolver = resolver(config.box.data_dir, plugins)
        self.engines = EnginePool(config, self._resolver)
        self._recordings = RecordingWriter() if config.recording.enabled else None
        self._http = httpx.AsyncClient()
        self._effective = config
        self.restart_wanted = asyncio.Event()
        self.member: Member | None = None
        self.store: Store
        self.switchboard: Switchboard

    @classmethod
    async def start(
        cls,
        config: BoxConfig,
        plugins: PluginManager,
        *,
        progress: Callable[[str], None] = lambda _: None,
        listen: Callable[[str, Event], None] = lambda *_: None,
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    ) -> Box:
        """Build and start everything; calls can arrive when this returns.

        Raises:
            StoreError: the store cannot be opened.
            ConfigurationError: no voice activity detection, or a transport cannot start.
        """
        box = cls(config, plugins, progress=progress, listen=listen, now=now)
        try:
            await box._start()
        except BaseException:
            await box.aclose()
            raise
        return box

    async def _start(self) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        config = self.config
        self._progress("store")
        path = config.box.data_dir / STORE_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        policy = Policy(config.hub.metadata, config.hub.transcript)
        self.store = await asyncio.to_thread(
            Store.open, path, outbox=config.hub.enabled, policy=policy
        )
        crashed = await self.store.recover()
        if crashed:
            _log.warning("calls left open by a crash were closed", calls=len(crashed))
        await self.engines.start(self._progress)
        for problem in self._agent_problems():
            _log.error("agent file", problem=problem)
        for name, configured in config.transports.items():
            self._progress(f"transport {name} ({configured.offer.id})")
            folder = config.box.data_dir / "plugins" / configured.offer.id / name
            context = BuildContext(self._resolver, folder, config.box.threads)
            transport = await asyncio.to_thread(
                configured.offer.build, configured.settings, context
            )
            self._transports[name] = transport
        recordings = None
        if self._recordings is not None:
            recordings = (self._recordings, config.recordings_dir)
        self.switchboard = Switchboard(
            self,
            self.engines.voice_activity,
            self.store,
            max_calls=config.limits.max_calls or self.capacity(),
            max_call_s=config.limits.max_call_s,
            admission=Admission(config.limits.target_p95_ms),
            recordings=recordings,
            archive=self.engines.recording_store,
            notify=self._notify,
            listen=self._event,
            clock=asyncio.get_running_loop().time,
            now=self._now,
        )
        if config.hub.enabled:
            self.member = self._member()
            self.member.restore()
        for name, transport in self._transports.items():
            await transport.start(self.switchboard)
            _log.info("transport ready", name=name, listening=transport.status().listening)
        if self.member is not None:
            self.member.start()

    def _member(self) -> Member:
        from appliance.sync.member import BoxSide, Member  # noqa: PLC0415 - only with a hub

        side = BoxSide(
            models=self._resolver,
            own_agents=self.agents.names,
            facts=self._health,
            calls=lambda: self.switchboard.active,
            configure=self._configure,
            drain=self.drain,
            restart=self.restart_wanted.set,
        )
        return Member(self.config, self.store, side, f"trunkline {version('trunkline')}")

    def _configure(self, config: BoxConfig) -> None:
        """New calls follow this configuration."""
        self._effective = config
        limits = config.limits
        self.switchboard.limit(limits.max_calls or self.capacity(), limits.max_call_s)

    def _event(self, call_id: str, event: Event) -> None:
        if self.member is not None:
            self.member.call_event(call_id, event.kind, event.data)
        self._listen(call_id, event)

    def _notify(self, hook: str, **facts: Any) -> None:
        if hook == "call_ended" and self.member is not None:
            self.member.call_ended(facts["call"])
        self.plugins.notify(hook, **facts)

    def _agent_problems(self) -> list[str]:
        self.agents.names()
        return [str(problem) for problem in self.agents.problems]

    def _health(self) -> BoxFacts:
        """Return what the hub shall know of this box each minute."""
        from appliance.sync.health import BoxFacts  # noqa: PLC0415 - only with a hub

        trunks = {
            trunk.name: trunk.detail or ("not registered" if trunk.registered is False else "ready")
            for status in self.status().values()
            for trunk in status.trunks
        }
        faults = [self.store.fault] if self.store.fault else []
        if self.store.lost:
            faults.append(f"{self.store.lost} facts were lost while the disk failed")
        engines = {worker.name: worker.state.value for worker in self.engines.workers()}
        return BoxFacts(
            self.switchboard.active, tuple(faults), self.store.kept_back, trunks, engines
        )

    @property
    def hub(self) -> Hub | None:
        """The hub as this box sees it; None when it has nothing to do with one."""
        return None if self.member is None else self.member.hub

    def capacity(self) -> int:
        """Return how many calls the phone lines can hold together."""
        return sum(transport.status().capacity for transport in self._transports.values())

    def status(self) -> dict[str, TransportStatus]:
        """Return the state of each transport."""
        return {name: transport.status() for name, transport in self._transports.items()}

    def transport(self, name: str) -> Transport:
        """Return a transport by its name in the config."""
        return self._transports[name]

    async def drain(self, timeout_s: float) -> None:
        """Refuse new calls and wait for the running ones, at most `timeout_s`."""
        self.switchboard.drain()
        try:
            await asyncio.wait_for(self.switchboard.idle(), timeout_s)
        except TimeoutError:
            _log.warning("calls are cut off", calls=self.switchboard.active)

    async def aclose(self) -> None:
        """End all calls and stop everything, in the reverse order of the start. Idempotent."""
        if hasattr(self, "switchboard"):
            await self.switchboard.aclose()
        for name, transport in self._transports.items():
            began = time.monotonic()
            await transport.aclose()
            _log.debug("transport closed", name=name, seconds=time.monotonic() - began)
        await self.plugins.aclose()
        await self.engines.aclose()
        await self._http.aclose()
        if self._recordings is not None:
            await asyncio.to_thread(self._recordings.close)
        if self.member is not None:
            await self.member.aclose()
        if hasattr(self, "store"):
            await self.store.aclose()

    # -- the switchboard's desk --------------------------------------------------------------

    def agent_for(self, called: str) -> Agent | None:
        """Return the agent that takes calls to `called`: routes first, then the default; the hub's first."""
        name = self._effective.agent_for(called)
        if name is None:
            return None
        sent = None if self.member is None else self.member.agent(name)
        return sent or self.agents.get(name)

    def engines_for(self, agent: Agent) -> CallEngines:
        """Return the agent's provider chains."""
        pool, names = self.engines, agent.engines
        return CallEngines(
            pool.speech_to_text(names.speech_to_text),
            pool.language_model(names.language_model),
            pool.text_to_speech(names.text_to_speech),
            pool.turn_detector,
        )

    def version_id(self, agent: Agent) -> str:
        """Return which version of the hub's this agent is; "" for one of the box's own."""
        return "" if self.member is None else self.member.version_id(agent)

    def toolbox(self, agent: Agent, caller: str) -> ToolBox:
        """Return the agent's tools, for one call."""
        tools: list[Tool] = []
        for config in agent.tools:
            match config:
                case EndCall():
                    tools.append(EndCallTool(config))
                case BookAppointment():
                    tools.append(BookAppointmentTool(config, self.store, agent.name, self._now))
                case Webhook():
                    tools.append(WebhookTool(config, self._http))
                case _:
                    tool = self.engines.tool(config.name)
                    if tool is None:
                        _log.error("tool not available", agent=agent.name, tool=config.name)
                    else:
                        tools.append(tool)
        return ToolBox(tools, agent=agent.name, caller=caller, variables=agent.variables)
