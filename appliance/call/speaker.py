# SPDX-License-Identifier: Apache-2.0
"""The agent's voice in one call: clauses to audio, audio to the transport, and news of both.

Part of the shell. Clauses are synthesized one after another in one task; the transport's queue is
topped up in the media tick, never more than 60 ms ahead of the wire.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from appliance.audio.playout import Playout, Speech
from appliance.audio.resample import Resampler
from appliance.call import inputs as inp
from appliance.engines.chain import TextToSpeechChain
from appliance.plugin import FRAME_SAMPLES, SAMPLE_RATE, Leg, TtsRequest

ENOUGH_SAMPLES = 4 * SAMPLE_RATE
"""With 4 s of speech in hand nothing more is synthesized: an interruption would waste it, and a long
answer would fill the memory."""

HELD_SAMPLES = 2 * SAMPLE_RATE
"""Of an answer that may come to nothing, 2 s are enough to go on with."""

AHEAD_SAMPLES = 3 * FRAME_SAMPLES
"""How much speech may wait at the transport: 60 ms, all that an interruption must take back there."""


class Speaker:
    """Speaks clauses in order.

    Args:
        leg: takes the audio.
        chain: synthesizers.
        request: voice, language and speed.
        feed: tells the core.
        start: starts a task that ends with the call.
        used: told generation, provider and characters of each clause.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        leg: Leg,
        chain: TextToSpeechChain,
        request: TtsRequest,
        *,
        feed: Callable[[inp.Input], None],
        start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        used: Callable[[int, str, int], None],
        clock: Callable[[], float],
    ) -> None:
        self._leg = leg
        self._chain = chain
        self._request = request
        self._feed = feed
        self._start = start
        self._used = used
        self._clock = clock
        self._playout = Playout()
        self._clauses: deque[tuple[int, str]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._hungry = asyncio.Event()
        self._gen = 0
        self._first_gen = 0
        self._idle = True
        self._held = False
        self._asked_at = 0.0
        self._first_audio_ms: dict[int, int] = {}

    @property
    def speaking(self) -> bool:
        """Whether there is speech for the wire that has not reached it."""
        return not self._idle and not self._held

    def unplayed_s(self) -> float:
        """Return how much speech is made and not heard yet, in seconds."""
        return (self._playout.queued() + self._leg.queued()) / SAMPLE_RATE

    def prepare(self, gen: int, text: str) -> None:
        """Synthesize a clause, and hold it and all that follows until `release`."""
        if self._idle:
            self._held = True
        self.say(gen, text)

    def release(self) -> None:
        """Let what is held play, from this tick on."""
        self._held = False
        self._hungry.set()

    def discard(self) -> None:
        """Forget what is held; none of it was heard."""
        if not self._held:
            return
        self._stop_synthesis()
        self._playout.drop()
        self._held, self._idle = False, True

    def say(self, gen: int, text: str) -> None:
        """Speak a clause after all that were asked for before."""
        if gen != self._gen:
            self._gen, self._asked_at = gen, self._clock()
        if self._idle:
            self._idle, self._first_gen = False, gen
            self._first_audio_ms.clear()
            self._playout.forget(gen)
        self._clauses.append((gen, text))
        if self._task is None or self._task.done():
            self._task = self._start(self._synthesize())

    def stop(self) -> tuple[tuple[int, str], ...]:
        """Drop all speech; return the words of each generation that reached the wire."""
        self._stop_synthesis()
        self._playout.drop(discarded=self._leg.drop())
        self._playout.set_gain(0.0)
        self._held, self._idle = False, True
        return self._playout.heard(since=self._first_gen)

    def duck(self, gain_db: float) -> None:
        """Set the gain of what goes to the transport from now on."""
        self._playout.set_gain(gain_db)

    def tick(self) -> None:
        """Top up the transport's queue; tell of speech that began or ran out on the wire."""
        if self._held:
            return
        self._top_up()
        if self._idle:
            return
        if self._playout.queued() < ENOUGH_SAMPLES:
            self._hungry.set()
        progress = self._playout.progress(self._leg.queued())
        for gen in progress.started:
            self._feed(inp.PlaybackStarted(gen, self._first_audio_ms.get(gen, 0)))
        synthesized = not self._clauses and (self._task is None or self._task.done())
        if progress.idle and synthesized and not self._idle:
            self._idle = True
            self._feed(inp.PlaybackIdle(self._gen))

    def _stop_synthesis(self) -> None:
        self._clauses.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _enough(self) -> bool:
        return self._playout.queued() >= (HELD_SAMPLES if self._held else ENOUGH_SAMPLES)

    def _top_up(self) -> None:
        if self._held:
            return
        while (room := AHEAD_SAMPLES - self._leg.queued()) > 0:
            pcm = self._playout.take(min(room, FRAME_SAMPLES))
            if not len(pcm):
                return
            self._leg.play(pcm)

    async def _synthesize(self) -> None:
        while self._clauses:
            while self._enough():
                self._hungry.clear()
                await self._hungry.wait()
            gen, text = self._clauses.popleft()
            try:
                rest = await self._speak(gen, text)
                if rest:
                    await self._speak(gen, rest, last=True)
            except Exception as error:
                self._clauses.clear()
                self._task = None  # what is said instead needs a task of its own
                self._feed(inp.SpeechFailed(gen, str(error)))
                return

    async def _speak(self, gen: int, text: str, *, last: bool = False) -> str:
        """Speak a clause. Return what is left of it when the synthesizer broke off within.

        Raises:
            ProviderError: no synthesizer could begin it, or it broke off at the `last` attempt.
        """
        resampler: Resampler | None = None
        speech: Speech | None = None
        try:
            async for rate, chunk in self._chain.speak(
                text, self._request, lambda name: self._used(gen, name, len(text))
            ):
                if resampler is None or speech is None:
                    resampler = Resampler(rate, SAMPLE_RATE)
                    speech = self._playout.open(gen, text, mark_rate=rate)
                    took = int((self._clock() - self._asked_at) * 1000)
                    self._first_audio_ms.setdefault(gen, took)
                speech.add(resampler.process(chunk.pcm), chunk.marks)
                self._top_up()
            if resampler is not None and speech is not None:
                speech.add(resampler.flush())
        except Exception:
            if speech is None:
                raise
            left = text[speech.chars_heard(speech.taken) :].strip()
            speech.drop()
            if last:
                raise
            return left
        finally:
            if speech is not None and not speech.dropped:
                speech.close()
        return ""
