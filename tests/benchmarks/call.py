# SPDX-License-Identifier: Apache-2.0
"""`./run bench-call`: latency on the wire, barge-in, cut-ins, and the cost of the media plane.

- Answer latency and barge-in of one call: the demonstration's box (starter models) and a caller in another
  process, who waits for each answer.
- Answer latency and cut-ins under load: 1, 2, 4 and 8 callers at once who speak when their time has
  come (open loop). Their paused turns hold 0.2 to 0.6 s of silence in mid-sentence. The cut-ins are
  counted at the example agent's own end-of-turn setting and again at 550 ms.
- Media plane: a box with stub engines, and SIPp callers that play speech.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from appliance.caller import TurnSpec
from appliance.caller.build import line_settings
from appliance.caller.open_loop import Heard, OpenCallers
from appliance.caller.plan import Voices, plan
from appliance.plugin import BuildContext, Kind, Transport
from appliance.plugin.manager import PluginManager
from tests.benchmarks.plane import plane_loads
from tests.benchmarks.report import Report
from tests.lab.process import DEMO_CONFIG, BoxProcess, espeak, place_call

QUESTIONS = (
    "Are you open on Saturday?",
    "How much is a cleaning?",
    "Where are you?",
    "What are your opening hours?",
    "Can I pay by card?",
    "Is there parking?",
    "How much is a check-up?",
    "Are you open on Sunday?",
)
MEDIA_CALLS = (1, 10, 40)
WINDOW_S = 20.0
LOADS = (1, 2, 4, 8)
PATIENT_MS = 550
"""The setting for callers who pause, to compare the cut-ins with."""


def answer_latency(report: Report, turns: int) -> None:
    """Ask questions, one call after another, and interrupt in between."""
    latencies: list[float] = []
    stops: list[float] = []
    missed = early = 0
    with tempfile.TemporaryDirectory() as folder, BoxProcess(Path(folder)) as box:
        random.seed(7)
        while len(latencies) < turns or len(stops) < turns // 3:
            result = place_call(box.target, _conversation(), Path(folder))
            for turn in result["turns"]:
                missed += turn["reply_missing"]
                early += turn["early"]
                if turn["barge_in_stop_s"] is not None:
                    stops.append(turn["barge_in_stop_s"] * 1000)
                if turn["answer_latency_s"] is not None:
                    latencies.append(turn["answer_latency_s"] * 1000)
            print(f"  {len(latencies)} answers, {len(stops)} interruptions", flush=True)
    report.add("answer_latency", "ms", latencies)
    report.add("barge_in_stop", "ms", stops)
    report.add("turns_without_answer", "count", [missed])
    report.add("answers_before_the_end_of_speech", "count", [early])


def _conversation() -> list[TurnSpec]:
    """Eight questions in random order; two of them are asked into the agent's answer."""
    asked = random.sample(QUESTIONS, len(QUESTIONS))
    turns = [TurnSpec.model_validate({"say": text}) for text in asked]
    into = {"say": "What are your opening hours?"}
    after = {"say": "Sorry, how much is a filling?", "interrupt_after_s": 1.2}
    return [*turns, *[TurnSpec.model_validate(turn) for turn in (into, after, into, after)]]


def loads(report: Report, turns: int, calls_at_once: Sequence[int]) -> None:
    """Let callers speak by the clock: latency and cut-ins at the agent's own setting and at 550 ms."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        patient = _with_end_of_turn(folder / "patient", PATIENT_MS)
        for calls in calls_at_once:
            heard = asyncio.run(_at_once(folder / f"{calls}", DEMO_CONFIG, calls, turns))
            _report_load(report, "trunkline", calls, heard)
        heard = asyncio.run(_at_once(folder / "p", patient, calls_at_once[0], turns))
        _report_load(report, f"trunkline-{PATIENT_MS}ms", calls_at_once[0], heard)


def _with_end_of_turn(folder: Path, ms: int) -> Path:
    """Copy the examples and set the end-of-turn silence of all agents; return the box's configuration."""
    shutil.copytree(DEMO_CONFIG.parents[1], folder)
    for path in (folder / "agents").glob("*.yaml"):
        text, changed = re.subn(r"end_of_turn_ms: \d+", f"end_of_turn_ms: {ms}", path.read_text())
        if not changed:
            raise RuntimeError(f"{path.name} sets no end_of_turn_ms")
        path.write_text(text)
    return folder / DEMO_CONFIG.relative_to(DEMO_CONFIG.parents[1])


async def _at_once(folder: Path, config: Path, calls: int, turns: int) -> list[Heard]:
    """Return what `calls` callers heard who begin within some seconds of each other."""
    synthesizer = espeak()
    planned = await plan(Voices(synthesizer), calls, turns, seed=calls)
    await synthesizer.aclose()
    line = _line()
    callers = OpenCallers(line)
    with BoxProcess(folder, config) as box:
        await line.start(callers)
        try:
            if line.status().capacity < calls:
                print(f"  the callers' line holds {line.status().capacity} calls: {calls} left out")
                return []
            print(f"  {calls} at once, {turns} turns each", flush=True)
            return await callers.run(planned, [box.target] * calls)
        finally:
            await line.aclose()


def _line() -> Transport:
    settings = line_settings("sip:100@127.0.0.1", "PCMU")
    offered = PluginManager.discover(["sip"]).offer(Kind.TRANSPORT, "sip")
    context = BuildContext(Path, Path(tempfile.gettempdir()))
    made: Transport = offered.build(offered.settings.model_validate(settings), context)
    return made


def _report_load(report: Report, arm: str, calls: int, heard: Sequence[Heard]) -> None:
    latencies = [1000 * value for one in heard for value in one.latencies_s]
    report.add(f"{arm}/answer_latency@{calls}", "ms", latencies)
    for name, values in (
        ("cut_ins_in_a_pause", [float(v) for one in heard for v in one.cut_ins]),
        ("cut_ins_without_a_pause", [float(v) for one in heard for v in one.early]),
        ("missed_turns", [float(v) for one in heard for v in one.missed]),
        ("failed_calls", [float(one.failed) for one in heard]),
    ):
        report.add(f"{arm}/{name}@{calls}", "share", values)


def media_plane(report: Report) -> None:
    """Measure a box with stub engines under 1, 10 and 40 calls of speech in both directions."""
    for load in plane_loads(MEDIA_CALLS, WINDOW_S, (30, 33)):
        report.add(f"media_cpu_per_call@{load.calls}", "% of a core", load.shares)
        report.add(f"media_frames_lost@{load.calls}", "frames", [load.lost])
        if load.calls == max(MEDIA_CALLS):
            report.add("memory_per_call", "MiB", [load.grown_mib])


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="./run bench-call", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--turns", type=int, default=60, help="answers to measure (default 60)")
    parser.add_argument("--only", choices=["latency", "loads", "media"], help="one part of it")
    parser.add_argument("--quick", action="store_true", help="few turns, 1 and 2 calls at once")
    options = parser.parse_args()
    turns = 6 if options.quick else options.turns
    report = Report("call")
    if options.only in {None, "latency"}:
        print("answer latency and barge-in", flush=True)
        answer_latency(report, turns)
    if options.only in {None, "loads"}:
        print("calls at once", flush=True)
        loads(report, max(4, turns // 4), LOADS[:2] if options.quick else LOADS)
    if options.only in {None, "media"} and not options.quick:
        print("media plane", flush=True)
        media_plane(report)
    report.show()
    report.write(options.json)


if __name__ == "__main__":
    main()
