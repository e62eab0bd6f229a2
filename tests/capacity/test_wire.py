# SPDX-License-Identifier: Apache-2.0
"""The line that all arms of the comparison are fed by: frames arrive whole, in order, and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from appliance.audio.types import Pcm
from appliance.plugin import (
    FRAME_SAMPLES,
    DialRequest,
    Leg,
    LegEnded,
    LegEvent,
    MediaFrame,
    UnavailableError,
)
from tests.benchmarks.peers.transport import WireSettings, WireTransport
from tests.benchmarks.peers.wire import FRAME_BYTES, FRAME_S, Line, Playout, dial, serve
from tests.lab.waiting import until

SOUND: Pcm = np.arange(1, 10 * FRAME_SAMPLES + 1, dtype=np.int16)


class Phone:
    """A host that answers and keeps what it heard and sent."""

    def __init__(self) -> None:
        self.heard: list[Pcm] = []
        self.sent: list[Pcm] = []
        self.legs: list[Leg] = []
        self.events: list[LegEvent] = []
        self._answering: set[asyncio.Task[None]] = set()

    def incoming(self, leg: Leg) -> None:
        self.legs.append(leg)
        self._answering.add(asyncio.ensure_future(leg.answer()))

    def media(self, frames: Sequence[MediaFrame]) -> None:
        for frame in frames:
            self.heard.append(frame.heard.copy())
            self.sent.append(frame.sent.copy())

    def event(self, leg: Leg, event: LegEvent) -> None:
        self.events.append(event)

    def sound(self, of: str) -> Pcm:
        frames: list[Pcm] = getattr(self, of)
        joined = np.concatenate(frames) if frames else np.zeros(0, np.int16)
        audible: Pcm = joined[joined != 0]
        return audible


async def test_audio_crosses_the_wire_unchanged_both_ways(tmp_path: Path) -> None:
    path = str(tmp_path / "box.sock")
    box, caller = WireTransport(WireSettings(path=path)), WireTransport(WireSettings())
    agent, person = Phone(), Phone()
    await box.start(agent)
    await caller.start(person)
    leg = await caller.dial(DialRequest(path))
    try:
        await until(lambda: bool(agent.heard) and bool(person.heard), 10)
        leg.play(SOUND)
        agent.legs[0].play(SOUND[: FRAME_SAMPLES + 7])
        await until(lambda: agent.sound("heard").size == SOUND.size, 10)
        await until(lambda: person.sound("heard").size == FRAME_SAMPLES + 7, 10)
        assert np.array_equal(agent.sound("heard"), SOUND)
        assert np.array_equal(person.sound("sent"), SOUND)
        assert np.array_equal(person.sound("heard"), SOUND[: FRAME_SAMPLES + 7])
        assert leg.queued() == 0
    finally:
        await caller.aclose()
        await until(lambda: any(isinstance(event, LegEnded) for event in agent.events), 10)
        await box.aclose()


async def test_what_is_dropped_is_not_sent(tmp_path: Path) -> None:
    path = str(tmp_path / "box.sock")
    box, caller = WireTransport(WireSettings(path=path)), WireTransport(WireSettings())
    agent, person = Phone(), Phone()
    await box.start(agent)
    await caller.start(person)
    leg = await caller.dial(DialRequest(path))
    leg.play(SOUND)
    assert leg.drop() == SOUND.size
    await until(lambda: len(agent.heard) > 3, 10)
    assert agent.sound("heard").size == 0
    await caller.aclose()
    await box.aclose()


async def test_dialling_where_nobody_listens_fails(tmp_path: Path) -> None:
    caller = WireTransport(WireSettings())
    await caller.start(Phone())
    with pytest.raises(UnavailableError, match="nobody answers"):
        await caller.dial(DialRequest(str(tmp_path / "none.sock")))
    await caller.aclose()


async def test_an_agents_playout_keeps_the_pace_of_speech(tmp_path: Path) -> None:
    done = asyncio.Event()

    async def call(line: Line) -> None:
        playout = Playout(line)
        clock = asyncio.get_running_loop().time
        began = clock()
        for _ in range(20):
            await playout.frame(bytes(FRAME_BYTES))
        assert clock() - began >= 18 * FRAME_S
        done.set()

    server = await serve(str(tmp_path / "agent.sock"), call)
    line = await dial(str(tmp_path / "agent.sock"))
    async with asyncio.timeout(10):
        frames = 0
        while await line.receive() is not None:
            frames += 1
        await done.wait()
    assert frames == 20
    await line.aclose()
    server.close()
