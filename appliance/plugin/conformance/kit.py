# SPDX-License-Identifier: Apache-2.0
"""Which checks belong to a kind, and running them: for one offer, for one plugin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

from appliance.plugin.conformance import (
    common,
    embedder,
    guardrail,
    language_model,
    package,
    recording_store,
    speech_to_text,
    text_to_speech,
    tool,
    transport,
    turn_detector,
    voice_activity,
)
from appliance.plugin.conformance.findings import Check, Finding
from appliance.plugin.conformance.subject import Materials, Subject
from appliance.plugin.loading import LoadedPlugin
from appliance.plugin.offers import BuildContext, Kind, Offer

KIND_CHECKS: dict[Kind, tuple[Check, ...]] = {
    Kind.SPEECH_TO_TEXT: speech_to_text.CHECKS,
    Kind.LANGUAGE_MODEL: language_model.CHECKS,
    Kind.TEXT_TO_SPEECH: text_to_speech.CHECKS,
    Kind.VOICE_ACTIVITY: voice_activity.CHECKS,
    Kind.TURN_DETECTOR: turn_detector.CHECKS,
    Kind.EMBEDDER: embedder.CHECKS,
    Kind.TRANSPORT: transport.CHECKS,
    Kind.TOOL: tool.CHECKS,
    Kind.GUARDRAIL: guardrail.CHECKS,
    Kind.RECORDING_STORE: recording_store.CHECKS,
}

common.USES.update(
    {
        Kind.SPEECH_TO_TEXT: speech_to_text.use,
        Kind.LANGUAGE_MODEL: language_model.use,
        Kind.TEXT_TO_SPEECH: text_to_speech.use,
        Kind.VOICE_ACTIVITY: voice_activity.use,
        Kind.TURN_DETECTOR: turn_detector.use,
        Kind.EMBEDDER: embedder.use,
        Kind.TRANSPORT: transport.use,
        Kind.TOOL: tool.use,
        Kind.GUARDRAIL: guardrail.use,
        Kind.RECORDING_STORE: recording_store.use,
    }
)


def checks_for(kind: Kind) -> tuple[Check, ...]:
    """Return the whole contract of a kind, in the order in which it is checked."""
    return (*common.CHECKS, *KIND_CHECKS[kind], *common.LAST_CHECKS)


async def check_offer(subject: Subject) -> AsyncIterator[Finding]:
    """Run an offer through its contract; findings come as they are made."""
    async with subject:
        for check in checks_for(subject.offer.kind):
            yield await check(subject)


def kit_settings(plugin: LoadedPlugin, offer: Offer) -> Mapping[str, Any]:
    """Return the settings under which the plugin's manifest wants an offer checked."""
    return plugin.manifest.check.get(offer.kind, {}).get(offer.id, {})


async def check_plugin(
    plugin: LoadedPlugin,
    context: BuildContext | None = None,
    settings: Mapping[str, Any] | None = None,
    materials: Materials | None = None,
    only: Collection[Offer] | None = None,
) -> AsyncIterator[Finding]:
    """Run a plugin through everything: its package, then each offer.

    Args:
        plugin: a loaded plugin.
        context: what providers are built with.
        settings: a person's settings for its offers. None: those of the manifest's `check` table,
            and what is lacking on this machine is no failure.
        materials: what to feed providers with.
        only: these offers, without the package's own checks; None for everything.
    """
    if only is None:
        for finding in await package.check_package(plugin):
            yield finding
    for offer in plugin.offers if only is None else only:
        subject = Subject(
            offer,
            kit_settings(plugin, offer) if settings is None else settings,
            context,
            plugin.manifest,
            materials or Materials(),
            explicit=settings is not None,
        )
        async for finding in check_offer(subject):
            yield finding
