# SPDX-License-Identifier: Apache-2.0
"""Speech recognition with Whisper models in CTranslate2, on windows as short as the speech."""

from __future__ import annotations

from appliance.plugin import BuildContext, Kind, Offer, SpeechToText, SttCapabilities, hookimpl
from trunkline_faster_whisper.settings import FasterWhisperSettings


def build(settings: FasterWhisperSettings, context: BuildContext) -> SpeechToText:
    """Load the model and start the worker threads.

    Raises:
        ModelNotFoundError: the model folder or a file of it is missing or damaged.
        ConfigurationError: the device or the compute type does not work on this machine.
    """
    from trunkline_faster_whisper.provider import WhisperRecognizer  # noqa: PLC0415
    from trunkline_faster_whisper.whisper import Whisper  # noqa: PLC0415

    threads = settings.threads or context.threads
    model = Whisper(context.model_path(settings.model), settings, threads)
    return WhisperRecognizer(model, settings, threads)


@hookimpl
def register_providers() -> list[Offer]:
    """Offer the recognizer."""
    return [
        Offer(
            id="faster_whisper",
            kind=Kind.SPEECH_TO_TEXT,
            settings=FasterWhisperSettings,
            build=build,
            capabilities=SttCapabilities(interim_results=True, hints=True),
            summary="Whisper models in CTranslate2 format, interim results, one model for all calls.",
        )
    ]
