# SPDX-License-Identifier: Apache-2.0
"""`trunkline serve`: run the box until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import Annotated

import structlog
import typer

from appliance.box import Box
from appliance.cli.common import ConfigOption, fail, load_config
from appliance.config import BoxConfig
from appliance.plugin import ProviderError
from appliance.plugin.manager import PluginManager
from appliance.store import StoreError

_log = structlog.get_logger(__name__)


def serve(
    config: ConfigOption = None,
    drain: Annotated[
        float, typer.Option(help="Seconds that running calls get to end after the first signal.")
    ] = 60.0,
) -> None:
    """Answer calls until interrupted.

    The first SIGTERM or Ctrl-C refuses new calls and lets the running ones end; the second ends them.

    Examples:
      trunkline serve
      trunkline serve --config /etc/trunkline/appliance.toml --drain 300
    """
    loaded, plugins = load_config(config, quiet=False)
    try:
        again = asyncio.run(_serve(loaded, plugins, drain))
    except (ProviderError, StoreError) as error:
        fail(str(error))
    if again:
        os.execv(sys.executable, [sys.executable, "-m", "appliance.cli", *sys.argv[1:]])  # noqa: S606


async def _serve(config: BoxConfig, plugins: PluginManager, drain_s: float) -> bool:
    """Run the box; returns whether its hub wants it to start again."""
    stop, now = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (now if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    box = await Box.start(config, plugins, progress=lambda what: _log.info("starting", part=what))
    try:
        _log.info("ready", agents=box.agents.names(), capacity=box.capacity())
        signalled_stop = asyncio.ensure_future(stop.wait())
        restart = asyncio.ensure_future(box.restart_wanted.wait())
        await asyncio.wait({signalled_stop, restart}, return_when=asyncio.FIRST_COMPLETED)
        again = not stop.is_set()
        signalled_stop.cancel()
        restart.cancel()
        _log.info("stopping", calls=box.switchboard.active)
        draining = asyncio.ensure_future(box.drain(drain_s))
        hurry = asyncio.ensure_future(now.wait())
        await asyncio.wait({draining, hurry}, return_when=asyncio.FIRST_COMPLETED)
        for task in (draining, hurry):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    finally:
        await box.aclose()
        _log.info("stopped")
    return again and not stop.is_set()
