# SPDX-License-Identifier: Apache-2.0
"""The caller's side of one call, sans-I/O: media ticks go in, audio to play and results come out.

GREETING -> LISTENING -> PAUSE -> SPEAKING -> AWAITING -> LISTENING -> PAUSE -> ... -> LINGERING -> DONE
                |                    ^  |
                +---- interrupt -----+  +-- no reply expected --> PAUSE
SILENT stands in place of SPEAKING in turns of digits, waiting and hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from appliance.audio.types import SAMPLE_RATE, Pcm
from appliance.caller.measure import (
    HEARD_DB,
    SENT_DB,
    Span,
    SpeechTrack,
    answer_latency,
    barge_in_stop,
    reply_to,
)
from appliance.caller.results import TurnResult
from appliance.caller.turns import PreparedTurn

AHEAD = 3 * 320
"""Audio kept in the transport's queue: 60 ms."""
_SPEAKING_NOW = SAMPLE_RATE // 10
"""An interruption begins only while the agent made a sound within the last 100 ms."""
_DIGIT_S = 0.26


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient the caller is, in seconds.

    Attributes:
        reply_pause_s: silence of the agent after which its answer is over.
        reply_timeout_s: wait for an answer.
        greeting_timeout_s: wait for the greeting.
        linger_s: after the last turn, wait so long for the agent to hang up.
        max_call_s: hang up then, whatever happens.
    """

    reply_pause_s: float = 0.8
    reply_timeout_s: float = 10.0
    greeting_timeout_s: float = 10.0
    linger_s: float = 2.0
    max_call_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Play:
    """Append this audio to the leg's queue."""

    pcm: Pcm


