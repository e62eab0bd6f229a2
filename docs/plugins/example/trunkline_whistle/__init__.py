# SPDX-License-Identifier: Apache-2.0
"""Whistles text instead of speaking it. Importing this loads nothing heavy: `build` may, this does not."""

from __future__ import annotations

from pydantic import Field

from appliance.plugin import (
    BuildContext,
    Kind,
    Offer,
    Settings,
    TextToSpeech,
    TtsCapabilities,
    hookimpl,
)

CAPABILITIES = TtsCapabilities(sample_rate=16_000, streaming=True, word_marks=True)


class WhistleSettings(Settings):
    """What `appliance.toml` may say in a section with `use = "whistle"`."""

    pitch_hz: float = Field(900, ge=200, le=3000, description="Pitch around which it whistles, Hz.")
    letter_ms: int = Field(60, ge=20, le=200, description="Length of a letter, milliseconds.")
    volume: float = Field(0.3, gt=0, le=1, description="Loudness, 0 to 1 of full scale.")


def build(settings: WhistleSettings, context: BuildContext) -> TextToSpeech:
    """Make the provider. A model would be found by `context.model_path(name)` and loaded here."""
    from trunkline_whistle.provider import Whistle  # noqa: PLC0415  not before it is needed

    del context
    return Whistle(settings)


@hookimpl
def register_providers() -> list[Offer]:
    """Tell the box what there is. Called once, at start."""
    return [
        Offer(
            id="whistle",
            kind=Kind.TEXT_TO_SPEECH,
            settings=WhistleSettings,
            build=build,
            capabilities=CAPABILITIES,
            summary="A gliding whistle for each word, with exact word marks.",
        )
    ]
