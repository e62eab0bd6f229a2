# SPDX-License-Identifier: GPL-3.0-or-later
"""Piper voices as a `TextToSpeech` provider. Importing this loads no library: `build` does."""

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

CAPABILITIES = TtsCapabilities(sample_rate=22_050, streaming=True)
"""Of most voices; a provider tells its voice's own sample rate and speakers once it is built."""


class PiperSettings(Settings):
    """Settings of the provider `piper`."""

    model: str = Field(
        "standard/tts",
        description="Part of a model pack, path of an .onnx voice, or a folder with one.",
    )
    speaker: str | None = Field(
        None, description="Name or number of the speaker, for a voice that has several."
    )
    length_scale: float | None = Field(
        None, gt=0.2, lt=5, description="Tempo: above 1 is slower. Default: the voice's own."
    )
    noise_scale: float | None = Field(
        None, ge=0, le=2, description="Variation of the sound. Default: the voice's own."
    )
    noise_w_scale: float | None = Field(
        None, ge=0, le=2, description="Variation of the rhythm. Default: the voice's own."
    )
    peak: float = Field(0.7, gt=0, le=1, description="Loudest sample, as a part of full scale.")
    sentence_pause_s: float = Field(
        0.25, ge=0, le=2, description="Silence after a sentence that another follows, seconds."
    )
    clause_pause_s: float = Field(
        0.12, ge=0, le=2, description="Silence after a clause that another follows, seconds."
    )
    cache_mb: float = Field(
        16,
        ge=0,
        description="Megabytes of audio to keep of clauses that were spoken, for when they are said again.",
    )


def build(settings: PiperSettings, context: BuildContext) -> TextToSpeech:
    """Load the voice and set its level.

    Raises:
        ModelNotFoundError: no such voice, or a damaged one.
        ConfigurationError: the voice has no such speaker.
    """
    from trunkline_piper.provider import PiperTextToSpeech  # noqa: PLC0415  loads ONNX Runtime

    return PiperTextToSpeech(settings, context)


@hookimpl
def register_providers() -> list[Offer]:
    """Offer the synthesizer."""
    return [
        Offer(
            id="piper",
            kind=Kind.TEXT_TO_SPEECH,
            settings=PiperSettings,
            build=build,
            capabilities=CAPABILITIES,
            summary="Piper voices: natural speech on a CPU, streamed from the first tenth of a second on.",
        )
    ]
