# SPDX-License-Identifier: Apache-2.0
"""`./run bench-asr`: the recognizer against the plain way of using the same library, in one run.

Arms, interleaved for each load:

    trunkline   the `faster_whisper` plugin: windows as long as the speech, one queue for all calls
    plain       `faster_whisper.WhisperModel.transcribe`, one request at a time, first come first served, with
                its cheapest settings (greedy, no timestamps, language given); it pads every window to 30 s

Both get the same model file, the same 3 s utterances and one thread. At a load of N, N callers fall silent at
the same moment; latency runs from there to each one's words. Models: the starter model, on speech that
eSpeak speaks, where the words of both arms are compared; and random weights in the shape of Whisper base
int8, which say the same thirteen tokens about any sound.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soxr
from faster_whisper import WhisperModel  # type: ignore[import-untyped]
from trunkline_faster_whisper import build
from trunkline_faster_whisper.settings import FasterWhisperSettings

from appliance.plugin import (
    SAMPLE_RATE,
    BuildContext,
    Flush,
    Pcm,
    SttRequest,
    TextToSpeech,
    TtsRequest,
)
from tests.benchmarks.report import Report
from tests.benchmarks.whisper_model import TEXT, make_model
from tests.lab.process import espeak

STARTER = Path(__file__).parents[2] / "plugins/starter_models/trunkline_starter_models/models/asr"
SECONDS = 3.0
CALLS = (1, 2, 4, 8, 16)
SENTENCES = (
    "When are you open on Saturday?",
    "How much is a cleaning?",
    "Can I pay by card?",
    "I'd like to book an appointment.",
    "Do you have free parking?",
    "Are you open on Sunday?",
    "What are your opening hours?",
    "Thank you, that is all.",
)


class Arm(Protocol):
    """One way to recognize."""

    name: str

    async def words(self, call: int, pcm: Pcm) -> str:
        """Return what `pcm` says."""
        ...

    async def aclose(self) -> None:
        """Free the model."""


class Trunkline:
    """The plugin."""

    name = "trunkline"

    def __init__(self, model: Path, folder: Path, batch: int) -> None:
        settings = FasterWhisperSettings(model=str(model), interim_every_s=0, batch_size=batch)
        self._recognizer = build(settings, BuildContext(Path, folder, threads=1))

    async def words(self, call: int, pcm: Pcm) -> str:
        """Return the final of one stream."""

        async def audio() -> AsyncIterator[Pcm | Flush]:
            yield pcm
            yield Flush()

        request = SttRequest(f"{call}", language="en")
        finals = [one async for one in self._recognizer.transcribe(audio(), request)]
        return finals[-1].text

    async def aclose(self) -> None:
        """Free the model."""
        await self._recognizer.aclose()


class Plain:
    """The library's own interface, behind a queue."""

    name = "plain"

    def __init__(self, model: Path) -> None:
        self._model = WhisperModel(str(model), device="cpu", cpu_threads=1, num_workers=1)
        self._queue = ThreadPoolExecutor(1)

    async def words(self, call: int, pcm: Pcm) -> str:
        """Return the text of all segments; `call` is of no use to it."""
        return await asyncio.get_running_loop().run_in_executor(self._queue, self._transcribe, pcm)

    def _transcribe(self, pcm: Pcm) -> str:
        segments, _ = self._model.transcribe(
            pcm.astype(np.float32) / 32768,
            language="en",
            beam_size=1,
            temperature=0.0,
            without_timestamps=True,
            condition_on_previous_text=False,
        )
        return " ".join(segment.text.strip() for segment in segments)

    async def aclose(self) -> None:
        """Free the model."""
        self._queue.shutdown()
        self._model.model.unload_model()


@dataclass
class Measured:
    """What one arm did at one load."""

    latency_ms: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)
    words: list[list[str]] = field(default_factory=list)


