# SPDX-License-Identifier: Apache-2.0
"""`./run bench-tts`: streamed Piper against whole-sentence Piper, in one run.

Arms, interleaved for each load:

    trunkline   the `piper` plugin: the graph in pieces, the piece that is due first computed first
    plain       `piper.PiperVoice.synthesize`, one sentence at a time, first come first served

Both get the same voice file, one thread and the same clause of twelve words. At a load of N, N answers begin
at the same moment; `first_audio` runs from there to each one's first samples, `all_audio` to its last, and
`longest_gap` is the silence that a caller hears within the answer because a piece came late.
`samples_different` compares the pieces with the whole graph's samples at fixed noise: it must be 0.
The voice has random weights in the shape of a medium Piper voice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]
from numpy.typing import NDArray
from piper import PiperConfig, PiperVoice
from piper.config import SynthesisConfig
from trunkline_piper import PiperSettings, build
from trunkline_piper.graph import WholeGraph, load, session
from trunkline_piper.provider import PiperTextToSpeech

from appliance.plugin import BuildContext, TtsRequest
from tests.benchmarks.piper_model import make_voice
from tests.benchmarks.report import Report

CALLS = (1, 2, 4, 8, 16)
CLAUSE = "I can book you an appointment for Friday at half past two."


def _config(voice: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(voice.with_name(voice.name + ".json").read_text("utf-8"))
    return config


class Arm(Protocol):
    """One way to speak."""

    name: str

    def speak(self) -> AsyncIterator[int]:
        """Say the clause; yield the samples of each piece as it comes."""
        ...

    async def aclose(self) -> None:
        """Free the voice."""


class Trunkline:
    """The plugin. It keeps no phrases: every answer is computed."""

    name = "trunkline"

    def __init__(self, voice: Path, folder: Path) -> None:
        settings = PiperSettings(model=str(voice), cache_mb=0)
        self._voice = build(settings, BuildContext(Path, folder, threads=1))
        if not isinstance(self._voice, PiperTextToSpeech) or not self._voice.streams:
            raise RuntimeError("the voice is not streamed")

    async def speak(self) -> AsyncIterator[int]:
        """Say the clause."""

        async def text() -> AsyncIterator[str]:
            yield CLAUSE

        async for chunk in self._voice.speak(text(), TtsRequest()):
            yield chunk.pcm.size

    async def aclose(self) -> None:
        """Free the voice."""
        await self._voice.aclose()


class Plain:
    """The library's own interface, behind a queue."""

    name = "plain"

    def __init__(self, voice: Path) -> None:
        config = PiperConfig.from_dict(_config(voice))
        self._voice = PiperVoice(session=session(str(voice), 1), config=config)
        self._queue = ThreadPoolExecutor(1)

    async def speak(self) -> AsyncIterator[int]:
        """Say the clause."""
        loop = asyncio.get_running_loop()
        for size in await loop.run_in_executor(self._queue, self._synthesize):
            yield size

    def _synthesize(self) -> list[int]:
        settings = SynthesisConfig(normalize_audio=False)
        chunks = self._voice.synthesize(CLAUSE, settings)
        return [chunk.audio_int16_array.size for chunk in chunks]

    async def aclose(self) -> None:
        """Free the voice."""
        self._queue.shutdown()


@dataclass
class Measured:
    """What one arm did at one load, in ms."""

    first: list[float] = field(default_factory=list)
    all: list[float] = field(default_factory=list)
    behind: list[float] = field(default_factory=list)


async def burst(arm: Arm, calls: int, rate: int, into: Measured) -> None:
    """Begin `calls` answers now."""
    begun = time.perf_counter()

    async def one() -> None:
        heard_until = begun  # when the caller has heard all that came so far
        behind = 0.0
        samples = 0
        async for size in arm.speak():
            now = time.perf_counter()
            if not samples:
                into.first.append((now - begun) * 1000)
                heard_until = now
            behind = max(behind, now - heard_until)
            heard_until = max(heard_until, now) + size / rate
            samples += size
        into.all.append((time.perf_counter() - begun) * 1000)
        into.behind.append(behind * 1000)

    await asyncio.gather(*(one() for _ in range(calls)))


async def measure(report: Report, label: str, voice: Path, options: argparse.Namespace) -> None:
    """Measure both arms with one voice."""
    report.add(f"both/samples_different_{label}", "samples", [different(voice)])
    arms: list[Arm] = [Trunkline(voice, options.folder), Plain(voice)]
    rate = int(_config(voice)["audio"]["sample_rate"])
    try:
        for arm in arms:
            await burst(arm, 1, rate, Measured())
        for calls in options.calls:
            found = {arm.name: Measured() for arm in arms}
            for repeat in range(options.repeat):
                for arm in arms if repeat % 2 else arms[::-1]:
                    await burst(arm, calls, rate, found[arm.name])
            _add(report, label, calls, found)
    finally:
        for arm in arms:
            await arm.aclose()


def _add(report: Report, label: str, calls: int, found: dict[str, Measured]) -> None:
    for arm, measured in found.items():
        report.add(f"{arm}/first_audio_{label}@{calls}", "ms", measured.first)
        report.add(f"{arm}/all_audio_{label}@{calls}", "ms", measured.all)
        report.add(f"{arm}/longest_gap_{label}@{calls}", "ms", measured.behind)
        p50, p95 = np.percentile(measured.first, [50, 95])
        print(f"  {label} {arm}@{calls}: first audio p50 {p50:.0f}, p95 {p95:.0f} ms", flush=True)
    pairs = zip(found["plain"].first, found["trunkline"].first, strict=True)
    report.add(f"both/times_earlier_{label}@{calls}", "x", [a / b for a, b in pairs])


def different(voice: Path) -> int:
    """Return how many samples of a clause differ between pieces and whole, at fixed noise."""
    random = np.random.default_rng(1)
    feed: dict[str, NDArray[np.int64] | NDArray[np.float32]] = {
        "input": random.integers(14, 150, (1, 120)),
        "input_lengths": np.array([120]),
        "scales": np.array([0.0, 1.0, 0.0], np.float32),
    }
    (whole,) = WholeGraph(voice, 1).run(feed, ort.RunOptions())
    graph = load(voice, 1, 22_050, feed)
    pieces = np.concatenate(list(graph.run(feed, ort.RunOptions())))
    scale = 0.7 * 32_767 / np.abs(whole).max()
    one, other = ((audio * scale).astype(np.int16) for audio in (pieces, whole))
    return abs(one.size - other.size) or int(np.count_nonzero(one != other))


async def run(options: argparse.Namespace, report: Report) -> None:
    """Measure."""
    size = "tiny" if options.quick else "medium"
    await measure(report, size, make_voice(options.folder, size), options)


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="./run bench-tts", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--quick", action="store_true", help="see that it works, no more")
    parser.add_argument("--repeat", type=int, default=10, help="bursts of each load (default 10)")
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS, help="loads")
    options = parser.parse_args()
    if options.quick:
        options.calls, options.repeat = (2,), 2
    report = Report("tts")
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        asyncio.run(run(options, report))
    report.show()
    report.write(options.json)


if __name__ == "__main__":
    main()
