# SPDX-License-Identifier: Apache-2.0
"""Contracts of the speech providers: recognizer, synthesizer, voice activity, end of turn.

Audio inside the box is one thing everywhere: mono, signed 16 bit, a numpy `int16` array of shape
`(samples,)` (`Pcm`), at 16 kHz unless a capability says otherwise. The core resamples.

Streams are async iterators in and out. Cancelling the task that consumes one cancels the work
within 20 ms of the event loop's time; providers clean up in `finally`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pcm: TypeAlias = NDArray[np.int16]

SAMPLE_RATE = 16_000
"""Hz. The rate of all audio between transport and providers."""


@dataclass(frozen=True, slots=True)
class SttCapabilities:
    """What a recognizer can do.

    Attributes:
        sample_rates: rates it takes, best first. The core resamples to the first.
        interim_results: it yields non-final transcripts while audio arrives.
        languages: BCP 47 tags, or empty for "any".
        hints: it uses `SttRequest.hints`.
        local: nothing leaves the machine.
    """

    sample_rates: tuple[int, ...] = (SAMPLE_RATE,)
    interim_results: bool = False
    languages: frozenset[str] = frozenset()
    hints: bool = False
    local: bool = True


@dataclass(frozen=True, slots=True)
class Flush:
    """Stands among the audio of a recognition stream: "the speaker fell silent here".

    The recognizer answers with one final transcript of everything heard since the stream began,
    as soon as it can, and goes on listening: more audio may follow.
    """


@dataclass(frozen=True, slots=True)
class SttRequest:
    """What a recognition stream is about.

    Attributes:
        call_id: for logs only.
        language: BCP 47 tag, or None to detect.
        hints: words or phrases that are likely here (names, products).
    """

    call_id: str = ""
    language: str | None = None
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Transcript:
    """Text of the whole stream so far.

    Attributes:
        text: all words since the stream began ("" when there are none), not an increment.
        is_final: answer to a `Flush` or to the end of the audio; interim otherwise.
        audio_s: seconds of audio, from the start of the stream, that the text covers. Never decreases.
        confidence: 0..1 where the provider knows it.
        language: BCP 47 tag where it was detected.
    """

    text: str
    is_final: bool
    audio_s: float
    confidence: float | None = None
    language: str | None = None


class SpeechToText(Protocol):
    """A recognizer. One object serves all calls at once."""

    capabilities: SttCapabilities

    def transcribe(
        self, audio: AsyncIterator[Pcm | Flush], request: SttRequest
    ) -> AsyncIterator[Transcript]:
        """Transcribe one caller turn.

        Yields interim transcripts when the provider has them, one final for each `Flush`, and one
        final after the audio ends unless nothing came after the last `Flush`; then stops.

        Raises:
            ProviderError: see `appliance.plugin.errors`.
        """
        ...

    async def aclose(self) -> None:
        """Release model, threads and connections. Idempotent."""


@dataclass(frozen=True, slots=True)
class TtsCapabilities:
    """What a synthesizer can do.

    Attributes:
        sample_rate: Hz of the audio it yields.
        streaming: first audio comes before the whole text is synthesized.
        word_marks: chunks carry exact word marks; else the core estimates them.
        languages: BCP 47 tags, or empty for "any".
        voices: names for `TtsRequest.voice`; empty when it has only one.
        local: nothing leaves the machine.
    """

    sample_rate: int
    streaming: bool = False
    word_marks: bool = False
    languages: frozenset[str] = frozenset()
    voices: tuple[str, ...] = ()
    local: bool = True


@dataclass(frozen=True, slots=True)
class TtsRequest:
    """How to speak. `voice` None is the provider's default; `speed` 1.0 is normal."""

    call_id: str = ""
    voice: str | None = None
    language: str | None = None
    speed: float = 1.0


@dataclass(frozen=True, slots=True)
class WordMark:
    """A word begins: `char` is its offset in all text given so far, `sample` in all audio yielded."""

    char: int
    sample: int


@dataclass(frozen=True, slots=True)
class SpeechChunk:
    """Audio as it is synthesized; `marks` lie inside or before this chunk."""

    pcm: Pcm
    marks: tuple[WordMark, ...] = ()


class TextToSpeech(Protocol):
    """A synthesizer. One object serves all calls at once."""

    capabilities: TtsCapabilities

    def speak(self, text: AsyncIterator[str], request: TtsRequest) -> AsyncIterator[SpeechChunk]:
        """Speak text as it arrives. The core sends whole clauses.

        Yields audio in order, at `capabilities.sample_rate`. Text without anything to say yields
        nothing.

        Raises:
            ProviderError: see `appliance.plugin.errors`.
        """
        ...

    async def aclose(self) -> None:
        """Release model, threads and connections. Idempotent."""


@dataclass(frozen=True, slots=True)
class VadCapabilities:
    """Geometry of a voice activity detector: it scores `window` samples at `sample_rate` Hz."""

    window: int = 512
    sample_rate: int = SAMPLE_RATE


class VoiceActivityDetector(Protocol):
    """Scores speech for all calls in one batch. Synchronous: it runs in the media tick."""

    capabilities: VadCapabilities

    def open(self) -> Any:
        """Return the state of a new call (opaque to the core)."""

    def score(self, states: Sequence[Any], windows: Pcm) -> NDArray[np.float32]:
        """Score the next window of each call; states are updated in place.

        Args:
            states: n objects that `open` returned, each at most once.
            windows: shape (n, window), int16.

        Returns:
            Speech probability of each, shape (n,), 0..1. Takes under 2 ms for n <= 16.
        """
        ...

    async def aclose(self) -> None:
        """Release the model. Idempotent."""


@dataclass(frozen=True, slots=True)
class TurnContext:
    """What is known when the caller falls silent.

    Attributes:
        text: transcript of the caller's turn so far.
        silence_s: silence since the last speech.
        speech_s: speech in this turn.
        agent_text: what the agent said last.
        expected: what the agent waits for (`digits`, `name`, ...), or "".
        language: BCP 47 tag.
        pcm: the last 8 s of the caller's audio at 16 kHz, for acoustic models.
    """

    text: str
    silence_s: float
    speech_s: float
    agent_text: str = ""
    expected: str = ""
    language: str | None = None
    pcm: Pcm = field(default_factory=lambda: np.zeros(0, np.int16))


@dataclass(frozen=True, slots=True)
class TurnCapabilities:
    """What a turn detector looks at."""

    uses_text: bool = True
    uses_audio: bool = False
    local: bool = True


class TurnDetector(Protocol):
    """Judges whether the caller has finished. A plug point: silence alone is the built-in answer."""

    capabilities: TurnCapabilities

    async def end_of_turn(self, context: TurnContext) -> float:
        """Return the probability, 0..1, that the caller has finished speaking."""
        ...

    async def aclose(self) -> None:
        """Release the model. Idempotent."""
