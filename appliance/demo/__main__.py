# SPDX-License-Identifier: Apache-2.0
"""`./run demo`: start a box, let another process call it over SIP, show the call, check the outcome."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import socket
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from appliance import config, logs
from appliance.box import Box
from appliance.cli.common import discover
from appliance.demo.view import LiveCall
from appliance.store import Appointment

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = CONFIGS / "demo" / "appliance.toml"
SCRIPT = CONFIGS / "demo" / "caller.yaml"
CALL_LIMIT_S = 240


async def main() -> int:
    """Run the demonstration; 0 when the conversation went as it should."""
    console = Console(highlight=False)
    started = time.monotonic()
    folder = Path("var") / "demo" / f"{datetime.now().astimezone():%Y-%m-%d-%H%M%S}"
    port = _free_port()
    environ = {
        **os.environ,
        "TRUNKLINE__BOX__DATA_DIR": str(folder.absolute()),
        "TRUNKLINE__TRANSPORT__LINE__UDP_PORT": str(port),
    }
    logs.setup("warning", "console")
    console.rule("Starting the box")
    plugins = discover(config.plugins_section(CONFIG, environ))
    settings = config.load(CONFIG, plugins, environ)
    live = LiveCall(console)
    box = await Box.start(
        settings, plugins, progress=lambda what: console.print(f"  [dim]{what}[/dim]"), listen=live
    )
    try:
        library = box.status()["line"].library
        console.print(
            f"  ready after {time.monotonic() - started:.1f} s: sip:100@127.0.0.1:{port}, "
            f"{library}, {box.capacity()} lines"
        )
        console.rule("A caller in a process of its own dials the box")
        caller = await _call(f"sip:100@127.0.0.1:{port}", folder)
        await asyncio.wait_for(box.switchboard.idle(), 10)
        await box.store.sync()
        appointments = box.store.appointments()
        recording = box.store.calls()[0].recording_path if box.store.calls() else ""
    finally:
        await box.aclose()
    console.rule("What came of it")
    return _summary(console, live, caller, appointments, folder, recording)


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _call(target: str, folder: Path) -> dict[str, Any]:
    """Place the call from a process of its own; return its result, or what it said instead."""
    record = folder / "as-the-caller-heard-it.wav"
    command = [sys.executable, "-m", "appliance.cli", "call", target, "--script", str(SCRIPT)]
    process = await asyncio.create_subprocess_exec(
        *command,
        *("--record", str(record), "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), CALL_LIMIT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        return {"error": f"the caller did not finish within {CALL_LIMIT_S} s"}
    try:
        result: dict[str, Any] = json.loads(out)
    except ValueError:
        return {"error": err.decode(errors="replace").strip() or f"exit code {process.returncode}"}
    return result


def _summary(
    console: Console,
    live: LiveCall,
    caller: dict[str, Any],
    appointments: list[Appointment],
    folder: Path,
    recording: str,
) -> int:
    calls = caller.get("calls") or [{}]
    wire = [turn.get("answer_latency_s") for turn in calls[0].get("turns", [])]
    console.print(live.latency_table([None if value is None else value * 1000 for value in wire]))
    booked = [(entry.name, f"{entry.date:%A}", f"{entry.time:%H:%M}") for entry in appointments]
    checks = {
        "the caller reached the agent and heard it": bool(calls[0].get("heard")),
        "at least six turns": len(live.turns) >= 6,
        "the caller interrupted the agent in mid-sentence": live.interruptions >= 1,
        "Oliver is in the calendar for Friday at 14:30": booked == [("Oliver", "Friday", "14:30")],
        "the agent ended the call": live.cause == "local_hangup",
    }
    for what, fine in checks.items():
        console.print(f"  {'[green]yes[/green]' if fine else '[bold red]NO [/bold red]'}  {what}")
    if "error" in caller:
        console.print(f"  [red]the caller failed:[/red] {caller['error']}")
    database = folder / "trunkline.db"
    trunkline = shlex.quote(str(Path(sys.executable).with_name("trunkline")))
    data = f"TRUNKLINE__BOX__DATA_DIR={shlex.quote(str(folder.absolute()))}"
    show = f"{data} {trunkline} calls show {live.call_id} --config {CONFIG}"
    console.print(
        f"\n  recording (caller left, agent right)  {recording or 'none'}"
        f"\n  the same as the caller heard it       {folder / 'as-the-caller-heard-it.wav'}"
        f"\n  event log, calendar, usage            {database}"
        f"\n  read it with                          {show}"
        "\n\n  Call it yourself: run [bold]./run serve --config configs/appliance.toml[/bold], "
        "then dial [bold]sip:100@THIS-MACHINE[/bold]\n  from any softphone (no account needed). "
        "The starter models know this one narrow domain, and synthetic voices.",
        soft_wrap=True,
    )
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
