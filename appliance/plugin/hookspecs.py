# SPDX-License-Identifier: Apache-2.0
"""Every hook of Trunkline, in one file. Implement the ones you need; each returns plain data.

Hooks run once, at start, to collect offers: they take no model, open no file and do no network I/O.
Nothing in the audio path goes through pluggy. A hook that raises or takes longer than 5 s is reported
with the plugin's name, and the rest of the box starts without it.

The observers (`call_*`, `turn_*`, `tool_*`) are told afterwards, from a bounded queue beside the call:
they cannot delay audio, and what they raise is logged with the plugin's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pluggy

from appliance.plugin.offers import ModelPack, Offer

GROUP = "trunkline"
"""Entry-point group and pluggy project name."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def register_providers() -> list[Offer]:  # type: ignore[empty-body]
    """Return the providers this plugin can build, of any kind.

    Called once at start. Each `Offer` names its kind, its settings model and a `build` function. Two
    plugins that offer the same kind under the same id are refused, both named.
    """


@hookspec
def register_model_packs() -> list[ModelPack]:  # type: ignore[empty-body]
    """Return the model packs this plugin carries or knows where to fetch.

    Called once at start. `trunkline models` lists, pulls and verifies them.
    """


@hookspec
def call_ringing(call: Mapping[str, Any]) -> None:
    """A call arrived and was not yet answered. `call`: id, agent, direction, caller, called."""


@hookspec
def call_answered(call: Mapping[str, Any]) -> None:
    """Media flows. `call` as in `call_ringing`, with codec."""


@hookspec
def turn_committed(call: Mapping[str, Any], turn: Mapping[str, Any]) -> None:
    """The caller's turn is over and the answer begins. `turn`: number, caller's text, latency parts."""


@hookspec
def tool_called(call: Mapping[str, Any], tool: Mapping[str, Any]) -> None:
    """A tool ran. `tool`: name, arguments, result or error, seconds."""


@hookspec
def call_ended(call: Mapping[str, Any]) -> None:
    """The call is over and stored. `call` with cause, seconds, turns and usage."""
