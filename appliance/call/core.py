# SPDX-License-Identifier: Apache-2.0
"""What the parts of the call core share: time, state, deadlines, the log, and the actions to be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appliance.call.actions import Action
from appliance.call.agent import Agent
from appliance.call.dialogue import Dialogue
from appliance.call.end_of_turn import EndOfTurn
from appliance.call.log import EventLog
from appliance.call.states import TRANSITIONS, State
from appliance.plugin import ToolSpec


@dataclass(frozen=True, slots=True)
class Script:
    """What the core knows of the agent for one call: rendered texts and the tools offered."""

    call_id: str
    agent: Agent
    system: str
    greeting: str
    tools: tuple[ToolSpec, ...] = ()
    judge_turns: bool = False
    """A turn detector is configured: ask it."""
    end_of_turn: EndOfTurn | None = None
    """Decides how long a silence is waited out; None: what the agent's settings ask for."""


class Core:
    """The ground on which both sides of a call stand.

    Attributes:
        now: media time of the input being handled, in ms. Never goes back.
        deadlines: media time of each named deadline that is set.
        actions: what the input being handled asks the shell to do, in order.
        load: how busy the box is, as an `appliance.call.admission.Level`.
    """

    def __init__(self, script: Script, log: EventLog) -> None:
        self.script = script
        self.log = log
        self.timing = script.agent.turn_taking
        self.dialogue = Dialogue(script.system)
        self.state = State.IDLE
        self.now = 0
        self.load = 0
        self.actions: list[Action] = []
        self.deadlines: dict[str, int] = {}

    def do(self, action: Action) -> None:
        """Ask the shell for something."""
        self.actions.append(action)

    def record(self, kind: str, **data: Any) -> None:
        """Log what the core decided."""
        self.log.append(self.now, kind, data)

    def go(self, state: State) -> None:
        """Change the state; staying in it is no change.

        Raises:
            RuntimeError: there is no such transition.
        """
        if state is self.state:
            return
        if state not in TRANSITIONS[self.state]:
            msg = f"no transition from {self.state} to {state}"
            raise RuntimeError(msg)
        self.record("state", **{"from": self.state.value, "to": state.value})
        self.state = state

    def set(self, name: str, at_ms: int) -> None:
        """Set a deadline."""
        self.deadlines[name] = at_ms

    def clear(self, *names: str) -> bool:
        """Clear deadlines; return whether any of them was set."""
        were_set = [self.deadlines.pop(name, None) is not None for name in names]
        return any(were_set)

    def due(self) -> list[str]:
        """Return the deadlines that have come, in the order of their time."""
        due = [(at, name) for name, at in self.deadlines.items() if at <= self.now]
        return [name for _, name in sorted(due)]
