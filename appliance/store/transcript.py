# SPDX-License-Identifier: Apache-2.0
"""The transcript, read from the event log. Nothing is recorded twice.

| event | line |
|---|---|
| `turn.committed` | the caller's words, dated to the onset of their speech |
| `speak.ended` | what the agent said to its end, dated to its first sample |
| `speak.stopped` | the words of the agent that were heard before it was cut short |
| `tool.called` with its `tool.result` | what was called, and what came of it |
| `dtmf` | a key that the caller pressed |
| `latency` | goes with the agent's next line |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from appliance.store.records import Event, Line


def transcript(events: Iterable[Event]) -> list[Line]:
    """Return the lines of a call's log, in the order in which they began."""
    scribe = _Scribe()
    for event in events:
        scribe.take(event)
    return sorted(scribe.lines, key=lambda line: line.t_ms)


class _Scribe:
    """Walks a log once, remembering what the next lines need."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._onset: int | None = None
        self._audible: int | None = None
        self._latency: Mapping[str, Any] = {}
        self._calls: dict[str, tuple[int, str]] = {}
        self._handlers: dict[str, Callable[[int, Mapping[str, Any]], None]] = {
            "speech.started": self._speech_started,
            "turn.empty": self._turn_dropped,
            "overlap.ignored": self._turn_dropped,
            "turn.committed": self._turn_committed,
            "latency": self._latency_measured,
            "speak.started": self._speak_started,
            "speak.ended": self._speak_ended,
            "speak.stopped": self._speak_stopped,
            "tool.called": self._tool_called,
            "tool.result": self._tool_result,
            "dtmf": self._dtmf,
        }

    def take(self, event: Event) -> None:
        handler = self._handlers.get(event.kind)
        if handler is not None:
            handler(event.t_ms, event.data)

    def _speech_started(self, t_ms: int, data: Mapping[str, Any]) -> None:
        if self._onset is None:
            self._onset = int(data.get("onset_ms", t_ms))

    def _turn_dropped(self, _: int, __: Mapping[str, Any]) -> None:
        self._onset = None

    def _turn_committed(self, t_ms: int, data: Mapping[str, Any]) -> None:
        at = t_ms if self._onset is None else self._onset
        self.lines.append(Line(at, "caller", str(data["text"])))
        self._onset = None

    def _latency_measured(self, _: int, data: Mapping[str, Any]) -> None:
        self._latency = data

    def _speak_started(self, t_ms: int, _: Mapping[str, Any]) -> None:
        if self._audible is None:
            self._audible = t_ms

    def _speak_ended(self, t_ms: int, data: Mapping[str, Any]) -> None:
        self._agent_line(t_ms, str(data["heard"]), interrupted=False)

    def _speak_stopped(self, t_ms: int, data: Mapping[str, Any]) -> None:
        heard = " ".join(str(text) for _, text in data["heard"])
        self._agent_line(t_ms, heard, interrupted=True)

    def _agent_line(self, t_ms: int, text: str, *, interrupted: bool) -> None:
        if text.strip():
            parts = dict(self._latency.get("parts", {}))
            at = t_ms if self._audible is None else self._audible
            total = self._latency.get("total")
            self.lines.append(Line(at, "agent", text.strip(), interrupted, total, parts))
        self._audible, self._latency = None, {}

    def _tool_called(self, t_ms: int, data: Mapping[str, Any]) -> None:
        self._calls[str(data["id"])] = (t_ms, f"{data['name']} {data['arguments']}")

    def _tool_result(self, t_ms: int, data: Mapping[str, Any]) -> None:
        at, called = self._calls.pop(str(data["id"]), (t_ms, "?"))
        outcome = "" if data["ok"] else "failed: "
        self.lines.append(Line(at, "tool", f"{called} -> {outcome}{data['content']}"))

    def _dtmf(self, t_ms: int, data: Mapping[str, Any]) -> None:
        self.lines.append(Line(t_ms, "caller", f"[key {data['digit']}]"))
