# SPDX-License-Identifier: Apache-2.0
"""Provider chains: the first provider that works serves; one that fails rests for a while.

A chain has the interface of a single provider, so that the call does not know how many stand behind it.
Each wait on a provider has a limit: one that hangs is treated like one that raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from appliance.plugin import (
    Flush,
    LanguageModel,
    LlmDelta,
    LlmRequest,
    Pcm,
    ProviderError,
    ProviderTimeoutError,
    SpeechChunk,
    SpeechToText,
    SttRequest,
    TextToSpeech,
    Transcript,
    TtsRequest,
    UnavailableError,
)

_log = structlog.get_logger(__name__)
_P = TypeVar("_P")
_T = TypeVar("_T")

REST_S = (2.0, 10.0, 60.0)
"""How long a provider rests after its first, second and every further failure in a row."""


@dataclass(slots=True)
class Member(Generic[_P]):
    """A provider of a chain, under its name in the config."""

    name: str
    provider: _P
    failures: int = 0
    rests_until: float = 0.0


class Health(Generic[_P]):
    """Which members of a chain to try, in order. Shared by all calls.

    Args:
        members: at least one.
        clock: seconds, monotonic.
    """

    def __init__(self, members: Sequence[Member[_P]], clock: Callable[[], float]) -> None:
        self.members = tuple(members)
        self._clock = clock

    def candidates(self) -> list[Member[_P]]:
        """Return the rested members, then, as a last resort, the resting ones."""
        now = self._clock()
        return sorted(self.members, key=lambda member: member.rests_until > now)

    def failed(self, member: Member[_P], error: Exception) -> None:
        """Note a failure: the member rests, the longer the more failures in a row."""
        rest = REST_S[min(member.failures, len(REST_S) - 1)]
        member.failures += 1
        member.rests_until = self._clock() + rest
        _log.warning("provider failed", provider=member.name, error=str(error), rests_s=rest)

    def worked(self, member: Member[_P]) -> None:
        """Note a success."""
        member.failures, member.rests_until = 0, 0.0


def as_provider_error(error: Exception) -> ProviderError:
    """Return what a provider raised as a `ProviderError`: anything else is a fault of the plugin."""
    if isinstance(error, ProviderError):
        return error
    if isinstance(error, TimeoutError):
        return ProviderTimeoutError("not ready in the time it had")
    return UnavailableError(f"{type(error).__name__}: {error}")


async def within(source: AsyncIterator[_T], first_s: float, next_s: float) -> AsyncIterator[_T]:
    """Yield from `source`, waiting at most `first_s` for the first item and `next_s` for each other.

    Raises:
        ProviderTimeoutError: an item took longer.
    """
    limit = first_s
    iterator = aiter(source)
    try:
        while True:
            try:
                item = await asyncio.wait_for(anext(iterator), limit)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise ProviderTimeoutError(f"no answer within {limit:g} s") from error
            yield item
            limit = next_s
    finally:
        with suppress(Exception):
            await iterator.aclose()  # type: ignore[attr-defined]


class SpeechToTextChain:
    """Recognizers in order of preference. What a failed one had heard is given to the next."""

    def __init__(self, members: Health[SpeechToText]) -> None:
        self._health = members

    async def transcribe(
        self, audio: AsyncIterator[Pcm | Flush], request: SttRequest, used: Callable[[str], None]
    ) -> AsyncIterator[Transcript]:
        """Transcribe one turn; `used` is told the name of each provider that gave a final."""
        heard: list[Pcm | Flush] = []
        finals = 0
        error: ProviderError | None = None
        for member in self._health.candidates():
            stream = member.provider.transcribe(_again(heard, audio), request)
            skip = finals
            try:
                async with aclosing(stream) as transcripts:  # type: ignore[type-var]
                    async for transcript in transcripts:
                        if transcript.is_final:
                            if skip:
                                skip -= 1
                                continue
                            finals += 1
                            used(member.name)
                            self._health.worked(member)
                        yield transcript
                return
            except Exception as caught:
                error = as_provider_error(caught)
                self._health.failed(member, error)
        raise error or UnavailableError("no recognizer is configured")


async def _again(
    heard: list[Pcm | Flush], audio: AsyncIterator[Pcm | Flush]
) -> AsyncIterator[Pcm | Flush]:
    for item in tuple(heard):
        yield item
    async for item in audio:
        heard.append(item)
        yield item


class LanguageModelChain:
    """Models in order of preference. Once text has been given out there is no changing over."""

    def __init__(
        self, members: Health[LanguageModel], *, first_s: float = 4.0, next_s: float = 4.0
    ) -> None:
        self._health = members
        self._first_s = first_s
        self._next_s = next_s

    async def reply(
        self, request: LlmRequest, used: Callable[[str], None]
    ) -> AsyncIterator[LlmDelta]:
        """Stream the reply; `used` is told which provider gives it."""
        error: ProviderError | None = None
        for member in self._health.candidates():
            begun = False
            source = within(member.provider.reply(request), self._first_s, self._next_s)
            try:
                async with aclosing(source) as deltas:  # type: ignore[type-var]
                    async for delta in deltas:
                        if not begun:
                            begun = True
                            used(member.name)
                        yield delta
                self._health.worked(member)
                return
            except Exception as caught:
                error = as_provider_error(caught)
                self._health.failed(member, error)
                if begun:
                    break
        raise error or UnavailableError("no language model is configured")


class TextToSpeechChain:
    """Synthesizers in order of preference, changed over between clauses."""

    def __init__(
        self, members: Health[TextToSpeech], *, first_s: float = 3.0, next_s: float = 3.0
    ) -> None:
        self._health = members
        self._first_s = first_s
        self._next_s = next_s

    async def speak(
        self, text: str, request: TtsRequest, used: Callable[[str], None]
    ) -> AsyncIterator[tuple[int, SpeechChunk]]:
        """Speak one clause: pairs of sample rate and chunk."""
        error: ProviderError | None = None
        for member in self._health.candidates():
            rate = member.provider.capabilities.sample_rate
            begun = False
            source = within(
                member.provider.speak(_once(text), request), self._first_s, self._next_s
            )
            try:
                async with aclosing(source) as chunks:  # type: ignore[type-var]
                    async for chunk in chunks:
                        if not begun:
                            begun = True
                            used(member.name)
                        yield rate, chunk
                self._health.worked(member)
                return
            except Exception as caught:
                error = as_provider_error(caught)
                self._health.failed(member, error)
                if begun:
                    break
        raise error or UnavailableError("no synthesizer is configured")


async def _once(text: str) -> AsyncIterator[str]:
    yield text
