# SPDX-License-Identifier: Apache-2.0
"""The recognizer as the core sees it: streams of audio in, transcripts out, for all calls at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np

from appliance.plugin import (
    SAMPLE_RATE,
    Flush,
    Pcm,
    SttCapabilities,
    SttRequest,
    Transcript,
)
from trunkline_faster_whisper.audio import quietest_point
from trunkline_faster_whisper.settings import FasterWhisperSettings
from trunkline_faster_whisper.whisper import Utterance, Whisper
from trunkline_faster_whisper.workers import Pending, Workers

_EARLIEST_CUT = 0.6
"""Long audio is cut in the last 40 % of the longest window, so that no part gets too short."""


class WhisperRecognizer:
    """`SpeechToText` over one model and its worker threads.

    Args:
        model: the loaded model.
        settings: see there.
        threads: worker threads.
    """

    def __init__(self, model: Whisper, settings: FasterWhisperSettings, threads: int) -> None:
        self._model = model
        self._settings = settings
        self._workers = Workers(model, threads, settings.queue_limit)
        self.capabilities = SttCapabilities(
            interim_results=settings.interim_every_s > 0,
            languages=model.languages,
            hints=model.uses_hints,
        )

    async def transcribe(
        self, audio: AsyncIterator[Pcm | Flush], request: SttRequest
    ) -> AsyncIterator[Transcript]:
        """Transcribe one caller turn; see `appliance.plugin.SpeechToText`.

        Raises:
            InvalidRequestError: the model does not know the language.
            RateLimitedError: too many utterances of other calls wait.
            UnavailableError: the engine failed or is closed.
        """
        language = self._model.language_code(request.language)
        turn = _Turn(self._workers, self._settings, language, request.hints)
        reader = asyncio.create_task(turn.read(audio), name=f"faster_whisper {request.call_id}")
        try:
            while (pending := await turn.answers.get()) is not None:
                transcript = await pending.transcript()
                if transcript is not None:
                    yield transcript
            await reader
        finally:
            turn.cancel()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def aclose(self) -> None:
        """End the worker threads and free the model. Idempotent."""
        await asyncio.shield(asyncio.wrap_future(self._workers.close()))
        self._workers.join()
        self._model.close()


@dataclass(slots=True)
class _Answer:
    """A transcript that is being computed: the parts of the turn, in order."""

    parts: list[Pending]
    is_final: bool
    audio_s: float
    superseded: bool = False

    async def transcript(self) -> Transcript | None:
        """Wait for it; None when a newer interim or a final overtook this interim."""
        found = []
        for part in self.parts:
            waiter = asyncio.wrap_future(part)
            try:
                await asyncio.wait({waiter})
            finally:
                waiter.cancel()
            if waiter.cancelled():
                return None
            found.append(waiter.result())
        if self.superseded:
            return None
        sure = [one.confidence for one in found if one.confidence is not None]
        return Transcript(
            text=" ".join(one.text for one in found if one.text),
            is_final=self.is_final,
            audio_s=self.audio_s,
            confidence=min(sure, default=None),
            language=next((one.language for one in reversed(found) if one.language), None),
        )


class _Turn:
    """Audio of one turn as it arrives, and the answers asked for so far."""

    def __init__(
        self,
        workers: Workers,
        settings: FasterWhisperSettings,
        language: str | None,
        hints: tuple[str, ...],
    ) -> None:
        self.answers: asyncio.Queue[_Answer | None] = asyncio.Queue()
        self._workers = workers
        self._language = language
        self._hints = hints
        self._longest = round(settings.max_window_s * SAMPLE_RATE)
        self._interim_every = round(settings.interim_every_s * SAMPLE_RATE)
        self._heads: list[Pending] = []  # parts that were cut off, of a long turn
        self._tail: list[Pcm] = []
        self._tail_samples = 0
        self._samples = 0
        self._flushed_at: int | None = None
        self._interim_at = 0
        self._interim: _Answer | None = None
        self._given: list[Pending] = []

    async def read(self, audio: AsyncIterator[Pcm | Flush]) -> None:
        """Take the audio in; put an answer into the queue for each `Flush`, and None at the end."""
        try:
            async for item in audio:
                if isinstance(item, Flush):
                    self._answer_finally()
                else:
                    self._add(item)
            if self._flushed_at is None or self._flushed_at < self._samples:
                self._answer_finally()
        finally:
            self.answers.put_nowait(None)

    def _add(self, pcm: Pcm) -> None:
        self._tail.append(pcm)
        self._tail_samples += len(pcm)
        self._samples += len(pcm)
        while self._tail_samples > self._longest:
            self._cut()
        if self._interim_every and self._samples - self._interim_at >= self._interim_every:
            self._answer_meanwhile()

    def _cut(self) -> None:
        tail = np.concatenate(self._tail)
        at = quietest_point(tail, round(_EARLIEST_CUT * self._longest), self._longest)
        self._heads.append(self._submit(tail[:at]))
        self._tail = [tail[at:]]
        self._tail_samples = len(tail) - at

    def _answer_finally(self) -> None:
        if self._interim is not None:
            self._interim.superseded = True
        parts = list(self._heads)
        if self._tail_samples:
            parts.append(self._submit(np.concatenate(self._tail)))
        self.answers.put_nowait(_Answer(parts, True, self._samples / SAMPLE_RATE))
        self._flushed_at = self._interim_at = self._samples

    def _answer_meanwhile(self) -> None:
        """Ask for an interim transcript; it takes the place of one that still waits."""
        self._interim_at = self._samples
        utterance = Utterance(np.concatenate(self._tail), self._language, self._hints)
        part = self._workers.interim(utterance, self)
        self._given.append(part)
        self._interim = _Answer([*self._heads, part], False, self._samples / SAMPLE_RATE)
        self.answers.put_nowait(self._interim)

    def _submit(self, pcm: Pcm) -> Pending:
        part = self._workers.final(Utterance(pcm, self._language, self._hints), self)
        self._given.append(part)
        return part

    def cancel(self) -> None:
        """Give up everything that has not begun."""
        for part in self._given:
            self._workers.give_up(part)
