# SPDX-License-Identifier: Apache-2.0
"""Voice activity detection with Silero VAD: one session, one batch for all calls."""

from __future__ import annotations

from pydantic import Field

from appliance.plugin import (
    BuildContext,
    Kind,
    Offer,
    Settings,
    VadCapabilities,
    VoiceActivityDetector,
    hookimpl,
)


class SileroSettings(Settings):
    """Settings of the `silero` voice activity detector."""

    model: str = Field(
        default="",
        description="Silero VAD v6 ONNX file (a path, or a part of a model pack). Empty: the file that "
        "the faster-whisper package carries.",
    )


def build(settings: SileroSettings, context: BuildContext) -> VoiceActivityDetector:
    """Load the model.

    Raises:
        ModelNotFoundError: no such file.
        ConfigurationError: the file is not a Silero VAD v6 graph.
    """
    from trunkline_silero.detector import SileroDetector, bundled_model  # noqa: PLC0415

    path = context.model_path(settings.model) if settings.model else bundled_model()
    return SileroDetector(path)


@hookimpl
def register_providers() -> list[Offer]:
    """Offer the detector."""
    return [
        Offer(
            id="silero",
            kind=Kind.VOICE_ACTIVITY,
            settings=SileroSettings,
            build=build,
            capabilities=VadCapabilities(window=512, sample_rate=16_000),
            summary="Silero VAD v6, scored for all calls in one batch on one thread.",
        )
    ]
