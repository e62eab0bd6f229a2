# SPDX-License-Identifier: Apache-2.0
"""The box that is measured, in a process of its own: `python -m appliance.capacity.child ORDER`.

It is the box of the configuration but for what must not happen in a test: its phone line is one on this
machine only, its calls go to a folder that is thrown away, and tools that would change something
outside say that they did. It prints JSON lines: `{"ready": ...}`, then `{"answer": {...}}` for each
answer. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appliance import config as configuration
from appliance import logs
from appliance.box import Box
from appliance.call.agent import Agent
from appliance.call.log import Event
from appliance.call.toolbox import ToolBox
from appliance.capacity.line import NAME, with_line
from appliance.config import BoxConfig
from appliance.plugin import (
    Kind,
    Tool,
    ToolCapabilities,
    ToolContext,
    ToolResult,
    ToolSpec,
)
from appliance.plugin.manager import PluginManager, Policy

LINE = {"bind": "127.0.0.1", "udp_port": 0, "tcp_port": None, "codecs": ["PCMU"]}
RTP_PORTS = {"rtp_port_start": 31_000, "rtp_port_end": 31_999}
"""Apart from the ranges of a box and of a test caller."""


@dataclass(frozen=True, slots=True)
class ChildOrder:
    """What to run: the configuration, the agent that answers, a folder, and the target in ms."""

    config: str
    agent: str
    folder: str
    target_ms: float


class DryTool:
    """A tool that does nothing and says that it did."""

    def __init__(self, spec: ToolSpec) -> None:
        self.spec = spec
        self.capabilities = ToolCapabilities()

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Report success."""
        del arguments, context
        return ToolResult({"ok": True})

    async def aclose(self) -> None:
        """Nothing is held open."""


class MeasuredBox(Box):
    """A box whose tools touch nothing outside."""

    def toolbox(self, agent: Agent, caller: str) -> ToolBox:
        """Return the agent's tools, each as a dry one."""
        specs = super().toolbox(agent, caller).specs
        dry: list[Tool] = [DryTool(spec) for spec in specs]
        return ToolBox(dry, agent=agent.name, caller=caller, variables=agent.variables)


def measured_config(loaded: BoxConfig, plugins: PluginManager, order: ChildOrder) -> BoxConfig:
    """Return the configuration to measure.

    Raises:
        ConfigurationError: the `sip` plugin is not installed.
    """
    changed = with_line(loaded, plugins.offer(Kind.TRANSPORT, "sip"), {**LINE, **RTP_PORTS})
    providers = dict(changed.configured)
    providers.pop(Kind.RECORDING_STORE, None)
    folder = Path(order.folder)
    models = loaded.box.data_dir / "models"
    if models.is_dir():
        (folder / "models").symlink_to(models)
    return replace(
        changed,
        configured=providers,
        box=loaded.box.model_copy(update={"data_dir": folder}),
        recording=loaded.recording.model_copy(update={"dir": None}),
        routes={"*": order.agent},
    )


async def run(order: ChildOrder) -> None:
    """Run the box until standard input ends."""
    logs.setup("error", "console")
    path = Path(order.config)
    section = configuration.plugins_section(path)
    egress = None if section.egress is None else frozenset(section.egress)
    policy = Policy(allow_cloud=section.allow_cloud, egress=egress)
    plugins = PluginManager.discover(section.allow, section.deny, policy=policy)
    config = measured_config(configuration.load(path, plugins), plugins, order)

    def listen(_: str, event: Event) -> None:
        if event.kind == "latency":
            _say({"answer": {"total": event.data["total"], "parts": event.data["parts"]}})

    box = await MeasuredBox.start(config, plugins, listen=listen)
    try:
        box.switchboard.admission.target_p95_ms = order.target_ms
        status = box.transport(NAME).status()
        _say({"ready": {"listening": status.listening, "capacity": status.capacity}})
        await asyncio.to_thread(sys.stdin.read)
    finally:
        await box.aclose()


def _say(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(run(ChildOrder(**json.loads(sys.argv[1]))))