async def burst(arm: Arm, utterances: Sequence[Pcm], into: Measured) -> None:
    """Let all callers fall silent now."""
    begun = time.perf_counter()

    async def one(call: int, pcm: Pcm) -> str:
        text = await arm.words(call, pcm)
        into.latency_ms.append((time.perf_counter() - begun) * 1000)
        return text

    texts = await asyncio.gather(*(one(call, pcm) for call, pcm in enumerate(utterances)))
    into.per_s.append(len(utterances) / (time.perf_counter() - begun))
    into.words += [re.findall(r"[a-z0-9']+", text.lower()) for text in texts]


async def measure(
    report: Report, label: str, model: Path, spoken: Sequence[Pcm], options: argparse.Namespace
) -> None:
    """Measure both arms with one model.

    Raises:
        RuntimeError: an arm did not say what the random model says: it did not do the work.
    """
    arms: list[Arm] = [Trunkline(model, options.folder, options.batch), Plain(model)]
    try:
        for arm in arms:
            await arm.words(0, spoken[0])
        for calls in options.calls:
            found = {arm.name: Measured() for arm in arms}
            for repeat in range(options.repeat):
                utterances = [spoken[(repeat + call) % len(spoken)] for call in range(calls)]
                for arm in arms if repeat % 2 else arms[::-1]:
                    await burst(arm, utterances, found[arm.name])
            _add(report, label, calls, found)
            if label != "starter" and any(
                words != TEXT.lower().split() for one in found.values() for words in one.words
            ):
                raise RuntimeError("an arm did not say what the model says")
    finally:
        for arm in arms:
            await arm.aclose()


def _add(report: Report, label: str, calls: int, found: dict[str, Measured]) -> None:
    for arm, measured in found.items():
        report.add(f"{arm}/latency_{label}@{calls}", "ms", measured.latency_ms)
        report.add(f"{arm}/utterances_per_s_{label}@{calls}", "1/s", measured.per_s)
        print(
            f"  {label} {arm}@{calls}: p95 {np.percentile(measured.latency_ms, 95):.0f} ms, "
            f"{np.median(measured.per_s):.2f} utterances/s",
            flush=True,
        )
    ours, theirs = found["trunkline"], found["plain"]
    times = [a / b for a, b in zip(ours.per_s, theirs.per_s, strict=True)]
    report.add(f"both/times_faster_{label}@{calls}", "x", times)
    same = [float(a == b) for a, b in zip(ours.words, theirs.words, strict=True)]
    report.add(f"both/same_words_{label}@{calls}", "share", same)


async def speech(voice: TextToSpeech) -> list[Pcm]:
    """Return each sentence as `SECONDS` of audio at 16 kHz: silence before it, none after."""
    found = []
    for sentence in SENTENCES:

        async def text(said: str = sentence) -> AsyncIterator[str]:
            yield said

        chunks: list[Any] = [chunk.pcm async for chunk in voice.speak(text(), TtsRequest())]
        audio = soxr.resample(np.concatenate(chunks), voice.capabilities.sample_rate, SAMPLE_RATE)
        samples = round(SECONDS * SAMPLE_RATE)
        padded = np.concatenate([np.zeros(samples, np.int16), audio.astype(np.int16)])
        found.append(padded[-samples:])
    return found


async def run(options: argparse.Namespace, report: Report) -> None:
    """Measure with both models."""
    voice = espeak()
    try:
        spoken = await speech(voice)
    finally:
        await voice.aclose()
    await measure(report, "starter", STARTER, spoken, options)
    size = "tiny" if options.quick else "base"
    await measure(report, size, make_model(options.folder / size, size), spoken, options)


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="./run bench-asr", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--quick", action="store_true", help="see that it works, no more")
    parser.add_argument("--repeat", type=int, default=6, help="bursts of each load (default 6)")
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS, help="loads")
    parser.add_argument("--batch", type=int, default=0, help="utterances computed together")
    options = parser.parse_args()
    if options.quick:
        options.calls, options.repeat = (2,), 1
    report = Report("asr")
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        asyncio.run(run(options, report))
    report.show()
    report.write(options.json)


if __name__ == "__main__":
    main()
