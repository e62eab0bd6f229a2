# SPDX-License-Identifier: Apache-2.0
"""Shows a call as it goes on, from its event log, and what came of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from appliance.call.log import Event

STATES = {"listening": "cyan", "processing": "yellow", "speaking": "green", "ended": "red"}


@dataclass(slots=True)
class LiveCall:
    """Prints each event that a person wants to see, and keeps what the summary needs.

    Args:
        console: where to.
    """

    console: Console
    call_id: str = ""
    turns: dict[int, str] = field(default_factory=dict)
    latencies: dict[int, dict[str, Any]] = field(default_factory=dict)
    tools: list[dict[str, Any]] = field(default_factory=list)
    interruptions: int = 0
    cause: str = ""
    codec: str = ""
    _said: dict[int, list[str]] = field(default_factory=dict)

    def __call__(self, call_id: str, event: Event) -> None:
        """Take an event of the call."""
        self.call_id = call_id
        data = event.data
        match event.kind:
            case "call.answered":
                self.codec = data["codec"]
                self._line(event, "[bold]call answered[/bold]", f"codec {self.codec}")
            case "state":
                color = STATES.get(data["to"], "white")
                self._line(
                    event, "", f"[dim]{data['from']} ->[/dim] [{color}]{data['to']}[/{color}]"
                )
            case "turn.committed":
                self.turns[data["turn"]] = data["text"]
                self._line(event, "[bold cyan]caller[/bold cyan]", escape(data["text"]))
            case "reply.clause":
                self._line(event, "[bold green]agent[/bold green]", escape(data["text"]))
            case "interruption":
                self.interruptions += 1
                heard = escape(data["heard"]) or "nothing"
                self._line(event, "[bold red]interrupted[/bold red]", f"heard so far: {heard}")
            case "tool.called":
                self.tools.append({"name": data["name"], "arguments": data["arguments"]})
                self._line(event, "[bold magenta]tool[/bold magenta]", _call(data))
            case "tool.result":
                self._line(event, "[magenta]result[/magenta]", escape(data["content"]))
            case "latency":
                self.latencies[data["turn"]] = data
            case "error" | "error.recognition" | "error.reply" | "error.speech":
                self._line(event, "[bold red]error[/bold red]", escape(str(data)))
            case "call.ended":
                self.cause = data["cause"]
                self._line(event, "[bold]call ended[/bold]", data["cause"])
            case _:
                pass

    def _line(self, event: Event, who: str, what: str) -> None:
        table = Table.grid(padding=(0, 1))
        table.add_column(width=8, justify="right", style="dim")
        table.add_column(width=13)
        table.add_column(overflow="fold")
        table.add_row(f"{event.t_ms / 1000:.2f}", who, what)
        self.console.print(table)

    def latency_table(self, wire_ms: list[float | None]) -> Table:
        """Return the latency of each turn, stage by stage, and as the caller measured it.

        Args:
            wire_ms: the caller's measurement for each of its turns, in order.
        """
        title = "Latency by turn, ms: from the caller's last sound to the agent's first"
        caption = (
            "wait: end-of-turn silence, hear: recognizer beyond it, think: first words, "
            "cut: first clause, speak: synthesis, play: to the wire; "
            "box: all of these, wire: measured at the caller"
        )
        table = Table(title=title, caption=caption)
        table.add_column("", justify="right", no_wrap=True, min_width=1)
        table.add_column("caller said", no_wrap=True, max_width=16)
        stages = ("wait", "hear", "think", "cut", "speak", "play")
        for column in (*stages, "box", "wire"):
            table.add_column(column, justify="right", no_wrap=True)
        for index, (turn, text) in enumerate(self.turns.items()):
            measured = self.latencies.get(turn)
            wire = wire_ms[index] if index < len(wire_ms) else None
            parts = list(measured["parts"].values()) if measured else []
            cells = [str(part) for part in parts] or [""] * len(stages)
            total = str(measured["total"]) if measured else ""
            at_wire = "" if wire is None else f"{wire:.0f}"
            table.add_row(str(turn), text, *cells, total, at_wire)
        return table


def _call(data: dict[str, Any]) -> str:
    try:
        arguments = ", ".join(
            f"{k}={v!r}" for k, v in json.loads(data["arguments"] or "{}").items()
        )
    except ValueError:
        arguments = data["arguments"]
    return escape(f"{data['name']}({arguments})")