@dataclass(frozen=True, slots=True)
class SendDigits:
    """Send these digits."""

    digits: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Put the agent on hold, or take it off."""

    held: bool


@dataclass(frozen=True, slots=True)
class HangUp:
    """End the call."""


Action: TypeAlias = Play | SendDigits | Hold | HangUp


class State(StrEnum):
    """What the caller is doing."""

    GREETING = "greeting"
    PAUSE = "pause"
    SPEAKING = "speaking"
    SILENT = "silent"
    AWAITING = "awaiting"
    LISTENING = "listening"
    LINGERING = "lingering"
    DONE = "done"


class Conversation:
    """One call by a script.

    Args:
        turns: what to do, in order.
        timing: how patient to be.
        greeting: wait for the agent to speak first.
    """

    def __init__(
        self, turns: Sequence[PreparedTurn], timing: Timing | None = None, *, greeting: bool = True
    ) -> None:
        self.own = SpeechTrack(SENT_DB)
        self.agent = SpeechTrack(HEARD_DB)
        self.results: list[TurnResult] = []
        """What is measured so far: the greeting, if one was awaited, then every turn that is over."""
        self.complete = False
        """The script was done to its end."""
        self._timing = timing or Timing()
        self._turns = list(turns)
        self._next = 0
        self._state = State.GREETING if greeting else State.PAUSE
        self._since = 0
        self._begun = 0
        self._unsent = 0
        self._reply: Span | None = None
        self._queued = 0
        self._handlers: dict[State, Callable[[], list[Action]]] = {
            State.GREETING: self._greeting,
            State.PAUSE: self._pause,
            State.SPEAKING: self._speaking,
            State.SILENT: self._silent,
            State.AWAITING: self._awaiting,
            State.LISTENING: self._listening,
            State.LINGERING: self._lingering,
        }
        self._running: TurnResult | None = TurnResult(0, "greeting", "") if greeting else None

    @property
    def position(self) -> int:
        """Samples since the call was answered."""
        return self.agent.position

    def tick(self, heard: Pcm, sent: Pcm, queued: int) -> list[Action]:
        """Take one media tick.

        Args:
            heard: what came from the agent.
            sent: what the wire took from the queue in the same time.
            queued: samples played and not yet taken by the wire.

        Returns:
            What to do now.
        """
        self.own.push(sent)
        self.agent.push(heard)
        if self._state is State.DONE:
            return []
        if self.position >= self._timing.max_call_s * SAMPLE_RATE:
            self._finish_turn(missing=False)
            return self._end()
        self._queued = queued
        return self._handlers[self._state]()

    def ended(self) -> None:
        """The call is over: close the turn that runs."""
        if self._state is State.AWAITING:
            self._look_for_reply()
        missing = self._state is State.AWAITING and self._reply is None
        self._finish_turn(missing=missing)
        over = {State.LISTENING, State.AWAITING, State.PAUSE}
        if self._next == len(self._turns) and self._state in over:
            self.complete = not missing
        self._state = State.DONE

    def _greeting(self) -> list[Action]:
        spans = self.agent.spans()
        if spans:
            self._reply = spans[0]
            self._go(State.LISTENING)
        elif self._waited(self._timing.greeting_timeout_s):
            self._finish_turn(missing=True)
            self._go(State.PAUSE)
        return []

    def _pause(self) -> list[Action]:
        if self._next == len(self._turns):
            self.complete = True
            self._go(State.LINGERING)
            return []
        quiet = self.agent.silence() >= self._timing.reply_pause_s * SAMPLE_RATE
        never = not self.agent.spans()
        if self._waited(self._turns[self._next].pause_s) and (quiet or never):
            return self._begin(interrupts=False)
        return []

    def _begin(self, *, interrupts: bool) -> list[Action]:
        turn = self._turns[self._next]
        self._next += 1
        self._begun = self.position
        self.own.cut()
        self._reply = None
        self._running = TurnResult(self._next, turn.kind, turn.text, interrupted=interrupts)
        if turn.kind in {"say", "wav"}:
            self._unsent = 0
            self._go(State.SPEAKING)
            return self._speaking()
        self._go(State.SILENT)
        if turn.kind == "hold":
            return [Hold(held=True)]
        return [SendDigits(turn.digits)] if turn.digits else []

    def _speaking(self) -> list[Action]:
        turn = self._turns[self._next - 1]
        wanted = min(AHEAD - self._queued, turn.pcm.size - self._unsent)
        if wanted > 0:
            piece = turn.pcm[self._unsent : self._unsent + wanted]
            self._unsent += wanted
            return [Play(piece)]
        if self._unsent == turn.pcm.size and self._queued == 0:
            self._after_own(turn)
        return []

    def _silent(self) -> list[Action]:
        turn = self._turns[self._next - 1]
        if turn.kind == "wait" and turn.expect_reply and self._look_for_reply():
            self._go(State.LISTENING)
        elif self._waited(turn.seconds or _DIGIT_S * len(turn.digits)):
            self._after_own(turn)
            return [Hold(held=False)] if turn.kind == "hold" else []
        return []

    def _after_own(self, turn: PreparedTurn) -> None:
        if turn.expect_reply:
            self._go(State.AWAITING)
            return
        self._finish_turn(missing=False)
        self._go(State.PAUSE)

    def _awaiting(self) -> list[Action]:
        timeout = self._timing.reply_timeout_s
        if self._look_for_reply():
            self._go(State.LISTENING)
        elif self._waited(timeout) and self.agent.silence() >= min(timeout, 1.0) * SAMPLE_RATE:
            self._finish_turn(missing=True)
            self._go(State.PAUSE)
        return []

    def _listening(self) -> list[Action]:
        following = self._turns[self._next] if self._next < len(self._turns) else None
        after = following.interrupt_after_s if following else None
        if after is not None and self._reply is not None:
            due = self.position - self._reply.start >= after * SAMPLE_RATE
            if due and self.agent.silence() < _SPEAKING_NOW:
                self._finish_turn(missing=False)
                return self._begin(interrupts=True)
        if self.agent.silence() >= self._timing.reply_pause_s * SAMPLE_RATE:
            self._finish_turn(missing=False)
            self._go(State.PAUSE)
        return []

    def _lingering(self) -> list[Action]:
        quiet = self.agent.silence() >= self._timing.linger_s * SAMPLE_RATE
        return self._end() if quiet and self._waited(self._timing.linger_s) else []

    def _look_for_reply(self) -> bool:
        own = self._own() or Span(self._begun, self._begun)
        self._reply = reply_to(own, self.agent.spans(since=own.start))
        return self._reply is not None

    def _own(self) -> Span | None:
        spans = self.own.spans(since=self._begun)
        return Span(spans[0].start, spans[-1].end) if spans else None

    def _finish_turn(self, *, missing: bool) -> None:
        """Put the running turn's times into its result."""
        turn, reply, own = self._running, self._reply, self._own()
        if turn is None:
            return
        self._running = None
        if reply is not None:
            last = self.agent.spans(since=reply.start)[-1]
            turn = replace(turn, reply_start_s=_s(reply.start), reply_end_s=_s(last.end))
        if turn.kind == "greeting":
            wait = _s(reply.start) if reply is not None else None
            turn = replace(turn, answer_latency_s=wait)
        elif own is not None:
            turn = replace(turn, speech_start_s=_s(own.start), speech_end_s=_s(own.end))
            if reply is not None:
                latency = answer_latency(own, reply)
                turn = replace(turn, answer_latency_s=latency, early=latency is None)
            if turn.interrupted:
                stop = barge_in_stop(own, self.agent.at(own.start))
                turn = replace(turn, barge_in_stop_s=stop)
        self.results.append(replace(turn, reply_missing=missing))

    def _go(self, state: State) -> None:
        self._state, self._since = state, self.position

    def _waited(self, seconds: float) -> bool:
        return self.position - self._since >= seconds * SAMPLE_RATE

    def _end(self) -> list[Action]:
        self._state = State.DONE
        return [HangUp()]


def _s(position: int) -> float:
    return position / SAMPLE_RATE
