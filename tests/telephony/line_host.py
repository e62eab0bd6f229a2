# SPDX-License-Identifier: GPL-3.0-or-later
"""A process with one SIP transport and a simple host, driven by JSON lines: the far end of tests.

PJSIP allows one stack a process, so each end of a test call is a process of its own.

    argv[1]: JSON {"settings": {...}, "mode": "echo" | "tone" | "silent", "answer": "at_once" | "ring" | ...}
    stdin:   {"do": "dial", "target": "sip:..."}, {"do": "hang_up", "leg": ID}, {"do": "status"}, ...
    stdout:  {"event": "answered", "leg": ID, ...}, one JSON object a line
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import structlog
from trunkline_sip import SipSettings
from trunkline_sip.library import load
from trunkline_sip.transport import SipTransport

from appliance.plugin import (
    FRAME_SAMPLES,
    SAMPLE_RATE,
    Answered,
    DialRequest,
    DtmfReceived,
    HoldChanged,
    Leg,
    LegEnded,
    LegEvent,
    MediaFrame,
    Pcm,
    ProviderError,
    Ringing,
    TransferProgress,
)

TONE_HZ = 440


def say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def tone(hz: float, start: int, samples: int = FRAME_SAMPLES) -> Pcm:
    at = (np.arange(samples) + start) * (2 * math.pi * hz / SAMPLE_RATE)
    made: Pcm = (8000 * np.sin(at)).astype(np.int16)
    return made


def share_of(pcm: np.ndarray, hz: float) -> float:
    """Return which part of the energy lies within 30 Hz of `hz`."""
    power = np.abs(np.fft.rfft(pcm * np.hanning(pcm.size))) ** 2
    freqs = np.fft.rfftfreq(pcm.size, 1 / SAMPLE_RATE)
    return float(power[np.abs(freqs - hz) < 30].sum() / max(power.sum(), 1.0))


class Heard:
    """What came in on a leg: counters, and audio while it is recorded."""

    def __init__(self) -> None:
        self.ticks = 0
        self.loud = 0
        self.sent_loud = 0
        self.recording: list[np.ndarray] | None = None
        self.last = np.zeros(0, np.int16)


class Host:
    def __init__(self, mode: str, answer: str) -> None:
        self.mode = mode
        self.answer = answer
        self.transport: SipTransport
        self.legs: dict[str, Leg] = {}
        self.heard: dict[str, Heard] = {}
        self.ticks = 0
        self.tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def incoming(self, leg: Leg) -> None:
        self.legs[leg.info.id] = leg
        info = leg.info
        say(event="incoming", leg=info.id, trunk=info.trunk, remote=info.remote, called=info.called,
            name=info.remote_name, call_id=info.protocol_id, headers=dict(info.headers))  # fmt: skip
        self.spawn(self.take(leg))

    async def take(self, leg: Leg) -> None:
        if self.answer in {"ring", "ring_only"}:
            await leg.ring()
        if self.answer in {"ring", "at_once"}:
            await leg.answer()

    def media(self, frames: Sequence[MediaFrame]) -> None:
        self.ticks += 1
        for frame in frames:
            heard = self.heard.setdefault(frame.leg.info.id, Heard())
            heard.ticks += 1
            heard.loud += int(np.abs(frame.heard).max() > 500)
            heard.sent_loud += int(np.abs(frame.sent).max() > 500)
            if heard.recording is not None:
                heard.recording.append(np.stack([frame.heard, frame.sent]))
            if self.mode == "echo":
                frame.leg.play(frame.heard)
            elif self.mode == "tone":
                frame.leg.play(tone(TONE_HZ, heard.ticks * FRAME_SAMPLES))

    def event(self, leg: Leg, event: LegEvent) -> None:
        say(event=type(event).__name__, leg=leg.info.id, **fields(event))

    async def obey(self, command: dict[str, Any]) -> None:
        what = command.pop("do")
        try:
            result = await getattr(self, "do_" + what)(**command)
        except ProviderError as error:
            say(reply=what, error=type(error).__name__, message=str(error))
            return
        say(reply=what, **(result or {}))

    async def do_dial(self, target: str, **rest: Any) -> dict[str, Any]:
        leg = await self.transport.dial(DialRequest(target, **rest))
        self.legs[leg.info.id] = leg
        return {"leg": leg.info.id, "call_id": leg.info.protocol_id}

    async def do_answer(self, leg: str) -> None:
        await self.legs[leg].answer()

    async def do_reject(self, leg: str, code: int, retry_after_s: int | None = None) -> None:
        await self.legs[leg].reject(code, retry_after_s=retry_after_s)

    async def do_hang_up(self, leg: str) -> None:
        await self.legs[leg].hang_up()

    async def do_hold(self, leg: str, held: bool) -> None:
        await self.legs[leg].hold(held)

    async def do_dtmf(self, leg: str, digits: str) -> None:
        await self.legs[leg].send_dtmf(digits)

    async def do_transfer(self, leg: str, target: str = "", replaces: str | None = None) -> None:
        await self.legs[leg].transfer(target, replaces=self.legs[replaces] if replaces else None)

    async def do_play(self, leg: str, hz: float, ms: int) -> dict[str, Any]:
        self.legs[leg].play(tone(hz, 0, SAMPLE_RATE * ms // 1000))
        return {"queued": self.legs[leg].queued()}

    async def do_drop(self, leg: str) -> dict[str, Any]:
        return {"dropped": self.legs[leg].drop(), "queued": self.legs[leg].queued()}

    async def do_record(self, leg: str) -> None:
        self.heard.setdefault(leg, Heard()).recording = []

    async def do_recorded(self, leg: str) -> dict[str, Any]:
        pieces = self.heard[leg].recording or [np.zeros((2, 0), np.int16)]
        self.heard[leg].recording = None
        both = np.concatenate(pieces, axis=1)
        return {"audio": base64.b64encode(both.tobytes()).decode(), "samples": both.shape[1]}

    async def do_heard(self, leg: str) -> dict[str, Any]:
        heard = self.heard.setdefault(leg, Heard())
        return {"ticks": heard.ticks, "loud": heard.loud, "sent_loud": heard.sent_loud}

    async def do_all_heard(self) -> dict[str, Any]:
        return {"legs": {leg: [h.ticks, h.loud, h.sent_loud] for leg, h in self.heard.items()}}

    async def do_status(self) -> dict[str, Any]:
        status = self.transport.status()
        return {
            "capacity": status.capacity,
            "calls": status.calls,
            "library": status.library,
            "listening": status.listening,
            "trunks": {t.name: [t.registered, t.detail] for t in status.trunks},
            "counters": dict(status.counters),
            "ticks": self.ticks,
        }


def fields(event: LegEvent) -> dict[str, Any]:
    match event:
        case Answered():
            return {"codec": event.codec}
        case Ringing():
            return {"early_media": event.early_media}
        case HoldChanged():
            return {"held": event.held}
        case DtmfReceived():
            return {"digit": event.digit, "duration_ms": event.duration_ms, "method": event.method}
        case TransferProgress():
            return {"status": event.status, "final": event.final}
        case LegEnded():
            return {"cause": str(event.cause), "code": event.code, "reason": event.reason}


async def main() -> None:
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
    )
    options = json.loads(sys.argv[1])
    host = Host(options.get("mode", "echo"), options.get("answer", "at_once"))
    host.transport = SipTransport(SipSettings.model_validate(options["settings"]), load())
    await host.transport.start(host)
    status = host.transport.status()
    say(
        event="started",
        listening=status.listening,
        library=status.library,
        capacity=status.capacity,
    )
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        await host.obey(json.loads(line))
    await host.transport.aclose()
    say(event="closed")


if __name__ == "__main__":
    asyncio.run(main())
