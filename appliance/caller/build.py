# SPDX-License-Identifier: Apache-2.0
"""Makes a caller and its voice out of installed plugins."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from appliance.caller.caller import Caller
from appliance.plugin import (
    BuildContext,
    ConfigurationError,
    Kind,
    ModelResolver,
    Offer,
    TextToSpeech,
    Transport,
)
from appliance.plugin.manager import PluginManager

_HOST = re.compile(r"^sips?:(?:[^@]*@)?(?P<host>\[[^\]]+\]|[^:;?>]+)", re.IGNORECASE)
_RTP_PORTS = (30_000, 30_999)
"""Apart from the default range of a box, so that both fit on one machine."""


def line_settings(target: str, codec: str | None = None) -> dict[str, Any]:
    """Return settings of the `sip` transport that suit a call to `target`.

    The ports are free ones. To an address of this machine itself, it binds that one alone.

    Args:
        target: SIP address; `;transport=tcp` in it is heeded.
        codec: the only codec to offer (`PCMU`, `PCMA`, `G722`), or None for the transport's own list.

    Raises:
        ConfigurationError: it is no SIP address.
    """
    found = _HOST.match(target)
    if found is None:
        message = f"{target!r} is no SIP address"
        raise ConfigurationError(message, remedy="write it as sip:100@192.0.2.1:5060")
    tcp = re.search(r";transport=tcp\b", target, re.IGNORECASE) is not None
    settings: dict[str, Any] = {
        "bind": _bind(found["host"]),
        "udp_port": 0,
        "tcp_port": 0 if tcp else None,
        "rtp_port_start": _RTP_PORTS[0],
        "rtp_port_end": _RTP_PORTS[1],
        "user_agent": "Trunkline test caller",
    }
    if codec is not None:
        settings["codecs"] = [codec]
    return settings


def _bind(host: str) -> str:
    if host.lower() == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return "0.0.0.0"  # noqa: S104  a test call to another machine has to be reachable from there
    if address.is_loopback:
        return str(address)
    return "0.0.0.0" if address.version == 4 else "::"  # noqa: S104


async def build_caller(
    plugins: PluginManager,
    settings: Mapping[str, Any],
    context: BuildContext,
    *,
    transport: str = "sip",
) -> Caller:
    """Build a caller over an installed transport.

    Args:
        plugins: what is installed.
        settings: of the transport: see `line_settings`.
        context: where it may keep files.
        transport: id of its offer.

    Raises:
        ConfigurationError: no such transport, or its settings are wrong.
    """
    return Caller(await build_transport(plugins, settings, context, transport=transport))


async def build_transport(
    plugins: PluginManager,
    settings: Mapping[str, Any],
    context: BuildContext,
    *,
    transport: str = "sip",
) -> Transport:
    """Build what callers dial with. Not started yet.

    Raises:
        ConfigurationError: no such transport, or its settings are wrong.
    """
    line: Transport = await _build(plugins.offer(Kind.TRANSPORT, transport), settings, context)
    return line


async def build_synthesizer(
    plugins: PluginManager,
    settings: Mapping[str, Any],
    context: BuildContext,
    *,
    provider: str = "espeak",
) -> TextToSpeech:
    """Build the caller's voice.

    Raises:
        ConfigurationError: no such synthesizer, or its settings are wrong.
        ProviderError: it cannot be loaded.
    """
    voice: TextToSpeech = await _build(
        plugins.offer(Kind.TEXT_TO_SPEECH, provider), settings, context
    )
    return voice


async def _build(offer: Offer, settings: Mapping[str, Any], context: BuildContext) -> Any:
    try:
        checked = offer.settings.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{offer.id}: {key}: {first['msg']}") from error
    return await asyncio.to_thread(offer.build, checked, context)


def context(data_dir: Path, resolver: ModelResolver) -> BuildContext:
    """Return the build context of a caller: one compute thread, files under `data_dir`."""
    return BuildContext(model_path=resolver, data_dir=data_dir)
