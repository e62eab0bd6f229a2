# SPDX-License-Identifier: Apache-2.0
"""`./run bench-hub`: the hub under load, on loopback, with database, broker and ingest of its own.

connect   many boxes by mutual TLS, speaking at a rate in all:
          trunkline/publish_to_committed@NboxesR   from when an event is due to its acknowledgement, which
                                                   is sent after the commit: no less than it took
          trunkline/events_committed@...           events over the time to the last acknowledgement
          trunkline/missing@..., twice@...         PostgreSQL's rows against what each box said
drain     one box with the backlog of many hours, its own store and link:
          trunkline/drain_rate@Nh                  rows over the time to the last commit
api       lists and details of calls in a full database, by HTTP, key and row-level security:
          trunkline/api_list_first@Ncalls, ...     from when a request is due to its answer
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.hub.api import api
from tests.benchmarks.hub.connect import connect
from tests.benchmarks.hub.drain import drain
from tests.benchmarks.hub.stand import running
from tests.benchmarks.report import Report

PARTS = ("connect", "drain", "api")
BACKLOG_RATE = 0.5
"""Events a second of the box that was away: as many as one of 1,000 at 500 in all."""


async def measure(report: Report, options: argparse.Namespace) -> None:
    """Run the parts that were asked for, one after the other on one hub."""
    async with running(options.workers) as stand:
        if "connect" in options.only:
            await connect(
                report,
                stand,
                boxes=options.boxes,
                organizations=min(options.organizations, options.boxes),
                rate=options.rate,
                seconds=options.seconds,
                clients=options.clients,
            )
        if "drain" in options.only:
            rows = max(1, round(3600 * options.hours * BACKLOG_RATE))
            await drain(report, stand, rows, options.hours)
        if "api" in options.only:
            await api(
                report,
                stand,
                calls=options.calls,
                organizations=options.organizations,
                rate=options.request_rate,
                requests=options.requests,
            )


def parser() -> argparse.ArgumentParser:
    """Return what the command line may say."""
    made = argparse.ArgumentParser(
        prog="./run bench-hub",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--json", type=Path, help="write the results here")
    add("--quick", action="store_true", help="see that it works, no more")
    add("--only", nargs="+", choices=PARTS, default=PARTS, help="these parts alone")
    add("--organizations", type=int, default=100, help="tenants (default 100)")
    add("--workers", type=int, default=1, help="ingest processes (default 1)")
    add("--boxes", type=int, default=1000, help="connect: boxes (default 1000)")
    add("--rate", type=float, default=500, help="connect: events a second (default 500)")
    add("--seconds", type=float, default=60, help="connect: for so long (default 60)")
    add(
        "--clients", type=int, default=2, help="connect: processes that drive the boxes (default 2)"
    )
    add("--hours", type=float, default=72, help="drain: hours of backlog (default 72)")
    add("--calls", type=int, default=1_000_000, help="api: calls in all (default 1000000)")
    add("--requests", type=int, default=500, help="api: of each sort (default 500)")
    add("--request-rate", type=float, default=20, help="api: requests a second (default 20)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and report; `arguments` are the command line's unless given."""
    options = parser().parse_args(arguments)
    if options.quick:
        options.organizations, options.boxes, options.clients = 4, 20, 1
        options.rate, options.seconds, options.hours = 40, 5, 0.5
        options.calls, options.requests = 2000, 10
    report = Report("hub")
    asyncio.run(measure(report, options))
    report.show()
    report.write(options.json)


if __name__ == "__main__":
    main()
