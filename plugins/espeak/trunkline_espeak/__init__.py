# SPDX-License-Identifier: Apache-2.0
"""eSpeak NG as a `TextToSpeech` provider. Importing this loads no library: `build` does."""

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

COMMON_VOICES = (
    "en-us", "en-gb", "en-gb-scotland", "en-029", "de", "es", "es-419", "fr-fr", "fr-be", "it",
    "nl", "pt", "pt-br", "pl", "cs", "da", "sv", "nb", "fi", "hu", "ro", "el", "ru", "uk", "tr",
)  # fmt: skip
"""Voices named to people. Any other voice of eSpeak NG works too, each with `+variant`."""

CAPABILITIES = TtsCapabilities(
    sample_rate=22_050, streaming=True, word_marks=True, voices=COMMON_VOICES
)


class EspeakSettings(Settings):
    """Settings of the provider `espeak`."""

    voice: str = Field(
        "en-us",
        min_length=1,
        description="Voice of eSpeak NG, with an optional variant: en-us, en-gb+f3, de+m2.",
    )
    words_per_minute: int = Field(
        175, ge=80, le=450, description="Speaking rate in words per minute at speed 1.0."
    )
    pitch: int = Field(50, ge=0, le=99, description="Base pitch, 0 (low) to 99 (high).")
    pitch_range: int = Field(
        50, ge=0, le=99, description="Intonation, 0 (monotone) to 99 (lively)."
    )
    volume: int = Field(100, ge=0, le=200, description="Loudness in percent.")
    clause_pause_s: float = Field(
        0.12, ge=0, le=2, description="Silence after a clause that another one follows, seconds."
    )
    sentence_pause_s: float = Field(
        0.25, ge=0, le=2, description="Silence after a sentence that another one follows, seconds."
    )


def build(settings: EspeakSettings, context: BuildContext) -> TextToSpeech:
    """Load the library and check the voice.

    Raises:
        ConfigurationError: no such voice or variant.
    """
    from trunkline_espeak.provider import EspeakTextToSpeech  # noqa: PLC0415  the library is big

    del context
    return EspeakTextToSpeech(settings)


@hookimpl
def register_providers() -> list[Offer]:
    """Offer the synthesizer."""
    return [
        Offer(
            id="espeak",
            kind=Kind.TEXT_TO_SPEECH,
            settings=EspeakSettings,
            build=build,
            capabilities=CAPABILITIES,
            summary="eSpeak NG: robotic, instant, a hundred languages, no model file.",
        )
    ]
