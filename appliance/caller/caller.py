# SPDX-License-Identifier: Apache-2.0
"""Places calls over any transport that can dial, many at once in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Self

from appliance.audio.recorder import RecordingWriter, StereoRecorder
from appliance.audio.types import SAMPLE_RATE
from appliance.caller.conversation import Conversation, HangUp, Hold, Play, SendDigits, Timing
from appliance.caller.results import CallResult, TurnResult
from appliance.caller.turns import PreparedTurn
from appliance.plugin import (
    Answered,
    DialRequest,
    Direction,
    EndCause,
    Leg,
    LegEnded,
    LegEvent,
    MediaFrame,
    ProviderError,
    Transport,
)

_HANG_UP_S = 5.0

OnTurn = Callable[[TurnResult], None]


class Caller:
    """A telephone with as many lines as its transport has. It refuses calls that come in.

    Args:
        transport: what dials; started by `start` and closed by `aclose`.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._recordings = RecordingWriter()
        self._calls: dict[str, _Call] = {}
        self._early: dict[str, list[LegEvent]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._dialing = 0

    async def start(self) -> None:
        """Start the transport.

        Raises:
            ConfigurationError: it cannot bind its ports.
        """
        await self._transport.start(self)

    async def aclose(self) -> None:
        """End what still runs and close the transport."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._transport.aclose()
        self._recordings.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def call(
        self,
        target: str,
        turns: Sequence[PreparedTurn],
        *,
        timing: Timing | None = None,
        greeting: bool = True,
        record: Path | None = None,
        on_turn: OnTurn | None = None,
        caller_id: str = "",
        trunk: str = "",
        answer_timeout_s: float = 30.0,
    ) -> CallResult:
        """Dial, talk, hang up.

        A call that cannot be placed or is refused gives a result that says so; nothing is raised.

        Args:
            target: what to dial (`sip:100@10.0.0.5:5060`).
            turns: what to do, from `prepare`.
            timing: how patient to be.
            greeting: wait for the agent to speak first.
            record: write a stereo WAV here: left is the caller, right is the agent.
            on_turn: told each turn as soon as it is over.
            caller_id: who is calling.
            trunk: which of the transport's trunks to use.
            answer_timeout_s: how long to let it ring.
        """
        request = DialRequest(target, trunk=trunk, caller_id=caller_id)
        self._dialing += 1
        try:
            leg = await self._transport.dial(request)
        except ProviderError as error:
            cause = EndCause.FAILED.value
            return CallResult(target, answered=False, heard=False, cause=cause, reason=str(error))
        finally:
            self._dialing -= 1
        call = _Call(leg, Conversation(turns, timing, greeting=greeting), on_turn)
        if record is not None:
            call.recorder = self._recordings.open(record, call.recording_failed)
        self._calls[leg.info.id] = call
        for event in self._early.pop(leg.info.id, ()):
            call.event(event)
        try:
            await call.wait(answer_timeout_s)
        finally:
            await self._leave(call)
        return call.result(target)

    def incoming(self, leg: Leg) -> None:
        """Refuse: this telephone only calls."""
        self._spawn(leg.reject(480, reason="Temporarily Unavailable"))

    def media(self, frames: Sequence[MediaFrame]) -> None:
        """Give each call its tick."""
        for frame in frames:
            call = self._calls.get(frame.leg.info.id)
            if call is not None:
                for request in call.tick(frame):
                    self._spawn(request)

    def event(self, leg: Leg, event: LegEvent) -> None:
        """Give it to the call; what comes before `dial` has returned is kept for it."""
        call = self._calls.get(leg.info.id)
        if call is not None:
            call.event(event)
        elif self._dialing and leg.info.direction is Direction.OUTBOUND:
            self._early.setdefault(leg.info.id, []).append(event)

    async def _leave(self, call: _Call) -> None:
        if not call.ended.done():
            await call.leg.hang_up()
            await asyncio.wait([call.ended], timeout=_HANG_UP_S)
        self._calls.pop(call.leg.info.id, None)
        self._early.pop(call.leg.info.id, None)
        if call.recorder is not None:
            written = await asyncio.wrap_future(call.recorder.close())
            call.recording = str(written.path or "")

    def _spawn(self, request: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(request)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Call:
    """One call: a conversation, its leg, and how it ended."""

    def __init__(self, leg: Leg, conversation: Conversation, on_turn: OnTurn | None) -> None:
        loop = asyncio.get_running_loop()
        self.leg = leg
        self.conversation = conversation
        self.recorder: StereoRecorder | None = None
        self.recording = ""
        self.answered: asyncio.Future[str] = loop.create_future()
        self.ended: asyncio.Future[LegEnded] = loop.create_future()
        self._on_turn = on_turn
        self._told = 0
        self._problem = ""

    def event(self, event: LegEvent) -> None:
        """Take an event of the leg."""
        if isinstance(event, Answered) and not self.answered.done():
            self.answered.set_result(event.codec)
        elif isinstance(event, LegEnded) and not self.ended.done():
            self.conversation.ended()
            self._tell()
            self.ended.set_result(event)

    def tick(self, frame: MediaFrame) -> list[Coroutine[Any, Any, None]]:
        """Take a media tick; return what the leg is asked for."""
        if not self.answered.done() or self.ended.done():
            return []
        if self.recorder is not None:
            self.recorder.write(frame.sent, frame.heard)
        requests = []
        for action in self.conversation.tick(frame.heard, frame.sent, self.leg.queued()):
            if isinstance(action, Play):
                self.leg.play(action.pcm)
            elif isinstance(action, SendDigits):
                requests.append(self.leg.send_dtmf(action.digits))
            elif isinstance(action, Hold):
                requests.append(self.leg.hold(action.held))
            elif isinstance(action, HangUp):
                requests.append(self.leg.hang_up())
        self._tell()
        return requests

    def recording_failed(self, error: str) -> None:
        """Note why there is no recording."""
        self._problem = error

    async def wait(self, answer_timeout_s: float) -> None:
        """Return when the call is over, or nobody answered in time."""
        either: list[asyncio.Future[Any]] = [self.answered, self.ended]
        await asyncio.wait(
            either,
            timeout=answer_timeout_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if self.answered.done():
            await asyncio.wait([self.ended])

    def result(self, target: str) -> CallResult:
        """Return what the call brought."""
        end = self.ended.result() if self.ended.done() else LegEnded(EndCause.NO_ANSWER)
        results = self.conversation.results
        greeting = next((turn for turn in results if turn.kind == "greeting"), None)
        answered = self.answered.done()
        if not answered and end.cause is EndCause.LOCAL_HANGUP:
            end = LegEnded(EndCause.NO_ANSWER)
        return CallResult(
            target,
            answered=answered,
            heard=bool(self.conversation.agent.spans()),
            cause=end.cause.value,
            codec=self.answered.result() if answered else "",
            greeting=greeting,
            turns=tuple(turn for turn in results if turn.kind != "greeting"),
            complete=self.conversation.complete,
            code=end.code,
            reason=self._problem or end.reason,
            seconds=self.conversation.position / SAMPLE_RATE,
            recording=self.recording,
        )

    def _tell(self) -> None:
        if self._on_turn is not None:
            for turn in self.conversation.results[self._told :]:
                self._on_turn(turn)
        self._told = len(self.conversation.results)
