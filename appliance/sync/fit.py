# SPDX-License-Identifier: Apache-2.0
"""Whether a bundle fits this box, and what the box's configuration becomes with it.

What can be set from the hub without a restart is set; anything else makes a bundle unfit, by name: a part
of a configuration that silently does nothing would be worse.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import ValidationError

from appliance.call.agent import Agent, PluginTool
from appliance.config import BoxConfig
from appliance.plugin import Kind, ModelResolver, ProviderError
from appliance.wire import Bundle

SETTABLE = ("limits.max_calls", "limits.max_call_s")
"""Settings that the hub may decide: those that take effect with the next call."""

_KINDS = (
    ("speech_to_text", Kind.SPEECH_TO_TEXT),
    ("language_model", Kind.LANGUAGE_MODEL),
    ("text_to_speech", Kind.TEXT_TO_SPEECH),
)


def with_bundle(config: BoxConfig, bundle: Bundle | None) -> BoxConfig:
    """Return the box's configuration as the hub's bundle changes it; routes of the hub go first.

    Raises:
        ValueError: a setting is not one of `SETTABLE`, or has no good value.
    """
    if bundle is None:
        return config
    limits: dict[str, Any] = {}
    for name, value in bundle.settings.items():
        if name not in SETTABLE:
            raise ValueError(f"settings: {name} cannot be set from the hub")
        limits[name.partition(".")[2]] = value
    try:
        checked = type(config.limits).model_validate({**config.limits.model_dump(), **limits})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"settings: limits.{where}: {first['msg']}") from error
    agents = config.agents
    if bundle.default_agent is not None:
        agents = agents.model_copy(update={"default": bundle.default_agent})
    return replace(config, limits=checked, agents=agents, routes={**config.routes, **bundle.routes})


def problems(
    config: BoxConfig,
    models: ModelResolver,
    own: Collection[str],
    bundle: Bundle,
    agents: Mapping[str, Agent],
) -> list[str]:
    """Return all that keeps this box from running a bundle; nothing when it can.

    Args:
        config: of the box.
        models: its model packs.
        own: names of the box's own agents.
        bundle: as received.
        agents: those to be looked at: the bundle's, or one that was edited here.
    """
    found = [each for agent in agents.values() for each in _agent_problems(config, agent)]
    known = {*own, *agents, *(document.name for document in bundle.agents)}
    named = {*bundle.routes.values(), *filter(None, [bundle.default_agent])}
    found += [f"routes: there is no agent {name!r}" for name in sorted(named - known)]
    try:
        with_bundle(config, bundle)
    except ValueError as error:
        found.append(str(error))
    if bundle.trunks:
        found.append("trunks: the phone lines of this box are set in its own configuration")
    for pin in bundle.plugins:
        have = _installed(pin.name)
        if have != pin.version:
            found.append(f"plugins: {pin.name} {pin.version} is needed, here is {have or 'none'}")
    for pack in bundle.model_packs:
        try:
            models(pack.name)
        except (ProviderError, OSError) as error:
            found.append(f"model_packs: {error}")
    return found


def _agent_problems(config: BoxConfig, agent: Agent) -> list[str]:
    found = [
        f"{agent.name}: engines.{field}: this box has no {name!r}"
        for field, kind in _KINDS
        for name in getattr(agent.engines, field)
        if name not in config.providers(kind)
    ]
    found += [
        f"{agent.name}: tools: this box has no {tool.name!r}"
        for tool in agent.tools
        if isinstance(tool, PluginTool) and tool.name not in config.providers(Kind.TOOL)
    ]
    return found


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
