# SPDX-License-Identifier: Apache-2.0
"""A whole call on a virtual clock: a scripted caller and engines of known speed around the real core.

A 30 s call takes milliseconds. Speech, recognizer, model and synthesizer are simulated by their timing;
every decision is the core's own.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from appliance.call import actions as act
from appliance.call import inputs as inp
from appliance.call.agent import Agent
from appliance.call.core import Script
from appliance.call.log import Event, EventLog
from appliance.call.machine import CallMachine
from appliance.plugin import LlmRequest, Message, Role, TextDelta, TokenUsage, ToolCall, ToolSpec

Delta = TextDelta | ToolCall | TokenUsage | Exception
Model = Callable[[LlmRequest], Sequence[Delta]]

MS_PER_CHAR = 60
WINDOW_MS = 32


def agent(**changes: Any) -> Agent:
    values: dict[str, Any] = {
        "version": 1,
        "name": "test",
        "greeting": "Hello.",
        "prompt": "You are a test.",
    }
    return Agent.model_validate({**values, **changes})


def says(*replies: str) -> Model:
    """A model that gives these replies in turn, word by word."""
    left = iter(replies)

    def model(_: LlmRequest) -> list[Delta]:
        words = next(left, "Okay.").split(" ")
        pieces: list[Delta] = [TextDelta(w if i == 0 else f" {w}") for i, w in enumerate(words)]
        return [*pieces, TokenUsage(10, len(words))]

    return model


@dataclass
class Spoken:
    """Speech of the caller."""

    start_ms: int
    end_ms: int
    text: str


@dataclass
class Clause:
    gen: int
    text: str
    start_ms: int

    @property
    def end_ms(self) -> int:
        return self.start_ms + len(self.text) * MS_PER_CHAR

    def heard(self, now: int) -> str:
        chars = (now - self.start_ms) // MS_PER_CHAR
        if chars >= len(self.text):
            return self.text
        return self.text[: max(0, chars)].rsplit(" ", 1)[0] if chars > 0 else ""


@dataclass
class Sim:
    """One simulated call.

    `model_ms` is the time to the first delta and between deltas; a model that returns an exception fails.
    """

    model: Model
    caller: Sequence[Spoken] = ()
    agent: Agent = field(default_factory=agent)
    tools: Mapping[str, Callable[[str], inp.ToolFinished | None]] = field(default_factory=dict)
    stt_ms: int = 30
    model_ms: int = 20
    tts_ms: int = 10
    tool_ms: int = 100
    judge: Callable[[str], float] | None = None

    def __post_init__(self) -> None:
        self.now = 0
        self.requests: list[LlmRequest] = []
        self.hung_up_ms: int | None = None
        self.ducks: list[tuple[int, float]] = []
        self._heap: list[tuple[int, int, inp.Input]] = []
        self._order = itertools.count()
        self._clauses: list[Clause] = []
        self._held: list[Clause] = []
        self._cancelled: set[int] = set()
        self._open_from = 0
        specs = tuple(ToolSpec(name, name, {"type": "object"}) for name in self.tools)
        greeting = self.agent.greeting
        script = Script(
            "call-1", self.agent, self.agent.prompt, greeting, specs, self.judge is not None
        )
        self.script = script
        self.log = EventLog()
        self.machine = CallMachine(script, self.log)
        self.at(0, inp.Answered("PCMU"))
        timing = self.agent.turn_taking
        for spoken in self.caller:
            self.at(spoken.start_ms + timing.start_ms, inp.SpeechStarted(spoken.start_ms))
            self.at(spoken.end_ms + timing.stop_ms, inp.SpeechStopped(spoken.end_ms))
        for spoken in self.caller[1:]:
            self.at(spoken.start_ms + WINDOW_MS, inp.SpeechSuspected(spoken.start_ms))

    def at(self, t_ms: int, value: inp.Input) -> None:
        heapq.heappush(self._heap, (t_ms, next(self._order), value))

    def run(self, until_ms: int = 60_000) -> Sim:
        while True:
            deadline = self.machine.next_deadline()
            next_input = self._heap[0][0] if self._heap else None
            due = [t for t in (deadline, next_input) if t is not None]
            if not due or min(due) > until_ms:
                return self
            self.now = max(self.now, min(due))
            if next_input is not None and next_input <= self.now:
                self.feed(heapq.heappop(self._heap)[2])
            else:
                self.feed(inp.Timer())

    def feed(self, value: inp.Input) -> None:
        if isinstance(value, inp.PlaybackStarted | inp.PlaybackIdle) and not self._audible(value):
            return
        if getattr(value, "gen", None) in self._cancelled and isinstance(
            value, inp.ReplyText | inp.ReplyToolCall | inp.ReplyEnded | inp.ReplyFailed
        ):
            return
        for action in self.machine.handle(value, self.now):
            self._perform(action)

    # what happened, for the tests

    def kinds(self) -> list[str]:
        return [event.kind for event in self.log.events]

    def events(self, kind: str) -> list[Event]:
        return [event for event in self.log.events if event.kind == kind]

    def played(self) -> list[str]:
        """Return all words that reached the caller, piece by piece."""
        heard = [e.data["heard"] for e in self.events("speak.ended")]
        stopped = [text for e in self.events("speak.stopped") for _, text in e.data["heard"]]
        return [text for text in (*heard, *stopped) if text]

    def states(self) -> list[str]:
        return [event.data["to"] for event in self.events("state")]

    def history(self) -> list[tuple[str, str]]:
        messages: Sequence[Message] = self.machine.dialogue.messages(1000)
        return [(m.role.value, m.content) for m in messages if m.role is not Role.SYSTEM]

    def spoken(self) -> list[str]:
        return [event.data["text"] for event in self.events("reply.clause")]

    # the simulated world

    def _audible(self, value: inp.PlaybackStarted | inp.PlaybackIdle) -> bool:
        if not any(clause.gen == value.gen for clause in self._clauses):
            return False
        return isinstance(value, inp.PlaybackStarted) or self._clauses[-1].end_ms == self.now

    def _perform(self, action: act.Action) -> None:
        match action:
            case act.OpenRecognition(_, from_ms):
                self._open_from = from_ms
            case act.FlushRecognition(turn, flush):
                text = " ".join(
                    s.text
                    for s in self.caller
                    if s.end_ms > self._open_from and s.end_ms <= self.now
                ).strip()
                self.at(self.now + self.stt_ms, inp.FinalTranscript(turn, flush, text, self.stt_ms))
            case act.JudgeTurn(turn, flush, context):
                if self.judge is not None:
                    judged = inp.TurnJudged(turn, flush, self.judge(context.text))
                    self.at(self.now + 20, judged)
            case act.Generate(gen, request):
                self._generate(gen, request)
            case act.CancelGenerate(gen):
                self._cancelled.add(gen)
            case act.RunTool(gen, id_, name, arguments):
                done = self.tools[name](arguments)
                if done is not None:
                    finished = inp.ToolFinished(gen, id_, done.ok, done.content, done.end_call)
                    self.at(self.now + self.tool_ms, finished)
            case act.Speak(gen, text):
                self._say(gen, text)
            case act.Prepare(gen, text):
                ready = max([self.now, *(clause.start_ms for clause in self._held)])
                self._held.append(Clause(gen, text, ready + self.tts_ms))
            case act.Commit(gen):
                held, self._held = self._held, []
                for clause in held:
                    assert clause.gen == gen
                    self._play(gen, clause.text, max(self.now, clause.start_ms))
            case act.Discard(gen):
                self._cancelled.add(gen)
                self._held = []
            case act.StopSpeaking():
                self._stop()
            case act.Duck(gain_db):
                self.ducks.append((self.now, gain_db))
            case act.HangUp():
                self.hung_up_ms = self.now
                self.at(self.now + 20, inp.LegEnded("local_hangup"))
            case _:
                pass

    def _generate(self, gen: int, request: LlmRequest) -> None:
        self.requests.append(request)
        t = self.now
        deltas = self.model(request)
        for delta in deltas:
            t += self.model_ms
            match delta:
                case TextDelta(text):
                    self.at(t, inp.ReplyText(gen, text))
                case ToolCall(id_, name, arguments):
                    self.at(t, inp.ReplyToolCall(gen, id_, name, arguments))
                case TokenUsage(prompt, completion):
                    self.at(t, inp.ReplyEnded(gen, prompt, completion))
                case Exception():
                    self.at(t, inp.ReplyFailed(gen, str(delta)))

    def _say(self, gen: int, text: str) -> None:
        self._play(gen, text, self.now + self.tts_ms)

    def _play(self, gen: int, text: str, start: int) -> None:
        if self._clauses and self._clauses[-1].end_ms <= self.now:
            self._clauses = []
        if self._clauses:
            start = max(start, self._clauses[-1].end_ms)
        clause = Clause(gen, text, start)
        if not any(other.gen == gen for other in self._clauses):
            self.at(start, inp.PlaybackStarted(gen, self.tts_ms))
        self._clauses.append(clause)
        self.at(clause.end_ms, inp.PlaybackIdle(gen))

    def _stop(self) -> None:
        heard: dict[int, list[str]] = {}
        for clause in self._clauses:
            if text := clause.heard(self.now):
                heard.setdefault(clause.gen, []).append(text)
        self._clauses = []
        self.feed(inp.PlaybackStopped(tuple((g, " ".join(t)) for g, t in heard.items())))
