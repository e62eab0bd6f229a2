# SPDX-License-Identifier: Apache-2.0
"""What `trunkline plugins check` does between the command line and the conformance kit."""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from appliance.plugin.conformance import Finding, Materials, Subject, check_plugin
from appliance.plugin.conformance.package import fault_finding
from appliance.plugin.errors import ProviderError
from appliance.plugin.loading import LoadedPlugin, PluginFault
from appliance.plugin.manager import PluginManager
from appliance.plugin.offers import BuildContext, Kind, ModelResolver, Offer
from appliance.plugin.speech import SAMPLE_RATE, Pcm, TtsRequest

SPOKEN = "Good morning. I would like to make an appointment for Monday, please."
"""What a synthesizer says to give the kit a sample of speech."""


class SettingsError(Exception):
    """The command line names something that is not there, or cannot be read."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What to check.

    Attributes:
        plugins: loaded plugins, each with the offers to check, or None for everything of it.
        faults: of the plugins asked for that did not load.
        settings: a person's settings, or None.
    """

    plugins: Sequence[tuple[LoadedPlugin, Sequence[Offer] | None]]
    faults: Sequence[PluginFault]
    settings: Mapping[str, Any] | None


def read_settings(given: Sequence[str]) -> dict[str, Any] | None:
    """Read `KEY=VALUE` (VALUE in TOML, or plain text) and TOML files; later ones win.

    Raises:
        SettingsError: no such file, not TOML, or neither a file nor KEY=VALUE.
    """
    if not given:
        return None
    settings: dict[str, Any] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if equals and key.isidentifier():
            settings[key] = _value(value)
        else:
            settings.update(_file(Path(item)))
    return settings


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} is neither KEY=VALUE nor a file: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error


def select(
    manager: PluginManager, ids: Sequence[str], settings: Mapping[str, Any] | None
) -> Selection:
    """Find what `ids` name: plugins, or offers as `kind/id`. No ids: everything.

    Raises:
        SettingsError: nothing is called so, or settings are given for several things.
    """
    if settings is not None and len(ids) != 1:
        raise SettingsError("--settings needs exactly one ID")
    if not ids:
        return Selection([(one, None) for one in manager.plugins.values()], manager.faults, None)
    plugins: list[tuple[LoadedPlugin, Sequence[Offer] | None]] = []
    faults: list[PluginFault] = []
    for name in ids:
        own = [fault for fault in manager.faults if fault.plugin == name]
        if "/" in name:
            plugins.append(_offer(manager, name))
        elif name in manager.plugins:
            plugins.append((manager.plugins[name], None))
        elif own:
            faults.extend(own)
        else:
            known = ", ".join(manager.plugins) or "none"
            raise SettingsError(f"no plugin {name!r} is loaded. Loaded: {known}")
    return Selection(plugins, faults, settings)


def _offer(manager: PluginManager, name: str) -> tuple[LoadedPlugin, Sequence[Offer]]:
    kind, _, id_ = name.partition("/")
    try:
        offer = manager.offer(Kind(kind), id_)
    except (ValueError, ProviderError) as error:
        raise SettingsError(str(error)) from error
    return manager.plugin_of(offer), [offer]


async def findings(
    manager: PluginManager, selection: Selection, models: ModelResolver
) -> AsyncIterator[Finding]:
    """Check the selection, with the models that are here; findings come as they are made."""
    for fault in selection.faults:
        yield fault_finding(fault)
    with tempfile.TemporaryDirectory(prefix="trunkline-check-") as folder:
        context = BuildContext(models, Path(folder))
        wanted = any(
            offer.kind in {Kind.SPEECH_TO_TEXT, Kind.VOICE_ACTIVITY}
            for plugin, only in selection.plugins
            for offer in (plugin.offers if only is None else only)
        )
        materials = Materials(await sample_of_speech(manager, context) if wanted else None)
        for plugin, only in selection.plugins:
            checks = check_plugin(plugin, context, selection.settings, materials, only)
            async for finding in checks:
                yield finding


async def sample_of_speech(manager: PluginManager, context: BuildContext) -> Pcm | None:
    """Let an installed local synthesizer speak a sentence; None when none can.

    Returns:
        16 kHz audio.
    """
    for offer in manager.offers(Kind.TEXT_TO_SPEECH):
        if not offer.capabilities.local:
            continue
        subject = Subject(offer, context=context)
        async with subject:
            if subject.missing or subject.trouble:
                continue
            try:
                return await _speak(subject)
            except ProviderError:
                continue
    return None


async def _speak(subject: Subject) -> Pcm | None:
    async def text() -> AsyncIterator[str]:
        yield SPOKEN

    stream = subject.provider.speak(text(), TtsRequest(call_id="check"))
    chunks = [chunk.pcm async for chunk in stream]
    if not chunks:
        return None
    pcm, rate = np.concatenate(chunks), subject.provider.capabilities.sample_rate
    wanted = np.arange(len(pcm) * SAMPLE_RATE // rate) * rate / SAMPLE_RATE
    sample: Pcm = np.interp(wanted, np.arange(len(pcm)), pcm).astype(np.int16)
    return sample
