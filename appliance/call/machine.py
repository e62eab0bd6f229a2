# SPDX-License-Identifier: Apache-2.0
"""The call core: inputs and their time go in, actions come out. No socket, task, thread or clock.

The shell (`appliance.call.shell`) feeds it and does what it asks. Everything it is told and everything
it decides goes into one event log, from which `appliance.call.replay` can run it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.call import actions as act
from appliance.call import inputs as inp
from appliance.call.agent import Agent
from appliance.call.dialogue import Dialogue
from appliance.call.log import EventLog
from appliance.call.parts import CallerTurn, LatencySource, Reply
from appliance.call.states import TRANSITIONS, State
from appliance.plugin import LlmRequest, Role, ToolCall, ToolSpec, TurnContext

HANG_UP_GRACE_MS = 5000
"""How long the far end may take to confirm our hang-up before the call is closed anyway."""


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


class CallMachine:
    """Turn-taking, interruption and dialogue of one call.

    Args:
        script: the agent's part.
        log: receives every event.
    """

    def __init__(self, script: Script, log: EventLog) -> None:
        self.script = script
        self.log = log
        self.state = State.IDLE
        self.dialogue = Dialogue(script.system)
        self._timing = script.agent.turn_taking
        self._phrases = script.agent.phrases
        self._limits = script.agent.limits
        self._now = 0
        self._actions: list[act.Action] = []
        self._deadlines: dict[str, int] = {}
        self._turn: CallerTurn | None = None
        self._turns = 0
        self._reply: Reply | None = None
        self._cut: Reply | None = None  # interrupted, and neither resumed nor answered over yet
        self._cut_rest = ""
        self._stopping: Reply | None = (
            None  # its speech was dropped; what was heard is not known yet
        )
        self._gen = 0
        self._prompts = 0
        self._failures = 0
        self._closing = False
        self._source: LatencySource | None = None
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            inp.Answered: self._on_answered,
            inp.SpeechStarted: self._on_speech_started,
            inp.SpeechStopped: self._on_speech_stopped,
            inp.InterimTranscript: self._on_interim,
            inp.FinalTranscript: self._on_final,
            inp.RecognitionFailed: self._on_recognition_failed,
            inp.TurnJudged: self._on_judged,
            inp.ReplyText: self._on_reply_text,
            inp.ReplyToolCall: self._on_tool_call,
            inp.ReplyEnded: self._on_reply_ended,
            inp.ReplyFailed: self._on_reply_failed,
            inp.ToolFinished: self._on_tool_finished,
            inp.PlaybackStarted: self._on_playback_started,
            inp.PlaybackIdle: self._on_playback_idle,
            inp.PlaybackStopped: self._on_playback_stopped,
            inp.SpeechFailed: self._on_speech_failed,
            inp.DtmfPressed: lambda _: None,
            inp.HoldChanged: self._on_hold,
            inp.LegEnded: self._on_leg_ended,
            inp.Timer: lambda _: None,
        }

    # -- the surface -------------------------------------------------------------------------

    def handle(self, value: inp.Input, t_ms: int) -> list[act.Action]:
        """Take one input at media time `t_ms` and return what is to be done, in order."""
        self._actions = []
        if self.state is State.ENDED:
            return []
        self._now = max(self._now, t_ms)
        if not isinstance(value, inp.Timer) or self._due():
            self.log.append(self._now, value.kind, inp.to_data(value))
        self._run_due()
        if self.state is not State.ENDED:
            self._handlers[type(value)](value)
        return self._actions

    def next_deadline(self) -> int | None:
        """Return the media time at which a `Timer` is wanted, or None."""
        return min(self._deadlines.values(), default=None)

    # -- caller's turn -----------------------------------------------------------------------

    def _on_answered(self, _: inp.Answered) -> None:
        self._deadlines["max_call"] = self._now + self._limits.max_call_s * 1000
        if self.script.greeting:
            self._say(self.script.greeting, interruptible=self.script.agent.interruptible_greeting)
        else:
            self._listen()

    def _on_speech_started(self, value: inp.SpeechStarted) -> None:
        if self._closing or self.state in {State.IDLE, State.HELD}:
            return
        self._deadlines.pop("silence", None)
        turn = self._turn
        if turn is None:
            self._turns += 1
            turn = self._turn = CallerTurn(self._turns, value.onset_ms)
            start = max(0, value.onset_ms - self._timing.pre_roll_ms)
            self._do(act.OpenRecognition(turn.id, start))
        else:  # more speech before the decision: the turn goes on
            turn.speaking, turn.final, turn.over = True, None, False
            self._clear("end_of_turn", "recognize")
        reply = self._reply
        if reply is not None and self._may_interrupt(reply):
            self._deadlines["barge_in"] = value.onset_ms + self._timing.barge_in_ms
            if self.state is State.SPEAKING:
                self._do(act.Duck(self._timing.duck_db))

    def _on_speech_stopped(self, value: inp.SpeechStopped) -> None:
        turn = self._turn
        if turn is None or not turn.speaking:
            return
        turn.speaking, turn.silent_since_ms, turn.final = False, value.since_ms, None
        turn.flush += 1
        if self._deadlines.pop("barge_in", None) is not None and self.state is State.SPEAKING:
            self._do(act.Duck(0.0))
        self._do(act.FlushRecognition(turn.id, turn.flush))
        self._deadlines["end_of_turn"] = value.since_ms + self._timing.end_of_turn_ms

    def _on_interim(self, value: inp.InterimTranscript) -> None:
        if self._turn is not None and self._turn.id == value.turn:
            self._turn.interim = value.text

    def _on_final(self, value: inp.FinalTranscript) -> None:
        turn = self._turn
        if turn is None or (turn.id, turn.flush) != (value.turn, value.flush) or turn.speaking:
            return
        turn.final = value.text.strip()
        if turn.over:
            self._decide(turn)
        elif self.script.judge_turns and turn.final:
            context = TurnContext(
                text=turn.final,
                silence_s=(self._now - turn.silent_since_ms) / 1000,
                speech_s=(turn.silent_since_ms - turn.onset_ms) / 1000,
                agent_text=self.dialogue.last_assistant(),
                language=self.script.agent.language,
            )
            self._do(act.JudgeTurn(turn.id, turn.flush, context))

    def _on_judged(self, value: inp.TurnJudged) -> None:
        turn = self._turn
        if turn is None or (turn.id, turn.flush) != (value.turn, value.flush) or turn.speaking:
            return
        if value.probability < 0.5 and not turn.over:
            wait = self._timing.unsure_end_of_turn_ms
            self._deadlines["end_of_turn"] = turn.silent_since_ms + wait

    def _on_recognition_failed(self, value: inp.RecognitionFailed) -> None:
        if self._turn is None or self._turn.id != value.turn:
            return
        self._drop_turn()
        self._fail()

    def _end_of_turn(self) -> None:
        turn = self._turn
        if turn is None or turn.speaking:
            return
        turn.over, turn.due_ms = True, self._now
        if turn.final is not None:
            self._decide(turn)
        else:
            self._deadlines["recognize"] = self._now + self._timing.recognize_timeout_ms

    def _recognizer_is_late(self) -> None:
        turn = self._turn
        if turn is not None and turn.over:
            self._record("error", stage="recognition", message="no final transcript in time")
            turn.final = turn.interim.strip()
            self._decide(turn)

    def _decide(self, turn: CallerTurn) -> None:
        """The turn is over and its words are known: answer it, or let it pass."""
        text = turn.final or ""
        reply = self._reply
        if reply is not None:  # the caller spoke briefly while the agent speaks or thinks
            if not text or self._is_backchannel(text) or not self._may_interrupt(reply):
                self._drop_turn()
                self._record("overlap.ignored", turn=turn.id, text=text)
                return
            self._interrupt()
        if self._stopping is not None or (self._cut is not None and self._cut.tools_running):
            return  # what was heard and called must be in the history before the caller's next words
        self._drop_turn()
        if not text or (self._cut is not None and self._is_backchannel(text)):
            self._nothing_said(turn, text)
        else:
            self._commit(turn, text)

    def _nothing_said(self, turn: CallerTurn, text: str) -> None:
        self._record("turn.empty", turn=turn.id, text=text)
        if self._cut is not None:
            self._resume()
        elif turn.silent_since_ms - turn.onset_ms >= 1000:
            self._say(self._phrases.not_understood)
        else:
            self._listen()

    def _commit(self, turn: CallerTurn, text: str) -> None:
        self._cut, self._cut_rest, self._prompts = None, "", 0
        self._record("turn.committed", turn=turn.id, text=text)
        self._source = LatencySource(turn.id, turn.silent_since_ms, turn.due_ms, self._now)
        self.dialogue.add_user(text)
        self._answer()

    def _drop_turn(self) -> None:
        if self._turn is not None:
            self._do(act.CloseRecognition(self._turn.id))
            self._turn = None
        self._clear("end_of_turn", "recognize", "barge_in")

    # -- interruption ------------------------------------------------------------------------

    def _may_interrupt(self, reply: Reply) -> bool:
        return self._timing.barge_in and reply.interruptible

    def _is_backchannel(self, text: str) -> bool:
        words = text.lower().strip(" .,!?…")
        return words in self._timing.backchannels

    def _barge_in(self) -> None:
        if self._turn is not None and self._turn.speaking and self._reply is not None:
            self._interrupt()

    def _interrupt(self) -> None:
        """Stop the agent. What was heard comes back as `PlaybackStopped`, at once."""
        reply = self._reply
        if reply is None:
            return
        if not reply.generated and not reply.canned:
            self._do(act.CancelGenerate(reply.gen))
        self._clear("reply")
        self._reply, self._cut, self._cut_rest = None, reply, ""
        self._go(State.LISTENING)
        if reply.spoken_gen:
            self._stopping = reply
            self._do(act.StopSpeaking())
        else:
            self._settle(reply, ())

    def _on_playback_stopped(self, value: inp.PlaybackStopped) -> None:
        reply, self._stopping = self._stopping, None
        if reply is not None:
            self._settle(reply, value.heard)
        self._decide_if_over()

    def _settle(self, reply: Reply, heard: tuple[tuple[int, str], ...]) -> None:
        """Put into the history what the caller heard of the interrupted answer, and no more."""
        by_gen = {gen: text for gen, text in heard if gen >= reply.first_gen}
        said = " ".join(text for text in by_gen.values() if text)
        if self._cut is reply and reply.generated:
            self._cut_rest = reply.text()[len(said) :].strip()
        self.dialogue.keep_heard(reply.first_gen, by_gen)
        reply.texts[reply.gen] = by_gen.get(reply.gen, "")
        if not reply.tools_running:
            self._remember(reply)
        self._record("interruption", gen=reply.gen, heard=said)

    def _decide_if_over(self) -> None:
        if self._turn is not None and self._turn.over and self._turn.final is not None:
            self._decide(self._turn)

    def _resume(self) -> None:
        """It was no interruption: say the rest, or think again when nothing was ready."""
        reply, rest = self._cut, self._cut_rest
        self._cut, self._cut_rest = None, ""
        last = self.dialogue.messages(1)[-1].role
        if reply is not None and rest:
            self._say(rest, hang_up=reply.hang_up)
        elif last in {Role.USER, Role.TOOL}:
            self._answer()
        else:
            self._listen()

    # -- agent's answer ----------------------------------------------------------------------

    def _answer(self) -> None:
        """Begin a new answer of the model to the dialogue as it stands."""
        self._gen += 1
        self._reply = Reply(self._gen, self._gen, self._now)
        self._generate(self._reply)

    def _generate(self, reply: Reply) -> None:
        reply.generated = False
        reply.calls, reply.results = {}, {}
        last_round = reply.rounds >= self._limits.tool_rounds
        request = LlmRequest(
            messages=self.dialogue.messages(self._limits.history_messages),
            tools=() if last_round else self.script.tools,
            max_tokens=self._limits.reply_tokens,
            temperature=self.script.agent.temperature,
            call_id=self.script.call_id,
        )
        if not reply.audible:
            self._go(State.PROCESSING)
        self._deadlines["reply"] = self._now + self._timing.reply_timeout_ms
        self._record("reply.started", gen=reply.gen)
        self._do(act.Generate(reply.gen, request))

    def _say(self, text: str, *, hang_up: bool = False, interruptible: bool = True) -> None:
        """Say a fixed phrase as an answer of its own."""
        self._gen += 1
        reply = Reply(self._gen, self._gen, self._now, canned=True, hang_up=hang_up)
        reply.interruptible, reply.generated = interruptible, True
        reply.texts[reply.gen] = text
        self._reply = reply
        self._go(State.PROCESSING)
        self._deadlines["reply"] = self._now + self._timing.reply_timeout_ms
        self._speak(reply, [*reply.splitter.push(text), *reply.splitter.flush()])

    def _current(self, gen: int) -> Reply | None:
        reply = self._reply
        return reply if reply is not None and reply.gen == gen else None

    def _on_reply_text(self, value: inp.ReplyText) -> None:
        if (reply := self._current(value.gen)) is None:
            return
        if reply.first_text_ms is None:
            reply.first_text_ms = self._now
        reply.texts[reply.gen] = reply.texts.get(reply.gen, "") + value.text
        self._speak(reply, reply.splitter.push(value.text))

    def _on_tool_call(self, value: inp.ReplyToolCall) -> None:
        if (reply := self._current(value.gen)) is None:
            return
        self._speak(reply, reply.splitter.flush())
        reply.calls[value.id] = ToolCall(value.id, value.name, value.arguments)
        reply.tools_used = True
        self._record("tool.called", id=value.id, name=value.name, arguments=value.arguments)
        self._do(act.RunTool(value.gen, value.id, value.name, value.arguments))

    def _on_reply_ended(self, value: inp.ReplyEnded) -> None:
        if (reply := self._current(value.gen)) is None:
            return
        self._speak(reply, reply.splitter.flush())
        reply.generated = True
        if not reply.calls and not reply.text():
            self._record("error", stage="reply", message="the model gave an empty answer")
            self._fail()
            return
        self._advance(reply)

    def _on_tool_finished(self, value: inp.ToolFinished) -> None:
        if (reply := self._current(value.gen)) is not None:
            reply.results[value.id] = value
            self._advance(reply)
            return
        cut = self._cut
        if cut is not None and cut.gen == value.gen and value.id in cut.calls:
            cut.results[value.id] = value
            if not cut.tools_running:
                self._remember(cut)
                self._decide_if_over()

    def _advance(self, reply: Reply) -> None:
        """The model has finished and perhaps its tools: go on, or wait for the wire."""
        if not reply.generated or reply.tools_running:
            return
        if reply.calls:
            self._remember(reply)
            reply.hang_up = any(result.end_call for result in reply.results.values())
            if not reply.hang_up:
                self._gen += 1
                reply.gen, reply.rounds = self._gen, reply.rounds + 1
                self._generate(reply)
                return
            reply.calls = {}
            if not reply.spoken_gen:
                reply.texts[reply.gen] = self._phrases.goodbye
                self._speak(reply, [self._phrases.goodbye])
        self._finish_if_heard(reply)

    def _remember(self, reply: Reply) -> None:
        """Write the current generation of an answer into the history."""
        calls = tuple(reply.calls.values())
        self.dialogue.add_assistant(reply.gen, reply.texts.get(reply.gen, "").strip(), calls)
        for call in calls:
            self.dialogue.add_tool_result(call, reply.results[call.id].content)

    def _speak(self, reply: Reply, clauses: Sequence[str]) -> None:
        for clause in clauses:
            if reply.first_clause_ms is None:
                reply.first_clause_ms = self._now
            reply.spoken_gen, reply.idle = reply.gen, False
            self._record("reply.clause", gen=reply.gen, text=clause)
            self._do(act.Speak(reply.gen, clause))

    def _on_playback_started(self, value: inp.PlaybackStarted) -> None:
        reply = self._reply
        if reply is None or not reply.first_gen <= value.gen <= reply.gen:
            return
        self._clear("reply")
        self._go(State.SPEAKING)
        if not reply.audible:
            reply.audible = True
            self._record_latency(reply, value.synthesis_ms)
            if not reply.canned:
                self._failures = 0

    def _on_playback_idle(self, value: inp.PlaybackIdle) -> None:
        reply = self._reply
        if reply is None or value.gen != reply.spoken_gen:
            return
        reply.idle = True
        if reply.generated and not reply.tools_running:
            self._finish_if_heard(reply)
        elif self.state is State.SPEAKING:
            self._go(State.PROCESSING)
            self._deadlines["reply"] = self._now + self._timing.reply_timeout_ms

    def _finish_if_heard(self, reply: Reply) -> None:
        if not reply.idle:
            return
        if (
            not reply.tools_used or not reply.hang_up
        ):  # else its last generation is in there already
            self._remember(reply)
        self._record("speak.ended", gen=reply.gen, heard=reply.text())
        self._reply = None
        self._clear("reply")
        if reply.hang_up:
            self._hang_up()
        else:
            self._listen()

    def _record_latency(self, reply: Reply, synthesis_ms: int) -> None:
        source, self._source = self._source, None
        if source is None or reply.canned:
            return
        committed = source.committed_ms
        first_text = reply.first_text_ms or committed
        parts = {
            "end_of_turn": source.due_ms - source.silent_since_ms,
            "recognition_wait": committed - source.due_ms,
            "first_text": first_text - committed,
            "first_clause": (reply.first_clause_ms or first_text) - first_text,
            "synthesis": synthesis_ms,
        }
        total = self._now - source.silent_since_ms
        parts["playout"] = total - sum(parts.values())
        self._record("latency", turn=source.turn, total=total, parts=parts, tool=reply.tools_used)

    # -- failure, silence, hold, end ---------------------------------------------------------

    def _on_reply_failed(self, value: inp.ReplyFailed) -> None:
        if self._current(value.gen) is not None:
            self._fail()

    def _reply_is_late(self) -> None:
        reply = self._reply
        if reply is None:
            return
        self._record("error", stage="reply", message="no answer in time")
        if not reply.generated:
            self._do(act.CancelGenerate(reply.gen))
        if reply.canned or reply.generated:  # what hangs is the synthesizer: words cannot help
            self._do(act.StopSpeaking())
            self._hang_up()
        else:
            self._fail()

    def _on_speech_failed(self, value: inp.SpeechFailed) -> None:
        reply = self._reply
        if reply is None or not reply.first_gen <= value.gen <= reply.gen:
            return
        self._failures += 1
        if reply.canned or self._failures >= self._limits.failures:
            self._hang_up()
            return
        if not reply.generated:
            self._do(act.CancelGenerate(reply.gen))
        self._reply = None
        self._clear("reply")
        self._say(self._phrases.apology)

    def _fail(self) -> None:
        """An engine failed: apologise, or give up after too many in a row. Never dead air."""
        self._failures += 1
        reply, self._reply = self._reply, None
        if reply is not None and reply.calls and not reply.tools_running:
            self._remember(reply)
        give_up = self._failures >= self._limits.failures
        self._say(self._phrases.giving_up if give_up else self._phrases.apology, hang_up=give_up)

    def _silence(self) -> None:
        if self.state is not State.LISTENING or self._turn is not None:
            return
        self._prompts += 1
        if self._prompts > self._limits.silence_prompts:
            self._say(self._phrases.goodbye, hang_up=True)
        else:
            self._say(self._phrases.still_there)

    def _call_is_too_long(self) -> None:
        self._record("limit", what="max_call_s")
        if self._reply is not None:
            self._interrupt()
        self._drop_turn()
        self._cut = None
        self._say(self._phrases.goodbye, hang_up=True, interruptible=False)

    def _on_hold(self, value: inp.HoldChanged) -> None:
        if value.held and self.state not in {State.HELD, State.IDLE}:
            if self._reply is not None:
                self._interrupt()
            self._drop_turn()
            self._clear("silence")
            self._go(State.HELD)
        elif not value.held and self.state is State.HELD:
            if self._cut is not None and not self._cut.tools_running:
                self._go(State.LISTENING)
                self._resume()
            else:
                self._listen()

    def _listen(self) -> None:
        self._go(State.LISTENING)
        if self._turn is None:
            self._deadlines["silence"] = self._now + self._timing.silence_prompt_ms

    def _hang_up(self) -> None:
        self._closing = True
        self._drop_turn()
        self._deadlines = {"hang_up": self._now + HANG_UP_GRACE_MS}
        self._do(act.HangUp())

    def _on_leg_ended(self, value: inp.LegEnded) -> None:
        reply = self._reply
        if reply is not None and not reply.generated and not reply.canned:
            self._do(act.CancelGenerate(reply.gen))
        self._drop_turn()
        self._deadlines.clear()
        self._go(State.ENDED)
        self._record("call.ended", cause=value.cause)

    # -- small things ------------------------------------------------------------------------

    def _due(self) -> list[str]:
        due = [(at, name) for name, at in self._deadlines.items() if at <= self._now]
        return [name for _, name in sorted(due)]

    def _run_due(self) -> None:
        handlers = {
            "end_of_turn": self._end_of_turn,
            "recognize": self._recognizer_is_late,
            "barge_in": self._barge_in,
            "reply": self._reply_is_late,
            "silence": self._silence,
            "max_call": self._call_is_too_long,
            "hang_up": lambda: self._on_leg_ended(inp.LegEnded("local_hangup")),
        }
        for name in self._due():
            if self._deadlines.pop(name, None) is not None:
                handlers[name]()

    def _clear(self, *names: str) -> None:
        for name in names:
            self._deadlines.pop(name, None)

    def _do(self, action: act.Action) -> None:
        self._actions.append(action)

    def _record(self, kind: str, **data: Any) -> None:
        self.log.append(self._now, kind, data)

    def _go(self, state: State) -> None:
        if state is self.state:
            return
        if state not in TRANSITIONS[self.state]:
            msg = f"no transition from {self.state} to {state}"
            raise RuntimeError(msg)
        self._record("state", **{"from": self.state.value, "to": state.value})
        self.state = state
