# SPDX-License-Identifier: Apache-2.0
"""The media plane under load: a box with stub engines, and SIPp callers that play speech both ways."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appliance.audio.resample import resample
from appliance.caller import Script, TurnSpec, prepare
from appliance.plugin import Pcm
from tests.lab import sipp
from tests.lab.process import StubBox, espeak

SAID = (
    "Are you open on Saturday?",
    "How much is a cleaning?",
    "Where are you?",
    "What are your opening hours?",
)
SIP = {
    "bind": "127.0.0.1",
    "udp_port": 0,
    "tcp_port": None,
    "codecs": ["PCMU"],
    "rtp_port_start": 30_000,
    "rtp_port_end": 30_999,
}


@dataclass(frozen=True, slots=True)
class PlaneLoad:
    """What a box spent on `calls` calls.

    Attributes:
        shares: percent of a core and call, in each tenth of the window.
        lost: frames.
        grown_mib: memory a call, over a box that has held one.
    """

    calls: int
    shares: list[float]
    lost: float
    grown_mib: float


def plane_loads(
    loads: Sequence[int], window_s: float, windows_per_s: tuple[float, float]
) -> Iterator[PlaneLoad]:
    """Measure a fresh box under each load that its SIP library holds; what is left out is said.

    Args:
        loads: calls at once.
        window_s: seconds that are measured.
        windows_per_s: voice activity windows a second and call between which the box did its work.

    Raises:
        RuntimeError: calls failed, or the box did not do its work.
    """
    if not sipp.available():
        print("  SIPp is not installed: the media plane is not measured (package sip-tester)")
        return
    with tempfile.TemporaryDirectory() as name:
        audio = Path(name) / "speech.ul"
        sipp.write_audio(audio, asyncio.run(_speech()))
        for calls in loads:
            with StubBox(SIP) as box:
                if box.ready["capacity"] < calls:
                    library, room = box.ready["library"], box.ready["capacity"]
                    print(f"  {library} holds {room} calls: {calls} left out")
                    continue
                yield _measured(box, audio, calls, window_s, windows_per_s)


def _measured(
    box: StubBox, audio: Path, calls: int, window_s: float, windows_per_s: tuple[float, float]
) -> PlaneLoad:
    port = int(box.ready["listening"][0].rsplit(":", 1)[1])
    sipp.start(audio.parent, port, audio, calls=1, hold_s=2).wait()
    before = box.stats()
    peers = sipp.start(audio.parent, port, audio, calls=calls, hold_s=window_s + 8 + calls / 10)
    time.sleep(4 + calls / 10)
    started, spent = box.stats(), box.cpu_s()
    shares = []
    for _ in range(10):
        time.sleep(window_s / 10)
        now = box.cpu_s()
        shares.append((now - spent) / (window_s / 10) / calls * 100)
        spent = now
    during = box.stats()
    windows = (during["windows"] - started["windows"]) / calls / window_s
    lost = during["counters"].get("frames_lost", 0) - started["counters"].get("frames_lost", 0)
    failed = peers.wait()
    fewest, most = windows_per_s
    if during["calls"] != calls or failed or not fewest < windows < most:
        problem = f"{during['calls']} of {calls} calls, SIPp exit {failed}, {windows:.1f} windows/s"
        raise RuntimeError(f"the media plane did not do its work: {problem}")
    grown = (during["rss_kib"] - before["rss_kib"]) / 1024 / calls
    return PlaneLoad(calls, shares, lost, grown)


async def _speech() -> Pcm:
    """Return about ten seconds of speech with pauses, at 8 kHz."""
    voice = espeak()
    try:
        spoken = await prepare(Script(turns=tuple(TurnSpec(say=text) for text in SAID)), voice)
    finally:
        await voice.aclose()
    pause = np.zeros(16_000, np.int16)
    parts = [part for turn in spoken for part in (turn.pcm, pause)]
    return resample(np.concatenate(parts), 16_000, 8_000)
