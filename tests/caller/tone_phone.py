# SPDX-License-Identifier: Apache-2.0
"""A SIP telephone that answers every call with a `ToneAgent`. Run as a process of its own: it prints
its port, and ends when its standard input does.

Usage: python -m tests.caller.tone_phone LATENCY STOP ANSWER FAREWELL   (samples at 16 kHz; a count)
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from trunkline_sip import SipSettings, build

from appliance.plugin import Answered, BuildContext, Leg, LegEnded, LegEvent, MediaFrame
from tests.caller.lab import ToneAgent


class TonePhone:
    """The host of the transport: one tone agent a leg, fed with what its own ear hears."""

    def __init__(self, latency: int, stop: int, answer: int, farewell: int) -> None:
        self.latency, self.stop = latency, stop
        self.answer, self.farewell = answer, farewell
        self.agents: dict[str, ToneAgent] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def incoming(self, leg: Leg) -> None:
        self._spawn(leg.answer())

    def event(self, leg: Leg, event: LegEvent) -> None:
        if isinstance(event, Answered):
            self.agents[leg.info.id] = ToneAgent(
                self.latency, self.stop, answer=self.answer, farewell=self.farewell
            )
        elif isinstance(event, LegEnded):
            self.agents.pop(leg.info.id, None)

    def media(self, frames: Sequence[MediaFrame]) -> None:
        for frame in frames:
            agent = self.agents.get(frame.leg.info.id)
            if agent is not None:
                frame.leg.play(agent.tick(frame.heard))
                if agent.done():
                    del self.agents[frame.leg.info.id]
                    self._spawn(frame.leg.hang_up())

    def _spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


async def main() -> None:
    latency, stop, answer, farewell = map(int, sys.argv[1:5])
    settings = SipSettings(bind="127.0.0.1", udp_port=0, tcp_port=None)
    line = build(settings, BuildContext(model_path=Path, data_dir=Path()))
    phone = TonePhone(latency, stop, answer, farewell)
    await line.start(phone)
    (address,) = (a for a in line.status().listening if a.startswith("udp"))
    sys.stdout.write(address.rpartition(":")[2] + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await line.aclose()


if __name__ == "__main__":
    asyncio.run(main())
