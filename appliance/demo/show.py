# SPDX-License-Identifier: Apache-2.0
"""The demonstration from its start to its checked end. Whatever fails, all that it started is stopped."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from appliance import config
from appliance.box import Box
from appliance.cli.common import discover
from appliance.demo.arrival import Arrival, AtBox
from appliance.demo.caller import free_udp_port, place_call
from appliance.demo.hub import DATA, Addresses, HubError, HubProcess, hub_process
from appliance.demo.owner import EMAIL, Deployed, Owner
from appliance.demo.view import LiveCall
from appliance.store import Appointment
from appliance.sync.hub import FOLDER
from appliance.sync.identity import HubFiles

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = CONFIGS / "demo" / "appliance.toml"
SCRIPT = CONFIGS / "demo" / "caller.yaml"
AGENT = CONFIGS / "agents" / "reception.yaml"
OWNER_FILE = "owner.json"


class Show:
    """One demonstration. `run` it once.

    Args:
        console: where everything is shown.
        folder: for all that it leaves behind; exists.
        with_hub: the box gets its agent from a hub and reports to it; otherwise it is on its own.
    """

    def __init__(self, console: Console, folder: Path, *, with_hub: bool) -> None:
        self.console = console
        self.folder = folder
        self.with_hub = with_hub
        self.live = LiveCall(console)
        self.checks: dict[str, bool] = {}
        self.port = free_udp_port()
        self._began = time.monotonic()

    async def run(self) -> int:
        """Show it; return the exit code.

        Raises:
            HubError: the hub did not do its part; also as a member of an ExceptionGroup.
        """
        async with AsyncExitStack() as stack:
            box, owner = await self._start(stack)
            arrival = deployed = None
            if owner is not None:
                arrival, deployed = await self._join(box, owner)
            self.console.rule("A caller in a process of its own dials the box")
            record = self.folder / "as-the-caller-heard-it.wav"
            caller = await place_call(self.target, SCRIPT, record)
            await asyncio.wait_for(box.switchboard.idle(), 10)
            await box.store.sync()
            appointments = box.store.appointments()
            here = AtBox.read(box.store, self.live.call_id)
            self._check_call(caller, appointments)
            if arrival is not None and deployed is not None:
                self.console.rule("What arrives at the hub")
                self.checks |= await arrival.follow(here, deployed)
            self.console.print("  [dim]stopping[/dim]")
        self.console.rule("What came of it")
        self._summary(caller, here)
        return 0 if all(self.checks.values()) else 1

    @property
    def target(self) -> str:
        """Where the box is called."""
        return f"sip:100@127.0.0.1:{self.port}"

    # -- before the call ---------------------------------------------------------------------

    async def _start(self, stack: AsyncExitStack) -> tuple[Box, Owner | None]:
        """Start both side by side; the stack ends the box first, then the hub."""
        if not self.with_hub:
            self.console.rule("Starting the box")
            return await self._start_box(stack), None
        self.console.rule("Starting a box and a hub, side by side")
        hub = await stack.enter_async_context(hub_process(self.folder))
        async with asyncio.TaskGroup() as group:
            ready = group.create_task(self._hub_ready(hub))
            box = group.create_task(self._start_box(stack))
        return box.result(), await stack.enter_async_context(Owner(ready.result()))

    async def _hub_ready(self, hub: HubProcess) -> Addresses:
        addresses = await hub.ready()
        self._say(f"hub: ready after {self._seconds()}: {addresses.api}/v1")
        return addresses

    async def _start_box(self, stack: AsyncExitStack) -> Box:
        environ = {
            **os.environ,
            "TRUNKLINE__BOX__DATA_DIR": str(self.folder.absolute()),
            "TRUNKLINE__TRANSPORT__LINE__UDP_PORT": str(self.port),
        }
        if self.with_hub:
            none = self.folder / "agents"
            none.mkdir()
            environ["TRUNKLINE__HUB__ENABLED"] = "true"
            environ["TRUNKLINE__AGENTS__DIR"] = str(none.absolute())
        plugins = discover(config.plugins_section(CONFIG, environ))
        settings = config.load(CONFIG, plugins, environ)
        box = await Box.start(
            settings,
            plugins,
            progress=lambda what: self._say(f"[dim]box: {what}[/dim]"),
            listen=self.live,
        )
        stack.push_async_callback(box.aclose)
        library = box.status()["line"].library
        lines = f"{library}, {box.capacity()} lines"
        self._say(f"box: ready after {self._seconds()}: {self.target}, {lines}")
        return box

    async def _join(self, box: Box, owner: Owner) -> tuple[Arrival, Deployed]:
        self.console.rule("The hub takes the box in, and gives it its agent")
        await owner.move_in(self.folder / OWNER_FILE)
        self._say("the link of the first start made an owner; there was no password before")
        bare = box.agent_for("100") is None
        files = HubFiles(self.folder / FOLDER)
        show = "the box shows the code [bold]{}[/bold], the owner enters it"
        box_id = await owner.claim(files, lambda code: self._say(show.format(code)))
        self._say(f"claimed: box {box_id} has a certificate for a key that never left it")
        deployed = await owner.deploy(AGENT, box_id)
        here = box.agent_for("100")
        if here is None:
            raise HubError("the box reports an agent and has none")
        self._say(f"the box reports: new calls get {here.name} version {deployed.number}")
        self.checks["the box was claimed by the code that it shows"] = True
        self.checks["the agent came from the hub: the box had none of its own"] = bare
        return Arrival(self.console, owner, box_id), deployed

    # -- after it ----------------------------------------------------------------------------

    def _check_call(self, caller: dict[str, Any], appointments: list[Appointment]) -> None:
        live = self.live
        calls = caller.get("calls") or [{}]
        booked = [(entry.name, f"{entry.date:%A}", f"{entry.time:%H:%M}") for entry in appointments]
        self.checks |= {
            "the caller reached the agent and heard it": bool(calls[0].get("heard")),
            "at least six turns": len(live.turns) >= 6,
            "the caller interrupted the agent in mid-sentence": live.interruptions >= 1,
            "Oliver is in the calendar for Friday at 14:30": booked
            == [("Oliver", "Friday", "14:30")],
            "the agent ended the call": live.cause == "local_hangup",
        }

    def _summary(self, caller: dict[str, Any], here: AtBox | None) -> None:
        console, folder = self.console, self.folder
        calls = caller.get("calls") or [{}]
        wire = [turn.get("answer_latency_s") for turn in calls[0].get("turns", [])]
        in_ms = [None if value is None else value * 1000 for value in wire]
        console.print(self.live.latency_table(in_ms))
        for what, fine in self.checks.items():
            self._say(f"{'[green]yes[/green]' if fine else '[bold red]NO [/bold red]'}  {what}")
        if "error" in caller:
            console.print(f"  [red]the caller failed:[/red] {caller['error']}")
        recording = here.call.recording_path if here else ""
        trunkline = shlex.quote(str(Path(sys.executable).with_name("trunkline")))
        data = f"TRUNKLINE__BOX__DATA_DIR={shlex.quote(str(folder.absolute()))}"
        show = f"{data} {trunkline} calls show {self.live.call_id} --config {CONFIG}"
        console.print(
            f"\n  recording (caller left, agent right)  {recording or 'none'}"
            f"\n  the same as the caller heard it       {folder / 'as-the-caller-heard-it.wav'}"
            f"\n  event log, calendar, usage            {folder / 'trunkline.db'}"
            f"\n  read it with                          {show}",
            soft_wrap=True,
        )
        if self.with_hub:
            again = f"TRUNKLINE_HUB_DATA_FOLDER={shlex.quote(str(folder / DATA))} ./run hub"
            console.print(
                f"  the hub again, with all it has        {again}"
                f"\n  its owner                             {EMAIL}, password in "
                f"{folder / OWNER_FILE}",
                soft_wrap=True,
            )
        console.print(
            "\n  Call it yourself: run [bold]./run serve --config configs/appliance.toml[/bold], "
            "then dial [bold]sip:100@THIS-MACHINE[/bold]\n  from any softphone (no account needed)."
            " The starter models know this one narrow domain, and synthetic voices.",
            soft_wrap=True,
        )

    def _say(self, what: str) -> None:
        self.console.print(f"  {what}", soft_wrap=True)

    def _seconds(self) -> str:
        return f"{time.monotonic() - self._began:.1f} s"
