# SPDX-License-Identifier: Apache-2.0
"""`./run bench-vad`: one batch for all calls against one session a call, in one run.

Arms, interleaved tick by tick:

    trunkline   the `silero` plugin: one session, one run a tick for all calls
    plain       a session for each call, on the file as published, one run a tick for each

Both get the same audio and one thread. A tick is 32 ms of every call. `score_difference` is the largest
difference between the two arms' scores; `memory_per_call` is what the process grew by for each call.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]
from numpy.typing import NDArray
from trunkline_silero.detector import CONTEXT, WINDOW, SileroDetector, bundled_model

from appliance.plugin import Pcm
from tests.benchmarks.report import Report

CALLS = (1, 2, 4, 8, 16)


class Arm(Protocol):
    """One way to score."""

    name: str

    def score(self, windows: Pcm) -> NDArray[np.float32]:
        """Score a tick; shape (calls, 512) to (calls,)."""
        ...


class Trunkline:
    """The plugin."""

    name = "trunkline"

    def __init__(self, calls: int) -> None:
        self._detector = SileroDetector(bundled_model())
        self._states = [self._detector.open() for _ in range(calls)]

    def score(self, windows: Pcm) -> NDArray[np.float32]:
        """Score a tick."""
        return self._detector.score(self._states, windows)


class Plain:
    """A session, a context and a state for each call."""

    name = "plain"

    def __init__(self, calls: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model = str(bundled_model())
        self._calls: list[dict[str, Any]] = [
            {
                "session": ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]),
                "context": np.zeros(CONTEXT, np.float32),
                "h": np.zeros((1, 1, 128), np.float32),
                "c": np.zeros((1, 1, 128), np.float32),
            }
            for _ in range(calls)
        ]

    def score(self, windows: Pcm) -> NDArray[np.float32]:
        """Score a tick."""
        scores = np.empty(len(self._calls), np.float32)
        for at, (call, window) in enumerate(zip(self._calls, windows, strict=True)):
            samples = window.astype(np.float32) / 32768
            feed = {
                "input": np.concatenate([call["context"], samples])[None],
                "h": call["h"],
                "c": call["c"],
            }
            found, call["h"], call["c"] = call["session"].run(None, feed)
            call["context"] = samples[-CONTEXT:]
            scores[at] = np.ravel(found)[0]
        return scores


def resident_kib() -> int:
    """Return the memory of this process."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4


def audio(ticks: int, calls: int) -> Pcm:
    """Bursts of harmonics and noise, other ones in each call; shape (ticks, calls, 512)."""
    random = np.random.default_rng(calls)
    seconds = np.arange(ticks * WINDOW) / 16_000
    rows = []
    for _ in range(calls):
        pitch = random.uniform(90, 240)
        voiced = sum(np.sin(2 * np.pi * pitch * k * seconds + k) / k for k in range(1, 12))
        gate = np.repeat(random.integers(0, 2, ticks), WINDOW)
        rows.append(
            (voiced * gate * 3000 + random.standard_normal(len(seconds)) * 40).astype(np.int16)
        )
    return np.stack(rows).reshape(calls, ticks, WINDOW).swapaxes(0, 1)


def measure(report: Report, calls: int, ticks: int) -> None:
    """Measure both arms at one load."""
    arms: list[Arm] = []
    for kind in (Trunkline, Plain):
        kind(1)  # what the first session of a process costs is not a call's
        before = resident_kib()
        arms.append(kind(calls))
        report.add(
            f"{kind.name}/memory_per_call@{calls}", "KiB", [(resident_kib() - before) / calls]
        )
    spent: dict[str, list[float]] = {arm.name: [] for arm in arms}
    worst = 0.0
    for tick, windows in enumerate(audio(ticks, calls)):
        scores = {}
        for arm in arms if tick % 2 else arms[::-1]:
            begun = time.perf_counter()
            scores[arm.name] = arm.score(windows)
            spent[arm.name].append((time.perf_counter() - begun) * 1000)
        worst = max(worst, float(np.abs(scores["trunkline"] - scores["plain"]).max()))
    for name, taken in spent.items():
        report.add(f"{name}/tick@{calls}", "ms", taken)
    times = np.array(spent["plain"]) / np.array(spent["trunkline"])
    report.add(f"both/times_faster@{calls}", "x", times.tolist())
    report.add(f"both/score_difference@{calls}", "probability", [worst])
    medians = ", ".join(f"{name} {np.median(taken):.2f} ms" for name, taken in spent.items())
    print(f"  {calls} calls: {medians}", flush=True)


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="./run bench-vad", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--quick", action="store_true", help="see that it works, no more")
    parser.add_argument("--ticks", type=int, default=2000, help="of each load (default 2000)")
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS, help="loads")
    options = parser.parse_args()
    if options.quick:
        options.calls, options.ticks = (2, 8), 60
    report = Report("vad")
    for calls in options.calls:
        measure(report, calls, options.ticks)
    report.show()
    report.write(options.json)


if __name__ == "__main__":
    main()
