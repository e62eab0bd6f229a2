# SPDX-License-Identifier: Apache-2.0
"""The call core: inputs and their time go in, actions come out. No socket, task, thread or clock.

The shell (`appliance.call.shell`) feeds it and does what it asks. Everything it is told and everything
it decides goes into one event log, from which `appliance.call.replay` can run it again.

Here the two sides meet: whose turn it is, interruption, silence, hold, failure and the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from appliance.call import actions as act
from appliance.call import inputs as inp
from appliance.call.admission import Level
from appliance.call.agent_side import AgentSide
from appliance.call.caller_side import CallerSide
from appliance.call.core import Core, Script
from appliance.call.dialogue import Dialogue
from appliance.call.log import EventLog
from appliance.call.parts import CallerTurn, Reply
from appliance.call.states import State
from appliance.plugin import Role

HANG_UP_GRACE_MS = 5000
"""How long the far end may take to confirm our hang-up before the call is closed anyway."""

LINGER_MS = 300
"""From the agent's last word to the hang-up: the far end's jitter buffer still holds that word."""

NOT_UNDERSTOOD_MS = 1000
"""Speech at least this long without any word is answered; shorter sounds are let pass."""


class CallMachine:
    """Turn-taking, interruption and dialogue of one call.

    Args:
        script: the agent's part.
        log: receives every event.
    """

    def __init__(self, script: Script, log: EventLog) -> None:
        self._core = Core(script, log)
        self._caller = CallerSide(
            self._core,
            decide=self._decide,
            words=self._words_are_known,
            more=lambda: self._agent.withdraw("more speech"),
            failed=self._fail,
        )
        self._agent = AgentSide(self._core, self._answer_was_heard, self._fail)
        self._phrases = script.agent.phrases
        self._limits = script.agent.limits
        self._cut: Reply | None = None  # interrupted, and neither resumed nor answered over yet
        self._cut_rest = ""
        self._stopping: Reply | None = None  # speech dropped; what was heard is not known yet
        self._prompts = 0
        self._failures = 0
        self._closing = False
        self._handlers: dict[type[Any], Callable[[Any], Any]] = {
            inp.Answered: self._answered,
            inp.SpeechStarted: self._speech_started,
            inp.SpeechStopped: self._speech_stopped,
            inp.SpeechSuspected: self._caller.speech_suspected,
            inp.InterimTranscript: self._caller.interim,
            inp.FinalTranscript: self._caller.final,
            inp.RecognitionFailed: self._caller.recognition_failed,
            inp.TurnJudged: self._caller.judged,
            inp.ReplyText: self._agent.text,
            inp.ReplyToolCall: self._agent.tool_call,
            inp.ReplyEnded: self._agent.generated,
            inp.ReplyFailed: self._agent.generation_failed,
            inp.ToolFinished: self._tool_finished,
            inp.PlaybackStarted: self._playback_started,
            inp.PlaybackIdle: self._agent.playback_idle,
            inp.PlaybackStopped: self._playback_stopped,
            inp.SpeechFailed: self._speech_failed,
            inp.DtmfPressed: _logged_only,
            inp.HoldChanged: self._hold_changed,
            inp.LoadChanged: self._load_changed,
            inp.LegEnded: self._leg_ended,
            inp.Timer: _logged_only,
        }
        self._deadlines: dict[str, Callable[[], None]] = {
            "end_of_turn": self._caller.end_of_turn,
            "recognize": self._caller.recognizer_is_late,
            "barge_in": self._barge_in,
            "reply": self._reply_is_late,
            "silence": self._silence,
            "max_call": self._call_is_too_long,
            "linger": self._hang_up,
            "hang_up": lambda: self._leg_ended(inp.LegEnded("local_hangup")),
        }

    # -- the surface -------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What the call is doing."""
        return self._core.state

    @property
    def dialogue(self) -> Dialogue:
        """The history as the model sees it."""
        return self._core.dialogue

    def handle(self, value: inp.Input, t_ms: int) -> list[act.Action]:
        """Take one input at media time `t_ms` and return what is to be done, in order."""
        core = self._core
        actions: list[act.Action] = []
        core.actions = actions
        if self.state is State.ENDED:
            return actions
        core.now = max(core.now, t_ms)
        if not isinstance(value, inp.Timer) or core.due():
            core.log.append(core.now, value.kind, inp.to_data(value))
        for name in core.due():
            if core.clear(name):
                self._deadlines[name]()
        if not self._is_over():
            self._handlers[type(value)](value)
        return actions

    def next_deadline(self) -> int | None:
        """Return the media time at which a `Timer` is wanted, or None."""
        return min(self._core.deadlines.values(), default=None)

    def _is_over(self) -> bool:
        return self.state is State.ENDED

    # -- whose turn it is --------------------------------------------------------------------

    def _answered(self, _: inp.Answered) -> None:
        core = self._core
        core.set("max_call", core.now + self._limits.max_call_s * 1000)
        if core.script.greeting:
            interruptible = core.script.agent.interruptible_greeting
            self._agent.say(core.script.greeting, interruptible=interruptible)
        else:
            self._listen()

    def _listen(self) -> None:
        self._core.go(State.LISTENING)
        turn = self._caller.turn
        if turn is None:
            self._core.set("silence", self._core.now + self._core.timing.silence_prompt_ms)
        elif not turn.speaking and not turn.over and turn.final is not None:
            self._words_are_known(turn)

    def _speech_started(self, value: inp.SpeechStarted) -> None:
        if self._closing or self.state in {State.IDLE, State.HELD}:
            return
        core = self._core
        core.clear("silence")
        self._caller.speech_started(value)
        if self._may_interrupt(self._agent.reply):
            core.set("barge_in", value.onset_ms + core.timing.barge_in_ms)
            if self.state is State.SPEAKING:
                core.do(act.Duck(core.timing.duck_db))

    def _speech_stopped(self, value: inp.SpeechStopped) -> None:
        if self._core.clear("barge_in") and self.state is State.SPEAKING:
            self._core.do(act.Duck(0.0))
        self._caller.speech_stopped(value)

    def _words_are_known(self, turn: CallerTurn) -> None:
        """The caller is silent and may have finished: prepare the answer."""
        core, text = self._core, turn.final or ""
        possible = core.timing.speculation and core.load < Level.LEAN
        listening = self.state is State.LISTENING and self._agent.reply is None
        history_is_whole = self._stopping is None and not (self._cut and self._cut.tools_running)
        is_answered = text and not (self._cut is not None and self._is_backchannel(text))
        if possible and listening and history_is_whole and is_answered and not self._closing:
            self._agent.speculate(turn)

    def _decide(self, turn: CallerTurn) -> None:
        """The turn is over and its words are known: answer it, or let it pass."""
        text = turn.final or ""
        reply = self._agent.reply
        if reply is not None:  # the caller spoke briefly while the agent speaks or thinks
            if not text or self._is_backchannel(text) or not self._may_interrupt(reply):
                self._caller.drop()
                self._core.record("overlap.ignored", turn=turn.id, text=text)
                return
            self._interrupt()
        if self._stopping is not None or (self._cut is not None and self._cut.tools_running):
            return  # what was heard and called must be in the history before these words
        self._caller.drop()
        if not text or (self._cut is not None and self._is_backchannel(text)):
            self._agent.withdraw("no words")
            self._nothing_said(turn, text)
            return
        self._cut, self._cut_rest, self._prompts = None, "", 0
        self._core.record("turn.committed", turn=turn.id, text=text)
        self._core.dialogue.add_user(text)
        self._agent.answer_turn(turn)

    def _nothing_said(self, turn: CallerTurn, text: str) -> None:
        self._core.record("turn.empty", turn=turn.id, text=text)
        if self._cut is not None:
            self._resume()
        elif turn.lost or turn.speech_ms >= NOT_UNDERSTOOD_MS:
            self._agent.say(self._phrases.not_understood)
        else:
            self._listen()

    def _answer_was_heard(self, reply: Reply) -> None:
        if not reply.hang_up:
            self._listen()
            return
        self._closing = True
        self._caller.drop()
        self._core.deadlines = {"linger": self._core.now + LINGER_MS}

    # -- interruption ------------------------------------------------------------------------

    def _may_interrupt(self, reply: Reply | None) -> bool:
        return reply is not None and self._core.timing.barge_in and reply.interruptible

    def _is_backchannel(self, text: str) -> bool:
        return text.lower().strip(" .,!?…") in self._core.timing.backchannels

    def _barge_in(self) -> None:
        if self._caller.turn is not None and self._caller.turn.speaking:
            self._interrupt()

    def _interrupt(self) -> None:
        """Stop the agent. What was heard comes back as `PlaybackStopped`."""
        reply = self._agent.take()
        if reply is None:
            return
        self._cut, self._cut_rest = reply, ""
        self._core.go(State.LISTENING)
        if reply.spoken_gen:
            self._stopping = reply
            self._core.do(act.StopSpeaking())
        else:
            self._settle(reply, ())

    def _playback_stopped(self, value: inp.PlaybackStopped) -> None:
        reply, self._stopping = self._stopping, None
        if reply is not None:
            self._settle(reply, value.heard)
        self._caller.decide_if_over()

    def _settle(self, reply: Reply, heard: tuple[tuple[int, str], ...]) -> None:
        """Put into the history what the caller heard of the interrupted answer, and no more."""
        by_gen = {gen: text for gen, text in heard if gen >= reply.first_gen}
        said = " ".join(text for text in by_gen.values() if text)
        if self._cut is reply and reply.generated:
            self._cut_rest = reply.text()[len(said) :].strip()
        self._core.dialogue.keep_heard(reply.first_gen, by_gen)
        reply.texts[reply.gen] = by_gen.get(reply.gen, "")
        if not reply.tools_running and not reply.remembered:
            self._agent.remember(reply)
        self._core.record("interruption", gen=reply.gen, heard=said)

    def _resume(self) -> None:
        """It was no interruption: say the rest, or think again when nothing was ready."""
        reply, rest = self._cut, self._cut_rest
        self._cut, self._cut_rest = None, ""
        last = self._core.dialogue.messages(1)[-1].role
        if reply is not None and rest:
            self._agent.say(rest, hang_up=reply.hang_up)
        elif last in {Role.USER, Role.TOOL}:
            self._agent.answer()
        else:
            self._listen()

    def _tool_finished(self, value: inp.ToolFinished) -> None:
        cut = self._cut
        if self._agent.tool_finished(value) or cut is None:
            return
        if cut.gen == value.gen and value.id in cut.calls:
            cut.results[value.id] = value
            if not cut.tools_running:
                self._agent.remember(cut)
                self._caller.decide_if_over()

    # -- failure -----------------------------------------------------------------------------

    def _playback_started(self, value: inp.PlaybackStarted) -> None:
        if self._agent.playback_started(value):
            self._failures = 0

    def _fail(self) -> None:
        """An engine failed: apologise, or give up after too many in a row. Never dead air."""
        self._failures += 1
        reply = self._agent.take()
        if reply is not None and reply.calls and not reply.tools_running:
            self._agent.remember(reply)
        elif reply is not None and not reply.canned:
            self._agent.remember_handed(reply)
        give_up = self._failures >= self._limits.failures
        phrase = self._phrases.giving_up if give_up else self._phrases.apology
        self._agent.say(phrase, hang_up=give_up, after=reply)

    def _reply_is_late(self) -> None:
        reply = self._agent.reply
        if reply is None:
            return
        self._core.record("error", stage="reply", message="no answer in time", late=True)
        if reply.generated:  # what hangs is the synthesizer or a tool: words cannot help
            self._agent.take()
            self._core.do(act.StopSpeaking())
            self._hang_up()
        else:
            self._fail()

    def _speech_failed(self, value: inp.SpeechFailed) -> None:
        reply = self._agent.reply
        if self._agent.draft_failed(value.gen):
            return
        if reply is None or not self._agent.concerns(value.gen):
            return
        self._failures += 1
        self._interrupt()
        self._cut, self._cut_rest = None, ""
        if reply.canned or self._failures >= self._limits.failures:
            self._hang_up()
        else:
            self._agent.say(self._phrases.apology)

    # -- silence, length, hold, end ----------------------------------------------------------

    def _silence(self) -> None:
        if self.state is not State.LISTENING or self._caller.turn is not None:
            return
        self._prompts += 1
        if self._prompts > self._limits.silence_prompts:
            self._agent.say(self._phrases.goodbye, hang_up=True)
        else:
            self._agent.say(self._phrases.still_there)

    def _call_is_too_long(self) -> None:
        self._core.record("limit", what="max_call_s")
        self._interrupt()
        self._caller.drop()
        self._cut = None
        self._agent.say(self._phrases.goodbye, hang_up=True, interruptible=False)

    def _hold_changed(self, value: inp.HoldChanged) -> None:
        if value.held and self.state not in {State.HELD, State.IDLE}:
            self._interrupt()
            self._drop_turn()
            self._core.clear("silence")
            self._core.go(State.HELD)
        elif not value.held and self.state is State.HELD:
            self._core.go(State.LISTENING)
            if self._cut is not None and not self._cut.tools_running:
                self._resume()
            else:
                self._listen()

    def _load_changed(self, value: inp.LoadChanged) -> None:
        self._core.load = value.level

    def _drop_turn(self) -> None:
        self._agent.withdraw("turn dropped")
        self._caller.drop()

    def _hang_up(self) -> None:
        self._closing = True
        self._drop_turn()
        self._core.deadlines = {"hang_up": self._core.now + HANG_UP_GRACE_MS}
        self._core.do(act.HangUp())

    def _leg_ended(self, value: inp.LegEnded) -> None:
        self._agent.take()
        self._caller.drop()
        self._core.deadlines.clear()
        self._core.go(State.ENDED)
        self._core.record("call.ended", cause=value.cause)


def _logged_only(_: object) -> None:
    """Some inputs matter for the log alone."""
