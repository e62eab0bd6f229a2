# SPDX-License-Identifier: Apache-2.0
"""Provider chains: the first provider that works serves; one that fails rests for a while.

A chain has the interface of a single provider, so that the call does not know how many stand behind it.
Each wait on a provider has a limit: one that hangs is treated like one that raises. What breaks off in
the middle is taken up by the next provider: a recognizer is given all that was heard, a model answers
the same dialogue, a synthesizer speaks what is left of the clause.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from appliance.engines.continuing import Clause, without_what_was_said
from appliance.engines.errors import as_provider_error
from appliance.engines.health import Health, Member
from appliance.engines.heard import Heard
from appliance.engines.race import RECOVER_S, Limits, Pulled, Race
from appliance.plugin import (
    Flush,
    LanguageModel,
    LlmDelta,
    LlmRequest,
    Pcm,
    ProviderError,
    ProviderTimeoutError,
    ReplyPace,
    SpeechChunk,
    SpeechToText,
    SttRequest,
    TextDelta,
    TextToSpeech,
    ToolCall,
    Transcript,
    TtsRequest,
    UnavailableError,
)

__all__ = ["Health", "LanguageModelChain", "Member", "SpeechToTextChain", "TextToSpeechChain"]

ENOUGH_UNPLAYED_S = 1.0
"""Speech ahead of the caller with which a reply that pauses is none that hangs."""

_LOOK_S = 0.05
_DOWN_S = 10.0


class SpeechToTextChain:
    """Recognizers in order of preference. What a failed one had heard is given to the next.

    Args:
        members: the recognizers.
        final_s: longest wait for a final after it was asked for, while another recognizer is there.
    """

    def __init__(self, members: Health[SpeechToText], *, final_s: float = 4.0) -> None:
        self._health = members
        self._final_s = final_s

    async def transcribe(
        self, audio: AsyncIterator[Pcm | Flush], request: SttRequest, used: Callable[[str], None]
    ) -> AsyncIterator[Transcript]:
        """Transcribe one turn; `used` is told the name of each provider that gave a final."""
        heard = Heard(audio)
        waiting = deque(self._health.candidates())
        finals = 0
        error: ProviderError | None = None
        try:
            while waiting or (waiting := deque(await self._recovered(heard, finals))):
                member = waiting.popleft()
                stream = Pulled(member.provider.transcribe(heard.listen(), request))
                skip = finals
                try:
                    async for transcript in self._finals_in_time(member, stream, heard, waiting):
                        if skip:
                            skip -= transcript.is_final
                            continue
                        if transcript.is_final:
                            finals += 1
                            used(member.name)
                            self._health.worked(member)
                        yield transcript
                    return
                except Exception as caught:
                    error = as_provider_error(caught)
                    if not member.recovering:
                        self._health.failed(member, error)
                finally:
                    await stream.aclose()
        finally:
            await heard.aclose()
        raise error or UnavailableError("no recognizer is configured")

    async def _finals_in_time(
        self,
        member: Member[SpeechToText],
        stream: Pulled[Transcript],
        heard: Heard,
        others: deque[Member[SpeechToText]],
    ) -> AsyncIterator[Transcript]:
        clock = asyncio.get_running_loop().time
        began, given = clock(), 0
        while True:
            coming = stream.next()
            while not coming.done():
                left: float | None = None
                if heard.wanted() > given and others:
                    limit = self._final_s
                    if self._health.rested(others[0]):
                        limit = member.patience_s(limit)
                    since = max(heard.asked_at(given), began, member.alive_at)
                    left = since + limit - clock()
                    if left <= 0:
                        raise ProviderTimeoutError(f"no final within {limit:g} s")
                either: set[asyncio.Future[object]] = {coming, heard.asked()}  # type: ignore[arg-type]
                await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            found = coming.result()
            stream.taken()
            if not found:
                return
            member.alive_at = clock()
            if found[0].is_final:
                member.answered_in(clock() - max(heard.asked_at(given), began))
                given += 1
            yield found[0]

    async def _recovered(self, heard: Heard, finals: int) -> list[Member[SpeechToText]]:
        """Wait for a worker that is being restarted: while the caller speaks there is time for it."""
        clock = asyncio.get_running_loop().time
        began = clock()
        coming = [one for one in self._health.members if hasattr(one.provider, "recovering")]
        while coming and clock() - began < _DOWN_S:
            await asyncio.sleep(_LOOK_S)
            ready = [one for one in coming if not one.recovering]
            if ready:
                return ready
            if heard.wanted() > finals and clock() - heard.asked_at(finals) > RECOVER_S:
                break
        return []


class LanguageModelChain:
    """Models in order of preference. One that breaks off in the middle is continued by the next, unless
    it has called a tool: nothing is done twice.

    Args:
        members: the models.
        first_s: longest wait for the first piece of a reply.
        next_s: longest wait for each other one: a tool call comes as a whole.
    """

    def __init__(
        self, members: Health[LanguageModel], *, first_s: float = 4.0, next_s: float = 4.0
    ) -> None:
        self._health = members
        self._first_s = first_s
        self._next_s = next_s

    async def reply(
        self, request: LlmRequest, used: Callable[[str], None]
    ) -> AsyncIterator[LlmDelta]:
        """Stream the reply; `used` is told which provider gives it, the last one when several do."""
        limits = Limits(self._first_s, self._next_s, lambda: _wanted_now(request.pace))
        race = Race(self._health, lambda model: model.reply(request), limits, "language model")
        said = ""
        error: ProviderError | None = None
        while True:
            try:
                member, stream = await race.winner(error)
            except ProviderError as nobody:
                raise error or nobody from nobody
            used(member.name)
            called = False
            try:
                deltas = without_what_was_said(said, stream.items(limits))
                async with aclosing(deltas) as rest:  # type: ignore[type-var]
                    async for delta in rest:
                        member.alive_at = asyncio.get_running_loop().time()
                        called = called or isinstance(delta, ToolCall)
                        said += delta.text if isinstance(delta, TextDelta) else ""
                        yield delta
                self._health.worked(member)
                return
            except Exception as caught:
                error = as_provider_error(caught)
                self._health.failed(member, error)
                if called:
                    raise error from caught
            finally:
                await stream.aclose()


def _wanted_now(pace: ReplyPace | None) -> bool:
    """Tell whether somebody waits for the next piece of a reply."""
    return pace is None or (pace.committed and pace.unplayed_s < ENOUGH_UNPLAYED_S)


class TextToSpeechChain:
    """Synthesizers in order of preference. One that breaks off in a clause is continued by the next.

    Args:
        members: the synthesizers.
        first_s: longest wait for the first audio of a clause.
        next_s: longest wait for each other chunk.
    """

    def __init__(
        self, members: Health[TextToSpeech], *, first_s: float = 3.0, next_s: float = 3.0
    ) -> None:
        self._health = members
        self._limits = Limits(first_s, next_s)

    async def speak(
        self, text: str, request: TtsRequest, used: Callable[[str], None]
    ) -> AsyncIterator[tuple[int, SpeechChunk]]:
        """Speak one clause: pairs of sample rate and chunk. The rate is the same for all of them."""
        clause = Clause(text)
        race = Race(
            self._health,
            lambda voice: voice.speak(_once(clause.rest()), request),
            self._limits,
            "synthesizer",
        )
        error: ProviderError | None = None
        while True:
            try:
                member, stream = await race.winner(error)
            except ProviderError as nobody:
                raise error or nobody from nobody
            used(member.name)
            clause.voice(member.provider.capabilities.sample_rate)
            try:
                async with aclosing(stream.items(self._limits)) as chunks:  # type: ignore[type-var]
                    async for chunk in chunks:
                        member.alive_at = asyncio.get_running_loop().time()
                        yield clause.rate, clause.take(chunk)
                if (tail := clause.flush()) is not None:
                    yield clause.rate, tail
                self._health.worked(member)
                return
            except Exception as caught:
                error = as_provider_error(caught)
                self._health.failed(member, error)
                if not clause.rest().strip():
                    return
            finally:
                await stream.aclose()


async def _once(text: str) -> AsyncIterator[str]:
    yield text
