# SPDX-License-Identifier: Apache-2.0
"""`./run hub-losses`: boxes talk to a real hub while processes are killed; then every row is counted.

    python -m tests.hub.losses --seconds 120 --boxes 50 --rate 200 --kill ingest --json FILE

`--kill` names one part, or `each` (a run of `--seconds` for each part, one after the other), or `all` (in
turn, in one run). It ends with 1 if anything is missing, twice, changed or out of order.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from tests.benchmarks.report import Report
from tests.hub.losses.witness import Verdict
from tests.hub.losses.world import VICTIMS, Scale, Victim, World, killing, running, under_fire
from tests.hub.servers import folder_for_server


async def main(arguments: argparse.Namespace) -> int:
    """Run, report, and return the exit code."""
    report = Report("hub-losses")
    rounds: list[tuple[str, tuple[Victim, ...]]]
    if arguments.kill == "each":
        rounds = [(victim, (victim,)) for victim in VICTIMS]
    else:
        rounds = [(arguments.kill, VICTIMS if arguments.kill == "all" else (arguments.kill,))]
    scale = Scale(
        boxes=arguments.boxes,
        processes=min(arguments.processes, arguments.boxes),
        rate=arguments.rate,
        nodes=arguments.nodes,
        workers=arguments.workers,
    )
    clean = True
    for name, victims in rounds:
        with folder_for_server("losses") as folder:
            async with running(folder, scale) as world:
                clean &= await one_round(world, name, victims, arguments, report)
    report.show()
    report.write(arguments.json)
    return 0 if clean else 1


async def one_round(
    world: World,
    name: str,
    victims: tuple[Victim, ...],
    arguments: argparse.Namespace,
    report: Report,
) -> bool:
    """Kill these for the time that was asked for; return whether nothing came of it."""
    began = time.monotonic()
    await under_fire(world, killing(world, victims), arguments.seconds, arguments.every)
    lasted = time.monotonic() - began
    left = world.waiting()
    settled = await world.settle(arguments.deadline)
    verdict = await world.count()
    for what, value in world.kills.items():
        report.add(f"{name}/kills of {what}", "processes", [value])
    report.add(f"{name}/rows", "rows", [verdict.rows])
    report.add(f"{name}/rate", "rows/s", [verdict.rows / lasted])
    report.add(f"{name}/unacknowledged at the last blow", "rows", [left])
    report.add(f"{name}/until all was acknowledged", "s", [settled])
    for what, value in verdict.wrongs().items():
        report.add(f"{name}/{what}", "rows", [value])
    _say(name, world, verdict)
    return verdict.clean


def _say(name: str, world: World, verdict: Verdict) -> None:
    kills = ", ".join(f"{what} {count}" for what, count in world.kills.items())
    wrongs = ", ".join(f"{what} {count}" for what, count in verdict.wrongs().items())
    said = [f"{name}: kills {kills}; {verdict.rows} rows of {verdict.calls} calls; {wrongs}"]
    said += [f"  {example}" for example in verdict.examples]
    sys.stdout.write("\n".join(said) + "\n")
    sys.stdout.flush()


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("hub-losses", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="of talking and killing")
    parser.add_argument("--every", type=float, default=5.0, help="seconds from blow to blow")
    parser.add_argument("--boxes", type=int, default=50)
    parser.add_argument("--processes", type=int, default=5, help="that the boxes share")
    parser.add_argument("--rate", type=float, default=200.0, help="rows a second, all together")
    parser.add_argument("--kill", choices=[*VICTIMS, "all", "each"], default="each")
    parser.add_argument("--nodes", type=int, default=0, choices=(0, 3), help="of a NATS cluster")
    parser.add_argument("--workers", type=int, default=1, help="ingest processes")
    parser.add_argument("--deadline", type=float, default=600.0, help="seconds until all is told")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(parse())))
