# SPDX-License-Identifier: Apache-2.0
"""`./run demo`: a hub gives a box its agent, a caller dials the box, and the call is checked at both."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from datetime import datetime
from pathlib import Path

from rich.console import Console

from appliance import logs
from appliance.demo.hub import HubError
from appliance.demo.show import Show

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes, as shells give them: 128 and the number of the signal."""


async def main(arguments: argparse.Namespace) -> int:
    """Run the demonstration; 0 when everything went as it should."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    console = Console(highlight=False)
    folder = Path("var") / "demo" / f"{datetime.now().astimezone():%Y-%m-%d-%H%M%S}"
    folder.mkdir(parents=True)
    logs.setup("warning", "console")
    try:
        return await Show(console, folder, with_hub=not arguments.without_hub).run()
    except* HubError as errors:
        for error in errors.exceptions:
            console.print(f"\n[bold red]{error}[/bold red]", soft_wrap=True)
    return 1


def parsed() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser("./run demo", description=__doc__.partition(": ")[2])
    parser.add_argument(
        "--without-hub", action="store_true", help="a box alone, with its own agent"
    )
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(parsed())))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except asyncio.CancelledError:
        sys.exit(TERMINATED)
