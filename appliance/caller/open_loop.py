# SPDX-License-Identifier: Apache-2.0
"""Callers who speak when their time has come, whether they were answered or not (open loop).

A plan says when each caller calls and what is said at which second of the call. A slow agent is therefore
asked as often as a fast one. Three kinds of turns:

- whole: a question without a pause. Its answer latency counts.
- paused: the same question with 0.2 to 0.6 s of silence inside. An answer that begins in that
  silence, or at any time before the end, cut the caller off.
- interruption: the caller speaks into the answer of the turn before, 1.2 s after it began.

Times are counted in samples that the caller sent and heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from appliance.audio.types import SAMPLE_RATE, Pcm, silence
from appliance.caller.measure import HEARD_DB, SENT_DB, Span, SpeechTrack, reply_to
from appliance.caller.plan import PlannedCall, Turn
from appliance.plugin import (
    FRAME_SAMPLES,
    DialRequest,
    Leg,
    LegEnded,
    LegEvent,
    MediaFrame,
    ProviderError,
    Transport,
)

INTERRUPT_AFTER_S = 1.2


@dataclass
class Heard:
    """What one call brought.

    Attributes:
        latencies_s: end of a whole question to the first sample of its answer.
        cut_ins: for each paused question, whether the agent began before its end.
        early: the same for each whole question.
        missed: for each question, whether no answer came before the next one.
        barge_in_s: first sample of an interruption to the last sample of the speech that it interrupted.
        seconds: length of the call.
        failed: it never came up, or ended before its time.
    """

    latencies_s: list[float] = field(default_factory=list)
    cut_ins: list[bool] = field(default_factory=list)
    early: list[bool] = field(default_factory=list)
    missed: list[bool] = field(default_factory=list)
    barge_in_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    failed: bool = False


class OpenCaller:
    """One caller in a call: speaks by the clock of its samples, and keeps what was said on both sides."""

    def __init__(self, planned: PlannedCall) -> None:
        self._turns = list(planned.turns)
        self._hang_up_at = round(planned.hang_up_s * SAMPLE_RATE)
        self._next = 0
        self._own = SpeechTrack(SENT_DB)
        self._agent = SpeechTrack(HEARD_DB)
        self._saying: Pcm = silence(0)
        self._said: list[tuple[Turn, int]] = []

    def tick(self, leg: Leg, frame: MediaFrame) -> bool:
        """Take 20 ms; return True when it is time to hang up."""
        self._own.push(frame.sent)
        self._agent.push(frame.heard)
        if not self._saying.size:
            self._begin()
        if self._saying.size and leg.queued() < 2 * FRAME_SAMPLES:
            leg.play(self._saying[:FRAME_SAMPLES])
            self._saying = self._saying[FRAME_SAMPLES:]
        return self._own.position >= self._hang_up_at

    def _begin(self) -> None:
        if self._next == len(self._turns):
            return
        turn = self._turns[self._next]
        if turn.kind == "interruption":
            due = self._interruption_due()
            if due is None:
                return
            self._next += 1
            if not due:
                return
        elif self._own.position < turn.at_s * SAMPLE_RATE:
            return
        else:
            self._next += 1
        self._own.cut()
        self._saying = turn.pcm
        self._said.append((turn, self._own.position))

    def _interruption_due(self) -> bool | None:
        """Return whether to interrupt now (True), never (False), or perhaps later (None)."""
        _, began = self._said[-1]
        own = self._own_span(began)
        reply = reply_to(own, self._agent.spans(since=own.start)) if own else None
        following = self._turns[self._next + 1].at_s if self._next + 1 < len(self._turns) else 1e9
        if self._own.position > min(following * SAMPLE_RATE - SAMPLE_RATE, self._hang_up_at):
            return False
        if reply is None:
            return None
        if self._own.position - reply.start < INTERRUPT_AFTER_S * SAMPLE_RATE:
            return None
        return self._agent.silence() < SAMPLE_RATE // 10

    def _own_span(self, began: int, until: int | None = None) -> Span | None:
        spans = [one for one in self._own.spans(since=began) if until is None or one.start < until]
        return Span(spans[0].start, spans[-1].end) if spans else None

    def result(self, *, failed: bool) -> Heard:
        """Return what the call brought."""
        heard = Heard(seconds=self._own.position / SAMPLE_RATE, failed=failed)
        for index, (turn, began) in enumerate(self._said):
            last = index + 1 == len(self._said)
            until = self._own.position if last else self._said[index + 1][1]
            own = self._own_span(began, until)
            if own is not None:
                self._judge(heard, turn, own, until)
        return heard

    def _judge(self, heard: Heard, turn: Turn, own: Span, until: int) -> None:
        spans = [one for one in self._agent.spans(since=own.start) if one.start < until]
        reply = reply_to(own, spans)
        heard.missed.append(reply is None)
        if turn.kind == "interruption":
            interrupted = self._agent.at(own.start)
            if interrupted is not None:
                heard.barge_in_s.append((interrupted.end - own.start) / SAMPLE_RATE)
            return
        cut = any(one.start < own.end for one in spans)
        (heard.cut_ins if turn.kind == "paused" else heard.early).append(cut)
        if turn.kind == "whole" and reply is not None and not cut:
            heard.latencies_s.append((reply.start - own.end + 1) / SAMPLE_RATE)


class OpenCallers:
    """All callers of a block, over any transport that can dial. A `TransportHost`.

    Args:
        transport: what dials; started and closed by its owner.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._calls: dict[str, OpenCaller] = {}
        self._ended: dict[str, asyncio.Event] = {}
        self._up = 0
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def up(self) -> int:
        """Calls that exist now."""
        return len(self._calls)

    async def run(self, planned: Sequence[PlannedCall], targets: Sequence[str]) -> list[Heard]:
        """Place the calls at their times, each to its target, and return what they brought."""
        return list(
            await asyncio.gather(
                *(self._call(one, to) for one, to in zip(planned, targets, strict=True))
            )
        )

    async def _call(self, planned: PlannedCall, target: str) -> Heard:
        await asyncio.sleep(planned.dial_s)
        try:
            leg = await self._transport.dial(DialRequest(target))
        except ProviderError:
            return Heard(failed=True)
        caller = self._calls[leg.info.id] = OpenCaller(planned)
        ended = self._ended.setdefault(leg.info.id, asyncio.Event())
        try:
            await asyncio.wait_for(ended.wait(), planned.hang_up_s + 30)
        except TimeoutError:
            await leg.hang_up()
        finally:
            self._calls.pop(leg.info.id, None)
            self._ended.pop(leg.info.id, None)
        heard = caller.result(failed=False)
        heard.failed = heard.seconds < planned.hang_up_s - 1
        return heard

    def incoming(self, leg: Leg) -> None:
        """Nobody calls the callers."""

    def media(self, frames: Sequence[MediaFrame]) -> None:
        """Give each caller its 20 ms."""
        for frame in frames:
            caller = self._calls.get(frame.leg.info.id)
            if caller is not None and caller.tick(frame.leg, frame):
                self._leave(frame.leg)

    def event(self, leg: Leg, event: LegEvent) -> None:
        """Note the end of a call."""
        if isinstance(event, LegEnded):
            self._ended.setdefault(leg.info.id, asyncio.Event()).set()

    def _leave(self, leg: Leg) -> None:
        task = asyncio.get_running_loop().create_task(leg.hang_up())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
