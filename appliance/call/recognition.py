# SPDX-License-Identifier: Apache-2.0
"""The caller's audio of one turn on its way to the recognizer. Part of the shell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from appliance.call import inputs as inp
from appliance.engines.chain import SpeechToTextChain
from appliance.plugin import SAMPLE_RATE, Flush, Pcm, SttRequest


class Recognition:
    """Feeds one turn's audio to the recognizer chain, and its transcripts to the core.

    Args:
        turn: number of the caller's turn.
        feed: tells the core.
        used: told provider and milliseconds when the stream ends.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        turn: int,
        *,
        feed: Callable[[inp.Input], None],
        used: Callable[[str, int], None],
        clock: Callable[[], float],
    ) -> None:
        self.turn = turn
        self._feed = feed
        self._used = used
        self._clock = clock
        self._queue: asyncio.Queue[Pcm | Flush] = asyncio.Queue()
        self._samples = 0
        self._flushes = 0
        self._finals = 0
        self._flushed_at = 0.0
        self._provider = ""

    def push(self, pcm: Pcm) -> None:
        """Give audio."""
        self._samples += len(pcm)
        self._queue.put_nowait(pcm)

    def flush(self) -> None:
        """Ask for a final transcript of all audio given so far."""
        self._flushes += 1
        self._flushed_at = self._clock()
        self._queue.put_nowait(Flush())

    async def run(self, chain: SpeechToTextChain, request: SttRequest) -> None:
        """Transcribe until cancelled; a failure of the whole chain is told to the core."""
        try:
            async for transcript in chain.transcribe(self._audio(), request, self._note):
                if transcript.is_final:
                    self._finals += 1
                    took = int((self._clock() - self._flushed_at) * 1000)
                    text = transcript.text
                    self._feed(inp.FinalTranscript(self.turn, self._finals, text, took))
                elif self._finals == self._flushes:
                    self._feed(inp.InterimTranscript(self.turn, transcript.text))
        except Exception as error:
            self._feed(inp.RecognitionFailed(self.turn, str(error)))
        finally:
            if self._provider:
                self._used(self._provider, self._samples * 1000 // SAMPLE_RATE)

    def _note(self, provider: str) -> None:
        self._provider = provider

    async def _audio(self) -> AsyncIterator[Pcm | Flush]:
        while True:
            yield await self._queue.get()
