# SPDX-License-Identifier: Apache-2.0
"""Trunkline as an arm: the whole box of a configuration file, its phone line replaced by the wire.

`python -m tests.benchmarks.peers.trunkline_agent CONFIG SOCKET`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from appliance import config, logs
from appliance.box import Box
from appliance.capacity.line import with_line
from appliance.cli.common import discover
from tests.benchmarks.peers.transport import offer


async def main(path: Path, socket: str) -> None:
    """Answer calls until the process is told to end."""
    logs.setup("warning", "console")
    plugins = discover(config.plugins_section(path))
    box = await Box.start(with_line(config.load(path, plugins), offer(), {"path": socket}), plugins)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("ready", flush=True)
    await stop.wait()
    await box.aclose()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
