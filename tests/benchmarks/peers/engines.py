# SPDX-License-Identifier: Apache-2.0
"""The engines that the peers' agents are given: the same libraries, models and voice as Trunkline's.

Runs in a peer's environment, with this repository on its path.
"""

# mypy: disable-error-code="import-not-found,import-untyped,no-any-return"

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from numpy.typing import NDArray
from trunkline_espeak import EspeakSettings
from trunkline_espeak.provider import EspeakTextToSpeech

from appliance.plugin import TtsRequest

SPEECH_RATE = 22_050
"""Hz of what the voice yields."""


class Recognizer:
    """faster-whisper as its documentation shows it: a whole segment in, its text out.

    Args:
        folder: the model.
        tuned: greedy and without retries at higher temperatures, as its documentation advises for speed.
    """

    def __init__(self, folder: str, *, tuned: bool) -> None:
        self._model = WhisperModel(folder, device="cpu", cpu_threads=1)
        self._options: dict[str, Any] = {"language": "en", "without_timestamps": True}
        if tuned:
            self._options |= {
                "beam_size": 1,
                "temperature": 0.0,
                "condition_on_previous_text": False,
            }

    def text(self, audio: NDArray[np.float32]) -> str:
        """Return the words of 16 kHz audio in -1..1. Blocks: call it in a thread."""
        segments, _ = self._model.transcribe(audio, **self._options)
        return " ".join(segment.text.strip() for segment in segments).strip()


class Voice:
    """eSpeak NG through Trunkline's own wrapper."""

    def __init__(self, voice: str) -> None:
        self._voice = EspeakTextToSpeech(EspeakSettings(voice=voice))

    async def speak(self, text: str) -> AsyncIterator[bytes]:
        """Yield s16le audio at `SPEECH_RATE` as it is synthesized."""

        async def words() -> AsyncIterator[str]:
            yield text

        async for chunk in self._voice.speak(words(), TtsRequest()):
            yield chunk.pcm.tobytes()
