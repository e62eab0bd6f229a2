# SPDX-License-Identifier: Apache-2.0
"""`./run bench-peers`: whole agents side by side. docs/benchmarks.md says what is equal and what is not."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from appliance.caller.build import line_settings
from appliance.caller.open_loop import Heard, OpenCallers
from appliance.caller.plan import PlannedCall, Voices, plan
from appliance.capacity.usage import Usage, usage
from appliance.plugin import BuildContext, Kind, Transport
from appliance.plugin.manager import PluginManager
from tests.benchmarks.peers.arms import PeerAgents, Running, TrunklineSip, TrunklineWire, peer_order
from tests.benchmarks.peers.environments import PEERS, prepare
from tests.benchmarks.peers.transport import WireSettings, WireTransport
from tests.benchmarks.report import Report
from tests.lab.process import DEMO_CONFIG, espeak

LOADS = "1,2,4,8,12,16,24"
HELD_P95_MS = 1000.0
HELD_MISSED = 0.02
MEMORY_EVERY_S = 1.0
ALL_TRY = 8
"""Up to so many calls every arm is tried; at more, only those that held the load before."""
Make = Callable[[Path, int], Running]


@dataclass
class Samples:
    """All that was measured of one arm at one load."""

    heard: list[Heard] = field(default_factory=list)
    cpu_percent: list[float] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)


class PeersReport(Report):
    """The project's report, and what each arm was."""

    def __init__(self, arms: Mapping[str, Any]) -> None:
        super().__init__("peers")
        self.arms = arms

    def as_dict(self) -> dict[str, Any]:
        """Return the report with the versions and settings of the arms."""
        return {**super().as_dict(), "arms": self.arms}


def arms(config: Path) -> dict[str, Make]:
    """Return every arm by name: what starts it for a number of calls."""
    order = peer_order()
    made: dict[str, Make] = {
        "trunkline": lambda folder, calls: TrunklineWire(folder, calls, config),
        "trunkline-sip": lambda folder, calls: TrunklineSip(folder, calls, config),
    }
    for name, peer in PEERS.items():
        tuned, shipped = {**order, "tuned": True}, {**order, "tuned": False}
        made[name] = partial(PeerAgents, peer=peer, order=tuned)
        made[f"{name}-shared"] = partial(PeerAgents, peer=peer, order=tuned, shared=True)
        made[f"{name}-shipped"] = partial(PeerAgents, peer=peer, order=shipped)
    return made


async def block(name: str, arm: Running, planned: Sequence[PlannedCall], into: Samples) -> None:
    """Run one arm once: a short call to warm it up, then the planned ones."""
    line = _line(name)
    callers = OpenCallers(line)
    await line.start(callers)
    watching: asyncio.Task[None] | None = None
    try:
        warm = [PlannedCall(0.0, one.turns[:1], one.turns[0].at_s + 6.0) for one in planned]
        await callers.run(warm, arm.targets)
        before = usage(arm.pids)
        watching = asyncio.get_running_loop().create_task(_watch(arm, len(planned), into))
        heard = await callers.run(planned, arm.targets)
        spent = usage(arm.pids).cpu_s - before.cpu_s
        seconds = sum(one.seconds for one in heard)
        into.heard += heard
        into.cpu_percent.append(100 * spent / seconds if seconds else 0.0)
        if isinstance(line, WireTransport):
            into.late_ms += [1000 * late for late in line.late_s]
    finally:
        if watching is not None:
            watching.cancel()
        await line.aclose()
    if arm.ended:
        raise RuntimeError(f"{name}: a process ended by itself, with {arm.ended}; see {arm.folder}")


async def _watch(arm: Running, calls: int, into: Samples) -> None:
    while True:
        await asyncio.sleep(MEMORY_EVERY_S)
        now: Usage = await asyncio.to_thread(usage, arm.pids)
        into.memory_mib.append(now.pss_mib / calls)


def _line(name: str) -> Transport:
    if not name.endswith("-sip"):
        return WireTransport(WireSettings())
    context = BuildContext(Path, Path(tempfile.gettempdir()))
    settings = line_settings("sip:100@127.0.0.1", "PCMU")
    offered = PluginManager.discover(["sip"]).offer(Kind.TRANSPORT, "sip")
    made: Transport = offered.build(offered.settings.model_validate(settings), context)
    return made


