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
import time
from pathlib import Path
from typing import Any

import numpy as np
from trunkline_sip.vectors import Mover, PointerMover, SlowMover, mover

from tests.benchmarks.plane import plane_loads
from tests.benchmarks.report import Report

CALLS = (1, 2, 4, 8, 16)
FRAME_BYTES = 640
"""20 ms at 16 kHz, two bytes a sample."""


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
    for load in plane_loads(options.calls, options.window, (28, 35)):
        report.add(f"trunkline/media_cpu_per_call@{load.calls}", "% of a core", load.shares)
        report.add(f"trunkline/media_frames_lost@{load.calls}", "frames", [load.lost])
        print(f"  {load.calls} calls: {np.median(load.shares):.2f} % of a core a call", flush=True)
    report.show()
    report.write(options.json)


if __name__ == "__main__":
    main()
