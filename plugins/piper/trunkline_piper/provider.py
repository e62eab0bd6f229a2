# SPDX-License-Identifier: GPL-3.0-or-later
"""The `TextToSpeech` over one voice: clauses in, a chunk for each sentence out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]
import structlog

from appliance.plugin import (
    BuildContext,
    ConfigurationError,
    InvalidRequestError,
    Pcm,
    SpeechChunk,
    TtsRequest,
    UnavailableError,
)
from trunkline_piper import CAPABILITIES, PiperSettings
from trunkline_piper.engine import PiperEngine, Scales

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")
_SENTENCE_ENDS = (".", "!", "?", "…")


class PiperTextToSpeech:
    """One object for all calls; see `appliance.plugin.TextToSpeech`."""

    def __init__(self, settings: PiperSettings, context: BuildContext) -> None:
        path = context.model_path(settings.model)
        self._engine = PiperEngine(path, context.threads, settings.peak)
        config = self._engine.config
        self._settings = settings
        self.capabilities = replace(
            CAPABILITIES,
            sample_rate=config.sample_rate,
            languages=frozenset({config.espeak_voice}),
            voices=tuple(config.speaker_id_map),
        )
        try:
            self._speaker = self._speaker_id(settings.speaker)
        except InvalidRequestError as error:
            raise ConfigurationError(f"speaker: {error.message}", remedy=error.remedy) from error
        self._worker: ThreadPoolExecutor | None = ThreadPoolExecutor(1, "piper")
        self._running: set[ort.RunOptions] = set()
        self._refused: set[str | None] = set()

    async def speak(
        self, text: AsyncIterator[str], request: TtsRequest
    ) -> AsyncIterator[SpeechChunk]:
        """Speak each sentence as soon as it is synthesized."""
        speaker = self._speaker_for(request.voice)
        scales = self._scales(request.speed)
        options = ort.RunOptions()
        self._running.add(options)
        pause = np.zeros(0, np.int16)
        try:
            async for clause in text:
                for ids in await self._in_worker(partial(self._engine.sentences, clause)):
                    pieces = self._engine.render(ids, scales, speaker, options)
                    said = False
                    while (pcm := await self._in_worker(partial(_next, pieces))) is not None:
                        if pcm.size:
                            yield SpeechChunk(np.concatenate([pause, pcm]))
                            said, pause = True, pause[:0]
                    if said:
                        pause = self._pause(clause)
        finally:
            options.terminate = True
            self._running.discard(options)

    async def aclose(self) -> None:
        """End what runs, and the worker thread."""
        if self._worker is not None:
            for options in self._running:
                options.terminate = True
            self._worker.shutdown(wait=True, cancel_futures=True)
            self._worker = None

    async def _in_worker(self, work: Callable[[], _T]) -> _T:
        if self._worker is None:
            raise UnavailableError("the piper provider is closed")
        return await asyncio.wrap_future(self._worker.submit(work))

    def _speaker_for(self, voice: str | None) -> int | None:
        """Return the speaker of a voice; a name that is not ours is that of another synthesizer, for
        which we stand in with our own.
        """
        try:
            return self._speaker if voice is None else self._speaker_id(voice)
        except InvalidRequestError as error:
            if voice not in self._refused:
                self._refused.add(voice)
                _log.warning("unknown voice", error=str(error))
            return self._speaker

    def _speaker_id(self, name: str | None) -> int | None:
        config = self._engine.config
        if name is None or config.num_speakers <= 1:
            return None
        if name in config.speaker_id_map:
            return config.speaker_id_map[name]
        if name.isdecimal() and int(name) < config.num_speakers:
            return int(name)
        known = ", ".join(list(config.speaker_id_map)[:8]) or f"0 to {config.num_speakers - 1}"
        raise InvalidRequestError(
            f"the voice has no speaker {name!r}", remedy=f"use one of {known}"
        )

    def _scales(self, speed: float) -> Scales:
        own, mine = self._engine.default_scales(), self._settings
        length = own.length if mine.length_scale is None else mine.length_scale
        return Scales(
            own.noise if mine.noise_scale is None else mine.noise_scale,
            length / speed,
            own.noise_w if mine.noise_w_scale is None else mine.noise_w_scale,
        )

    def _pause(self, clause: str) -> Pcm:
        ends = clause.rstrip().rstrip("\"')]").endswith(_SENTENCE_ENDS)
        seconds = self._settings.sentence_pause_s if ends else self._settings.clause_pause_s
        return np.zeros(round(seconds * self.capabilities.sample_rate), np.int16)


def _next(pieces: Iterator[Pcm]) -> Pcm | None:
    return next(pieces, None)
