# SPDX-License-Identifier: Apache-2.0
"""A telephone line in memory: ticks come as fast as the loop turns, and the far end is a tone machine
whose every sample is known."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

import numpy as np

from appliance.plugin import (
    FRAME_SAMPLES,
    Answered,
    DialRequest,
    Direction,
    EndCause,
    InvalidRequestError,
    Leg,
    LegEnded,
    LegInfo,
    MediaFrame,
    Pcm,
    TransportCapabilities,
    TransportHost,
    TransportStatus,
)

RATE = 16_000


def tone(samples: int, level: int = 8000) -> Pcm:
    """A square wave: every sample is loud, the first and the last included."""
    signs = np.where(np.arange(samples) // 20 % 2, -1, 1)
    return (level * signs).astype(np.int16)


@dataclass
class ToneAgent:
    """Greets, answers each utterance after exactly `latency` samples, and stops `stop` samples after
    the caller breaks in.

    Attributes:
        farewell: hang up after this many answers.
        deaf: never answer.
    """

    latency: int = 7777
    stop: int = 3333
    greeting: int = RATE
    answer: int = RATE
    farewell: int = 0
    deaf: bool = False
    position: int = 0
    answers: int = 0
    _plan: list[tuple[int, int]] = field(default_factory=list)
    _caller_end: int | None = None
    _caller_start: int | None = None

    def __post_init__(self) -> None:
        if self.greeting:
            self._plan.append((500, 500 + self.greeting))

    def tick(self, heard: Pcm) -> Pcm:
        """Take what the caller sent in a tick; give what the caller hears in the next one."""
        begin = self.position
        self.position += heard.size
        loud = np.flatnonzero(np.abs(heard.astype(int)) > 328)
        if loud.size:
            if self._caller_start is None:
                self._caller_start = begin + int(loud[0])
                cut = self._caller_start + self.stop
                self._plan = [(a, min(b, max(a, cut))) for a, b in self._plan]
            self._caller_end = begin + int(loud[-1])
        elif self._caller_end is not None and self.position - self._caller_end > 3200:
            if not self.deaf:
                start = self._caller_end + self.latency
                self._plan.append((start, start + self.answer))
                self.answers += 1
            self._caller_start = self._caller_end = None
        at = np.arange(self.position, self.position + heard.size)
        out = np.zeros(heard.size, np.int16)
        for start, end in self._plan:
            speaking = (at >= start) & (at < end)
            out[speaking] = tone(heard.size)[speaking]
        return out

    def done(self) -> bool:
        """Whether it has said goodbye and hangs up."""
        return (
            bool(self.farewell)
            and self.answers >= self.farewell
            and self.position > self._plan[-1][1]
        )


class LabLeg:
    """An outbound leg to a `ToneAgent`."""

    def __init__(self, number: int, target: str, agent: ToneAgent) -> None:
        self.info = LegInfo(str(number), "lab", "", Direction.OUTBOUND, target, target)
        self.agent = agent
        self.heard = np.zeros(FRAME_SAMPLES, np.int16)
        self.queue = np.zeros(0, np.int16)
        self.digits = ""
        self.up = True
        self.hung_up = False

    def play(self, pcm: Pcm) -> None:
        self.queue = np.concatenate([self.queue, pcm])

    def queued(self) -> int:
        return int(self.queue.size)

    def drop(self) -> int:
        size, self.queue = self.queue.size, self.queue[:0]
        return int(size)

    def take(self) -> Pcm:
        out = np.zeros(FRAME_SAMPLES, np.int16)
        piece, self.queue = self.queue[:FRAME_SAMPLES], self.queue[FRAME_SAMPLES:]
        out[: piece.size] = piece
        return out

    async def hang_up(self) -> None:
        self.hung_up = True

    async def send_dtmf(self, digits: str, *, duration_ms: int = 160) -> None:
        del duration_ms
        self.digits += digits

    async def ring(self) -> None:
        raise NotImplementedError

    async def answer(self) -> None:
        raise NotImplementedError

    async def reject(
        self, code: int, *, reason: str = "", retry_after_s: int | None = None
    ) -> None:
        del code, reason, retry_after_s
        self.hung_up = True

    async def hold(self, held: bool) -> None:
        raise NotImplementedError

    async def transfer(self, target: str, *, replaces: Leg | None = None) -> None:
        raise NotImplementedError


class LabTransport:
    """Dials tone agents: `sip:busy` is busy, `sip:nobody` rings for ever, `bad` cannot be dialled."""

    capabilities = TransportCapabilities()

    def __init__(self, **agent: int | bool) -> None:
        self.agent = agent
        self.legs: list[LabLeg] = []
        self._host: TransportHost | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: TransportHost) -> None:
        self._host = host
        self._task = asyncio.create_task(self._run())

    async def dial(self, request: DialRequest) -> LabLeg:
        assert self._host is not None
        if request.target == "bad":
            raise InvalidRequestError("this is no address")
        leg = LabLeg(len(self.legs), request.target, ToneAgent(**self.agent))  # type: ignore[arg-type]
        self.legs.append(leg)
        if request.target == "sip:busy":
            self._end(leg, LegEnded(EndCause.BUSY, 486, "Busy Here"))
        elif request.target == "sip:nobody":
            leg.agent.position = -1
        else:
            self._host.event(leg, Answered("PCMU"))
        return leg

    def status(self) -> TransportStatus:
        return TransportStatus(4, len(self.legs), "lab")

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(0)
            self._tick()

    def _tick(self) -> None:
        assert self._host is not None
        frames = []
        for leg in (leg for leg in self.legs if leg.up):
            if leg.hung_up:
                self._end(leg, LegEnded(EndCause.LOCAL_HANGUP))
            elif leg.agent.done():
                self._end(leg, LegEnded(EndCause.REMOTE_HANGUP, 200))
            elif leg.agent.position >= 0:
                sent = leg.take()
                frames.append(MediaFrame(leg, leg.heard, sent))
                leg.heard = leg.agent.tick(sent)
        self._host.media(frames)

    def _end(self, leg: LabLeg, event: LegEnded) -> None:
        leg.up = False
        assert self._host is not None
        self._host.event(leg, event)
