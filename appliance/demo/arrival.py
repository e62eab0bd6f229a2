# SPDX-License-Identifier: Apache-2.0
"""What of the call arrives at the hub, shown as it comes, and compared with what the box has."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from appliance.demo.owner import Deployed, Owner, until
from appliance.store import CallRecord, Line, Reader

CALL_S = 60.0
RECORDING_S = 120.0
"""A file is sent once it has been left alone for some seconds, and never during a call."""

Totals = Mapping[tuple[str, str, str], int]
"""Quantity by provider, kind, and unit."""

CALL = "the hub has the call, answered by the version of the agent that it deployed"
TRANSCRIPT = "the transcript at the hub equals the box's"
USAGE = "usage at the hub equals the box's to the unit"
RECORDING = "the recording at the hub is the box's, byte for byte"

ROLES = {"caller": "bold cyan", "agent": "bold green", "tool": "bold magenta"}


@dataclass(frozen=True, slots=True)
class AtBox:
    """What the box's store says."""

    call: CallRecord
    lines: Sequence[Line]
    usage: Totals

    @classmethod
    def read(cls, store: Reader, call_id: str) -> AtBox | None:
        """Return it; None when there was no such call. Usage is that of all calls of the box."""
        call = store.call(call_id)
        if call is None:
            return None
        usage: Counter[tuple[str, str, str]] = Counter()
        for each in store.calls():
            for row in store.usage(each.id):
                usage[row.provider, row.kind, row.unit] += row.quantity
        return cls(call, store.transcript(call_id), usage)


@dataclass(frozen=True, slots=True)
class Arrival:
    """Watches a box's call come in.

    Args:
        console: where it is shown.
        owner: who looks.
        box_id: whose call.
    """

    console: Console
    owner: Owner
    box_id: str

    async def follow(self, here: AtBox | None, deployed: Deployed) -> dict[str, bool]:
        """Show all that arrives; return what was found, as lines of the summary.

        Raises:
            HubError: the hub cannot be reached or refuses to answer.
        """
        checks = dict.fromkeys((CALL, TRANSCRIPT, USAGE, RECORDING), False)
        there = None if here is None else await self._call(here)
        if here is not None and there is not None:
            versions = there["agent_version_id"], deployed.version_id
            checks[CALL] = versions[0] == versions[1] and there["cause"] == here.call.cause
            checks[TRANSCRIPT] = await self._transcript(here)
            checks[USAGE] = await self._usage(here)
            checks[RECORDING] = await self._recording(here)
        return checks

    async def _call(self, here: AtBox) -> dict[str, Any] | None:
        async def ended() -> dict[str, Any] | None:
            calls = (await self.owner.get("/calls", appliance_id=self.box_id))["data"]
            found = [call for call in calls if call["id"] == here.call.id]
            return found[0] if found and found[0]["status"] == "ended" else None

        call = await until(ended, CALL_S)
        if call is None:
            self._line("call", f"[red]not there after {CALL_S:.0f} s[/red]", "bold red")
            return None
        seconds = (call["duration_ms"] or 0) / 1000
        what = f"{call['direction']}, {seconds:.1f} s, agent {call['agent_name']}, ended by "
        self._line("call", escape(f"{what}{call['cause']}"))
        return call

    async def _transcript(self, here: AtBox) -> bool:
        answer = await self.owner.get(f"/calls/{here.call.id}/transcript")
        turns = answer["turns"]
        for turn in turns:
            text = escape(turn["text"]) + (" [dim](interrupted)[/dim]" * turn["interrupted"])
            self._line(turn["role"], text, ROLES.get(turn["role"], ""))
        fields = ("role", "text", "started_ms", "interrupted", "latency_ms", "latency_parts")
        there = [tuple(turn[name] for name in fields) for turn in turns]
        return bool(there) and there == [
            (
                *(line.who, line.text, line.t_ms, line.interrupted),
                *(line.latency_ms, dict(line.latency_parts)),
            )
            for line in here.lines
        ]

    async def _usage(self, here: AtBox) -> bool:
        seen: Totals = {}

        async def equal() -> bool | None:
            nonlocal seen
            answer = await self.owner.get("/usage/totals", appliance_id=self.box_id)
            seen = {
                (row["provider"], row["kind"], row["unit"]): row["quantity"]
                for row in answer["data"]
            }
            return True if seen and seen == here.usage else None

        found = await until(equal, CALL_S) is not None
        self.console.print(_usage_table(here.usage, seen))
        return found

    async def _recording(self, here: AtBox) -> bool:
        digest = await asyncio.to_thread(_digest, here.call.recording_path)
        if digest is None:
            self._line("recording", "[red]the box has none[/red]", "bold red")
            return False

        async def uploaded() -> dict[str, Any] | None:
            answer = await self.owner.get("/recordings", call_id=here.call.id)
            found: list[dict[str, Any]] = answer["data"]
            return found[0] if found else None

        with self.console.status("  waiting for the recording"):
            recording = await until(uploaded, RECORDING_S)
        if recording is None:
            self._line("recording", f"[red]not there after {RECORDING_S:.0f} s[/red]", "bold red")
            return False
        size = f"{recording['size'] / 1e6:.1f} MB"
        self._line("recording", f"{size}, SHA-256 {recording['sha256'][:16]}...")
        return bool(recording["sha256"] == digest)

    def _line(self, who: str, what: str, style: str = "bold") -> None:
        table = Table.grid(padding=(0, 1))
        table.add_column(width=10, justify="right", style=style)
        table.add_column(overflow="fold")
        table.add_row(who, what)
        self.console.print(table)


def _digest(path: str) -> str | None:
    if not path or not Path(path).is_file():
        return None
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _usage_table(here: Totals, there: Totals) -> Table:
    table = Table(title="Usage, added up")
    for column in ("provider", "kind", "unit"):
        table.add_column(column)
    table.add_column("at the box", justify="right")
    table.add_column("at the hub", justify="right")
    for key in sorted(here.keys() | there.keys()):
        mine, theirs = here.get(key, 0), there.get(key, 0)
        style = "" if mine == theirs else "bold red"
        table.add_row(*key, f"{mine}", f"{theirs}", style=style)
    return table
