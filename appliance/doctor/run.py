# SPDX-License-Identifier: Apache-2.0
"""Runs all checks in an order in which each explains the next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from appliance.config import BoxConfig, Configured
from appliance.doctor import machine, network, parts
from appliance.doctor.finding import Finding, ok
from appliance.doctor.network import SipLine
from appliance.engines.packs import Library, all_packs
from appliance.plugin import BuildContext, Kind
from appliance.plugin.manager import PluginManager

ENGINES = (
    Kind.VOICE_ACTIVITY,
    Kind.SPEECH_TO_TEXT,
    Kind.LANGUAGE_MODEL,
    Kind.TEXT_TO_SPEECH,
    Kind.TURN_DETECTOR,
)


def machine_findings(data_dir: Path, config: BoxConfig | None) -> Iterator[Finding]:
    """Check what needs no configuration, with what the configuration adds to it."""
    yield machine.python()
    yield machine.processor(config.box.threads if config else 1)
    yield machine.memory()
    yield machine.gpu()
    yield machine.disk(data_dir)
    yield machine.open_files()
    yield machine.monotonic()
    yield network.clock(config.box.ntp_server if config else None)


async def box_findings(config: BoxConfig, manager: PluginManager) -> AsyncIterator[Finding]:
    """Check what the configuration names: models, engines, the line and its peers."""
    library = Library(config.box.data_dir, all_packs(manager))
    for finding in parts.models(library, parts.models_wanted(config)):
        yield finding
    for kind in ENGINES:
        for one in config.providers(kind).values():
            yield await parts.engine(config, one, _context(config, library, one))
    for one in config.transports.values():
        free = True
        if one.offer.id == "sip":
            findings, free = _network(SipLine.of(one))
            for finding in findings:
                yield finding
        if free:
            for finding in await parts.line(one, _context(config, library, one)):
                yield finding
        else:
            what = "not started: its port is in use; the log of the running box tells its trunks"
            yield ok(f"line {one.name}", what)


def _network(line: SipLine) -> tuple[list[Finding], bool]:
    findings, free = network.sip_ports(line)
    findings.append(network.rtp_ports(line))
    findings.append(network.callers(line))
    peers = list(dict.fromkeys(network.peers(line)))
    outside = next((host for _, host, _, _ in peers if network.is_public(host)), None)
    findings += network.nat(line, outside)
    findings += [network.reachable(*peer) for peer in peers]
    return findings, free


def _context(config: BoxConfig, library: Library, one: Configured) -> BuildContext:
    folder = config.box.data_dir / "plugins" / one.offer.id / one.name
    return BuildContext(library.resolve, folder, config.box.threads)
