# SPDX-License-Identifier: Apache-2.0
"""Runs a recorded event log through a fresh core: the same inputs must give the same events."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from appliance.call import inputs as inp
from appliance.call.core import Script
from appliance.call.log import Event, EventLog
from appliance.call.machine import CallMachine

BOX_PREFIX = "box."
"""Events of the shell around the core (ringing, recording, usage); a replay passes them over."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first event that differs: what was recorded, and what the replay made of it."""

    index: int
    recorded: tuple[int, str, dict[str, Any]] | None
    replayed: tuple[int, str, dict[str, Any]] | None


def replay(events: Iterable[Event], script: Script) -> tuple[EventLog, Divergence | None]:
    """Feed the inputs of a recorded call to a new core.

    Returns:
        The new log, and where it first differs from the recorded one (None: bit for bit the same).
    """
    recorded = [event for event in events if not event.kind.startswith(BOX_PREFIX)]
    log = EventLog()
    machine = CallMachine(script, log)
    for event in recorded:
        value = inp.from_event(event.kind, event.data)
        if value is not None:
            machine.handle(value, event.t_ms)
    made = log.events
    for index in range(max(len(recorded), len(made))):
        old = _plain(recorded[index]) if index < len(recorded) else None
        new = _plain(made[index]) if index < len(made) else None
        if old != new:
            return log, Divergence(index, old, new)
    return log, None


def _plain(event: Event) -> tuple[int, str, dict[str, Any]]:
    return event.t_ms, event.kind, json.loads(json.dumps(event.data))