def summarize(report: Report, measured: Mapping[tuple[str, int], Samples]) -> None:
    """Put every result into the report, and how many calls each arm held."""
    held: dict[str, int] = defaultdict(int)
    for (arm, load), samples in measured.items():
        heard = samples.heard
        latencies = [1000 * value for one in heard for value in one.latencies_s]
        missed = [float(value) for one in heard for value in one.missed]
        report.add(f"{arm}/answer_latency@{load}", "ms", latencies)
        for name, values in (
            ("missed_turns", missed),
            ("cut_ins_in_a_pause", [float(v) for one in heard for v in one.cut_ins]),
            ("cut_ins_without_a_pause", [float(v) for one in heard for v in one.early]),
            ("failed_calls", [float(one.failed) for one in heard]),
        ):
            report.add(f"{arm}/{name}@{load}", "share", values)
        stops = [1000 * value for one in heard for value in one.barge_in_s]
        report.add(f"{arm}/barge_in_stop@{load}", "ms", stops)
        report.add(f"{arm}/cpu_per_call@{load}", "% of a core", samples.cpu_percent)
        report.add(f"{arm}/memory_per_call@{load}", "MiB", samples.memory_mib)
        report.add(f"{arm}/caller_late@{load}", "ms", samples.late_ms)
        if holds(samples):
            held[arm] = max(held[arm], load)
    for arm in dict.fromkeys(arm for arm, _ in measured):
        report.add(f"{arm}/calls_held", "calls", [held[arm]])


def holds(samples: Samples) -> bool:
    """Tell whether a load was held: fast enough, nearly no turn missed, no call failed."""
    latencies = [1000 * value for one in samples.heard for value in one.latencies_s]
    missed = [value for one in samples.heard for value in one.missed]
    if not latencies or any(one.failed for one in samples.heard):
        return False
    fast = float(np.percentile(latencies, 95)) <= HELD_P95_MS
    return fast and sum(missed) <= HELD_MISSED * len(missed)


async def compare(
    made: Mapping[str, Make], loads: Sequence[int], turns: int, rounds: int, folder: Path
) -> dict[tuple[str, int], Samples]:
    """Run every arm at every load, one after another, in an order that turns with each round."""
    measured: dict[tuple[str, int], Samples] = defaultdict(Samples)
    synthesizer = espeak()
    voices = Voices(synthesizer)
    names = list(made)
    for turn in range(rounds):
        for index, load in enumerate(loads):
            planned = await plan(voices, load, turns, seed=1000 * turn + load)
            first = (turn + index) % len(names)
            for name in names[first:] + names[:first]:
                if load > ALL_TRY and index and not holds(measured[name, loads[index - 1]]):
                    continue
                print(f"  round {turn + 1} of {rounds}: {name}, {load} at once", flush=True)
                with made[name](folder / f"{turn}-{load}-{name}", load) as arm:
                    await block(name, arm, planned, measured[name, load])
    await synthesizer.aclose()
    tried = {key: samples for key, samples in measured.items() if samples.heard}
    ordered = sorted(tried.items(), key=lambda item: (names.index(item[0][0]), item[0][1]))
    return dict(ordered)


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="./run bench-peers", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--loads", default=LOADS, help=f"calls at once (default {LOADS})")
    parser.add_argument("--turns", type=int, default=12, help="turns of a call (default 12)")
    parser.add_argument("--rounds", type=int, default=3, help="repeat all of it (default 3)")
    parser.add_argument("--arms", default="", help="only these, by name, with commas between")
    parser.add_argument(
        "--config", type=Path, default=DEMO_CONFIG, help="Trunkline's configuration"
    )
    parser.add_argument("--keep", type=Path, help="keep the arms' logs in this folder")
    parser.add_argument("--quick", action="store_true", help="one round, 1 and 2 calls, few turns")
    options = parser.parse_args()
    if options.quick:
        options.loads, options.turns, options.rounds = "1,2", 4, 1
    loads = sorted({int(word) for word in options.loads.split(",")})
    known = arms(options.config.absolute())
    wanted = [name for name in options.arms.split(",") if name] or list(known)
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        parser.error(f"no such arm: {', '.join(unknown)}; there are {', '.join(known)}")
    with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
        folder = options.keep or Path(scratch)
        about = _about(wanted)
        measured = asyncio.run(
            compare(
                {name: known[name] for name in wanted}, loads, options.turns, options.rounds, folder
            )
        )
    report = PeersReport(about)
    summarize(report, measured)
    report.show()
    report.write(options.json)


def _about(wanted: Sequence[str]) -> dict[str, Any]:
    about: dict[str, Any] = {}
    for name in wanted:
        framework, _, variant = name.partition("-")
        if framework in PEERS:
            tuned = variant != "shipped"
            versions = prepare(PEERS[framework]).versions
            processes = "one for all calls" if variant == "shared" else "one a call"
            about[name] = {"tuned": tuned, "processes": processes, "versions": dict(versions)}
        else:
            about[name] = {"transport": "sip" if variant == "sip" else "wire"}
    return about


if __name__ == "__main__":
    main()
