# SPDX-License-Identifier: Apache-2.0
"""`./run bench-media`: what the media plane costs, and the plain way of passing frames beside ours.

    trunkline/media_cpu_per_call@N    a box with stub engines and N SIPp callers that talk: G.711 in and out,
    trunkline/media_frames_lost@N     resampling, voice detection
    trunkline/frame@N, plain/frame@N  a tick of N calls, frames in and out through PJSUA2's vectors: by their
                                      pointer, and by `bytes(frame.buf)`

The two ways of passing frames are interleaved tick by tick.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from trunkline_sip.vectors import Mover, PointerMover, SlowMover, mover

from appliance.audio.resample import resample
from appliance.caller import Script, TurnSpec, prepare
from appliance.plugin import Pcm
from tests.benchmarks.report import Report
from tests.lab import sipp
from tests.lab.process import StubBox, espeak

CALLS = (1, 2, 4, 8, 16)
FRAME_BYTES = 640
"""20 ms at 16 kHz, two bytes a sample."""

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


def frames(report: Report, calls: int, ticks: int) -> None:
    """Pass frames of `calls` calls in and out, both ways."""
    import pjsua2  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: PLC0415

    if not mover(pjsua2).fast:
        print("  this build of pjsua2 has the slow way alone: frames are not compared")
        return
    arms: dict[str, Mover] = {"trunkline": PointerMover(pjsua2), "plain": SlowMover(pjsua2)}
    received = [pjsua2.MediaFrame() for _ in range(calls)]
    for frame in received:
        frame.buf = pjsua2.ByteVector(bytes(range(256)) * 2 + bytes(FRAME_BYTES - 512))
    sent = [pjsua2.MediaFrame() for _ in range(calls)]
    into = np.zeros(FRAME_BYTES, np.uint8)
    out = {name: [arm.out(FRAME_BYTES) for _ in range(calls)] for name, arm in arms.items()}
    spent: dict[str, list[float]] = {name: [] for name in arms}
    for tick in range(ticks):
        for name in sorted(arms, reverse=bool(tick % 2)):
            spent[name].append(_tick(arms[name], received, sent, out[name], into))
    for name, taken in spent.items():
        report.add(f"{name}/frame@{calls}", "us", taken)
    medians = ", ".join(f"{name} {np.median(taken):.0f} us" for name, taken in spent.items())
    print(f"  frames of {calls} calls, a tick: {medians}", flush=True)


def _tick(
    arm: Mover, received: list[Any], sent: list[Any], out: list[tuple[Any, int]], into: Any
) -> float:
    """Return microseconds."""
    begun = time.perf_counter()
    for got, given, (vector, address) in zip(received, sent, out, strict=True):
        arm.read(got, int(into.ctypes.data), FRAME_BYTES)
        arm.write(given, vector, address, FRAME_BYTES)
    return (time.perf_counter() - begun) * 1e6


def plane(report: Report, box: StubBox, audio: Path, calls: int, window_s: float) -> None:
    """Measure a box under `calls` calls of speech in both directions.

    Raises:
        RuntimeError: calls failed, or the box did not do its work.
    """
    port = int(box.ready["listening"][0].rsplit(":", 1)[1])
    sipp.start(audio.parent, port, audio, calls=1, hold_s=2).wait()
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
    if during["calls"] != calls or failed or not 28 < windows < 35:
        problem = f"{during['calls']} of {calls} calls, SIPp exit {failed}, {windows:.1f} windows/s"
        raise RuntimeError(f"the media plane did not do its work: {problem}")
    report.add(f"trunkline/media_cpu_per_call@{calls}", "% of a core", shares)
    report.add(f"trunkline/media_frames_lost@{calls}", "frames", [lost])
    print(f"  {calls} calls: {np.median(shares):.2f} % of a core a call", flush=True)


async def speech() -> Pcm:
    """Return some seconds of speech with pauses, at 8 kHz."""
    voice = espeak()
    try:
        spoken = await prepare(Script(turns=tuple(TurnSpec(say=text) for text in SAID)), voice)
    finally:
        await voice.aclose()
    pause = np.zeros(16_000, np.int16)
    parts = [part for turn in spoken for part in (turn.pcm, pause)]
    return resample(np.concatenate(parts), 16_000, 8_000)


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="./run bench-media", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--quick", action="store_true", help="see that it works, no more")
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS, help="loads")
    parser.add_argument("--window", type=float, default=20.0, help="seconds of each load")
    options = parser.parse_args()
    ticks = 1000
    if options.quick:
        options.calls, options.window, ticks = (2,), 3.0, 50
    report = Report("media")
    for calls in options.calls:
        frames(report, calls, ticks)
    if not sipp.available():
        print("  SIPp is not installed: the media plane is not measured (package sip-tester)")
    else:
        with tempfile.TemporaryDirectory() as name:
            audio = Path(name) / "speech.ul"
            sipp.write_audio(audio, asyncio.run(speech()))
            for calls in options.calls:
                with StubBox(SIP) as box:
                    if box.ready["capacity"] < calls:
                        library, room = box.ready["library"], box.ready["capacity"]
                        print(f"  {library} holds {room} calls: {calls} left out")
                        continue
                    plane(report, box, audio, calls, options.window)
    report.show()
    report.write(options.json)


if __name__ == "__main__":
    main()
