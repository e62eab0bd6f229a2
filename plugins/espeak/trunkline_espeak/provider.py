# SPDX-License-Identifier: Apache-2.0
"""The `TextToSpeech` over the library: clauses in, trimmed chunks with word marks out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError, Future

import numpy as np

from appliance.plugin import (
    ConfigurationError,
    InvalidRequestError,
    Pcm,
    SpeechChunk,
    TtsRequest,
    UnavailableError,
    WordMark,
)
from trunkline_espeak import CAPABILITIES, EspeakSettings
from trunkline_espeak.library import SAMPLE_RATE, Style, acquire, release
from trunkline_espeak.trim import SilenceTrimmer

_LEAD = SAMPLE_RATE * 10 // 1000
_TAIL = SAMPLE_RATE * 20 // 1000
_FIRST = SAMPLE_RATE * 40 // 1000
_LARGEST = SAMPLE_RATE // 2
_SENTENCE_ENDS = (".", "!", "?", "…")


class EspeakTextToSpeech:
    """One object for all calls; see `appliance.plugin.TextToSpeech`."""

    def __init__(self, settings: EspeakSettings) -> None:
        self.capabilities = CAPABILITIES
        self._settings = settings
        self._engine = acquire()
        self._running: set[_Clause] = set()
        self._closed = False
        try:
            self._engine.check_voice(settings.voice)
        except InvalidRequestError as error:
            release()
            raise ConfigurationError(f"voice: {error.message}", remedy=error.remedy) from error

    async def speak(
        self, text: AsyncIterator[str], request: TtsRequest
    ) -> AsyncIterator[SpeechChunk]:
        """Speak each clause as it comes; a pause that its punctuation asks for parts two of them."""
        style = self._style(request)
        char = sample = 0
        pause = np.zeros(0, np.int16)
        async for piece in text:
            start = sample + pause.size
            clause = self._begin(piece, style)
            try:
                while (item := await clause.next()) is not None:
                    pcm, words = item
                    if pause.size:
                        pcm, pause = np.concatenate([pause, pcm]), pause[:0]
                    sample += pcm.size
                    yield SpeechChunk(
                        pcm, tuple(WordMark(char + at, start + offset) for at, offset in words)
                    )
            finally:
                clause.cancelled = True
                self._running.discard(clause)
            char += len(piece)
            if sample:
                pause = self._pause(piece)

    async def aclose(self) -> None:
        """Stop what runs; the last provider of the process ends the worker thread."""
        if not self._closed:
            self._closed = True
            for clause in self._running:
                clause.cancelled = True
            release()

    def _begin(self, text: str, style: Style) -> _Clause:
        if self._closed:
            raise UnavailableError("the espeak provider is closed")
        clause = _Clause(asyncio.get_running_loop())
        self._running.add(clause)
        clause.follow(self._engine.submit(text, style, clause.take))
        return clause

    def _style(self, request: TtsRequest) -> Style:
        settings = self._settings
        voice = request.voice or settings.voice
        if request.voice is None and request.language:
            wanted = request.language.lower()
            if wanted.partition("-")[0] != voice.partition("+")[0].partition("-")[0]:
                voice = wanted
        rate = min(450, max(80, round(settings.words_per_minute * request.speed)))
        return Style(
            voice, settings.voice, rate, settings.pitch, settings.pitch_range, settings.volume
        )

    def _pause(self, clause: str) -> Pcm:
        ends = clause.rstrip().rstrip("\"')]").endswith(_SENTENCE_ENDS)
        seconds = self._settings.sentence_pause_s if ends else self._settings.clause_pause_s
        return np.zeros(round(seconds * SAMPLE_RATE), np.int16)


_Item = tuple[Pcm, list[tuple[int, int]]]


class _Clause:
    """One synthesis on its way from the worker thread to the event loop.

    Chunks grow from 40 ms to half a second: the first one is early, the others wake the loop seldom.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.cancelled = False
        self._loop = loop
        self._ready: asyncio.Queue[_Item | Exception | None] = asyncio.Queue()
        self._trim = SilenceTrimmer(_LEAD, _TAIL)
        self._words: list[tuple[int, int]] = []
        self._parts: list[Pcm] = []
        self._size = 0
        self._given = 0
        self._want = _FIRST

    async def next(self) -> _Item | None:
        """Return the next chunk and its words, or None at the end."""
        item = await self._ready.get()
        if isinstance(item, Exception):
            raise item
        return item

    def follow(self, future: Future[None]) -> None:
        """Report the end of the synthesis, good or bad."""
        future.add_done_callback(self._done)

    def take(self, pcm: Pcm, words: list[tuple[int, int]]) -> bool:
        """Take audio in the worker thread; False stops the synthesis."""
        if self.cancelled:
            return False
        self._words += words
        self._keep(self._trim.push(pcm))
        if self._size >= self._want:
            self._want = min(2 * self._want, _LARGEST)
            self._put(self._chunk())
        return not self.cancelled

    def _done(self, future: Future[None]) -> None:
        try:
            failure: BaseException | None = future.exception()
        except CancelledError:
            failure = UnavailableError("the espeak provider is closed")
        if isinstance(failure, Exception):
            self._put(failure)
            return
        self._keep(self._trim.finish())
        if self._size:
            self._put(self._chunk())
        self._put(None)

    def _keep(self, pcm: Pcm) -> None:
        if pcm.size:
            self._parts.append(pcm)
            self._size += pcm.size

    def _chunk(self) -> _Item:
        pcm = np.concatenate(self._parts)
        self._parts, self._size = [], 0
        self._given += pcm.size
        placed = [(char, max(0, at - self._trim.skipped)) for char, at in self._words]
        now = [word for word in placed if word[1] < self._given]
        self._words = self._words[len(now) :]
        return pcm, now

    def _put(self, item: _Item | Exception | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._ready.put_nowait, item)
        except RuntimeError:  # the loop is closed: nobody listens any more
            self.cancelled = True
