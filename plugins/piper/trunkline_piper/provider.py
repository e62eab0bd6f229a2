# SPDX-License-Identifier: GPL-3.0-or-later
"""The `TextToSpeech` over one voice: clauses in, audio out in pieces that grow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
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
)
from trunkline_piper import CAPABILITIES, PiperSettings
from trunkline_piper.engine import PiperEngine, Scales
from trunkline_piper.phrases import Phrases
from trunkline_piper.worker import Supply, Worker

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
        self._worker = Worker("piper")
        self._phrases = Phrases(round(settings.cache_mb * 2**20), config.sample_rate)
        self._running: set[ort.RunOptions] = set()
        self._refused: set[str | None] = set()

    @property
    def streams(self) -> bool:
        """Whether a sentence comes in several pieces; see `trunkline_piper.split`."""
        return self._engine.graph.streams

    async def speak(
        self, text: AsyncIterator[str], request: TtsRequest
    ) -> AsyncIterator[SpeechChunk]:
        """Speak each sentence from its first piece on."""
        speaker = self._speaker_for(request.voice)
        answer = _Answer(self._engine, speaker, self._scales(request.speed))
        self._running.add(answer.options)
        pause = np.zeros(0, np.int16)
        try:
            async for clause in text:
                said = False
                async for new, pcm in self._clause(answer, clause):
                    pause = self._pause(clause) if said and new else pause
                    yield SpeechChunk(np.concatenate([pause, pcm]))
                    seconds = (pause.size + pcm.size) / self.capabilities.sample_rate
                    answer.supply.give(seconds, time.monotonic())
                    said, pause = True, pause[:0]
                if said:
                    pause = self._pause(clause)
        finally:
            answer.options.terminate = True
            self._running.discard(answer.options)

    async def _clause(self, answer: _Answer, clause: str) -> AsyncIterator[tuple[bool, Pcm]]:
        """Yield the audio of a clause, and whether a sentence begins with it."""
        key = (clause.strip(), answer.speaker, answer.scales)
        if (kept := self._phrases.get(key)) is not None:
            for sentence in kept:
                yield True, sentence
            return
        spoken: list[Pcm] = []
        for ids in await self._in_worker(partial(self._engine.sentences, clause), answer):
            following = partial(_next, answer.render(ids))
            parts: list[Pcm] = []
            while True:
                pcm: Pcm | None = await self._in_worker(following, answer)
                if pcm is None:
                    break
                if pcm.size:
                    yield not parts, pcm
                    parts.append(pcm)
            if parts:
                spoken.append(np.concatenate(parts))
        self._phrases.keep(key, tuple(spoken))

    async def aclose(self) -> None:
        """End what runs, and the worker thread."""
        for options in self._running:
            options.terminate = True
        self._worker.close()
        self._phrases = Phrases(0, self.capabilities.sample_rate)

    async def _in_worker(self, work: Callable[[], _T], answer: _Answer) -> _T:
        return await asyncio.wrap_future(self._worker.submit(work, answer.supply.dry_at))

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


class _Answer:
    """What one stream says, how, and how much of it was given."""

    def __init__(self, engine: PiperEngine, speaker: int | None, scales: Scales) -> None:
        self.options = ort.RunOptions()
        self.speaker = speaker
        self.scales = scales
        self.supply = Supply(time.monotonic())
        self._engine = engine

    def render(self, ids: list[int]) -> Iterator[Pcm]:
        """Return the pieces of one sentence; each is computed when it is asked for."""
        return self._engine.render(ids, self.scales, self.speaker, self.options)


def _next(pieces: Iterator[Pcm]) -> Pcm | None:
    return next(pieces, None)
