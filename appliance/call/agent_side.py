# SPDX-License-Identifier: Apache-2.0
"""The agent's answer: generated, spoken clause by clause, with tools between. Part of the call core."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from appliance.call import actions as act
from appliance.call import inputs as inp
from appliance.call.core import Core
from appliance.call.parts import CallerTurn, LatencySource, Reply
from appliance.call.states import State
from appliance.plugin import LlmRequest, ToolCall


class AgentSide:
    """Follows one answer at a time.

    Args:
        core: shared ground.
        heard: called when an answer is complete and the caller has heard all of it.
        failed: called when an answer cannot be had.
    """

    def __init__(
        self, core: Core, heard: Callable[[Reply], None], failed: Callable[[], None]
    ) -> None:
        self._core = core
        self._heard = heard
        self._failed = failed
        self._gen = 0
        self._source: LatencySource | None = None
        self.reply: Reply | None = None

    # -- beginning an answer -----------------------------------------------------------------

    def answer_turn(self, turn: CallerTurn) -> None:
        """Answer a committed turn; its latency is counted from the turn's last speech."""
        self._source = LatencySource(turn.id, turn.silent_since_ms, turn.due_ms, self._core.now)
        self.answer()

    def answer(self) -> None:
        """Begin a new answer of the model to the dialogue as it stands."""
        self._gen += 1
        self.reply = Reply(self._gen, self._gen)
        self._generate(self.reply)

    def say(self, text: str, *, hang_up: bool = False, interruptible: bool = True) -> None:
        """Say a fixed phrase as an answer of its own."""
        self._gen += 1
        reply = Reply(self._gen, self._gen, canned=True, hang_up=hang_up)
        reply.interruptible, reply.generated = interruptible, True
        reply.texts[reply.gen] = text
        self.reply = reply
        self._core.go(State.PROCESSING)
        self._expect_sound()
        self._speak(reply, [*reply.splitter.push(text), *reply.splitter.flush()])

    def take(self) -> Reply | None:
        """Give the answer up: cancel its generation and return it. Its speech is not stopped."""
        reply, self.reply = self.reply, None
        self._core.clear("reply")
        if reply is not None and not reply.generated:
            self._core.do(act.CancelGenerate(reply.gen))
        return reply

    def remember(self, reply: Reply) -> None:
        """Write the current generation of an answer, and what it called, into the history."""
        calls = tuple(reply.calls.values())
        text = reply.texts.get(reply.gen, "").strip()
        self._core.dialogue.add_assistant(reply.gen, text, calls)
        for call in calls:
            self._core.dialogue.add_tool_result(call, reply.results[call.id].content)

    # -- what the model says -----------------------------------------------------------------

    def text(self, value: inp.ReplyText) -> None:
        """Take a piece of text; speak the clauses it completes."""
        if (reply := self._current(value.gen)) is None:
            return
        if reply.first_text_ms is None:
            reply.first_text_ms = self._core.now
        reply.texts[reply.gen] = reply.texts.get(reply.gen, "") + value.text
        self._speak(reply, reply.splitter.push(value.text))

    def tool_call(self, value: inp.ReplyToolCall) -> None:
        """Run a tool at once; what was said before it is spoken meanwhile."""
        if (reply := self._current(value.gen)) is None:
            return
        self._speak(reply, reply.splitter.flush())
        reply.calls[value.id] = ToolCall(value.id, value.name, value.arguments)
        reply.tools_used = True
        self._core.record("tool.called", id=value.id, name=value.name, arguments=value.arguments)
        self._core.do(act.RunTool(value.gen, value.id, value.name, value.arguments))

    def generated(self, value: inp.ReplyEnded) -> None:
        """The model has said all."""
        if (reply := self._current(value.gen)) is None:
            return
        self._speak(reply, reply.splitter.flush())
        reply.generated = True
        if not reply.calls and not reply.text():
            self._core.record("error", stage="reply", message="the model gave an empty answer")
            self._failed()
        else:
            self._advance(reply)

    def generation_failed(self, value: inp.ReplyFailed) -> None:
        """No model could answer."""
        if self._current(value.gen) is not None:
            self._failed()

    def tool_finished(self, value: inp.ToolFinished) -> bool:
        """Take a tool's result; False when it is not of this answer."""
        if (reply := self._current(value.gen)) is None:
            return False
        reply.results[value.id] = value
        self._advance(reply)
        return True

    # -- what the caller hears ---------------------------------------------------------------

    def playback_started(self, value: inp.PlaybackStarted) -> bool:
        """Speech is audible; return whether it is the first of an answer of the model."""
        reply = self._of_reply(value.gen)
        if reply is None:
            return False
        self._core.clear("reply")
        self._core.go(State.SPEAKING)
        if reply.audible:
            return False
        reply.audible = True
        self._record_latency(reply, value.synthesis_ms)
        return not reply.canned

    def playback_idle(self, value: inp.PlaybackIdle) -> None:
        """All speech asked for was heard: the answer is over, or silent until there is more."""
        reply = self.reply
        if reply is None or value.gen != reply.spoken_gen:
            return
        reply.idle = True
        if reply.generated and not reply.tools_running:
            self._finish_if_heard(reply)
        elif self._core.state is State.SPEAKING:
            self._core.go(State.PROCESSING)
            self._expect_sound()

    def concerns(self, gen: int) -> bool:
        """Return whether a generation belongs to the current answer."""
        return self._of_reply(gen) is not None

    # -- inside ------------------------------------------------------------------------------

    def _current(self, gen: int) -> Reply | None:
        reply = self.reply
        return reply if reply is not None and reply.gen == gen else None

    def _of_reply(self, gen: int) -> Reply | None:
        reply = self.reply
        return reply if reply is not None and reply.first_gen <= gen <= reply.gen else None

    def _generate(self, reply: Reply) -> None:
        core, agent = self._core, self._core.script.agent
        reply.generated = False
        reply.calls, reply.results = {}, {}
        last_round = reply.rounds >= agent.limits.tool_rounds
        request = LlmRequest(
            messages=core.dialogue.messages(agent.limits.history_messages),
            tools=() if last_round else core.script.tools,
            max_tokens=agent.limits.reply_tokens,
            temperature=agent.temperature,
            call_id=core.script.call_id,
        )
        if core.state is not State.SPEAKING:
            core.go(State.PROCESSING)
        self._expect_sound()
        core.record("reply.started", gen=reply.gen)
        core.do(act.Generate(reply.gen, request))

    def _expect_sound(self) -> None:
        self._core.set("reply", self._core.now + self._core.timing.reply_timeout_ms)

    def _advance(self, reply: Reply) -> None:
        """The model has finished and perhaps its tools: go on, or wait for the wire."""
        if not reply.generated or reply.tools_running:
            return
        if reply.calls:
            self.remember(reply)
            reply.hang_up = any(result.end_call for result in reply.results.values())
            if not reply.hang_up:
                self._gen += 1
                reply.gen, reply.rounds = self._gen, reply.rounds + 1
                self._generate(reply)
                return
            reply.calls, reply.remembered = {}, True
            if not reply.spoken_gen:
                goodbye = self._core.script.agent.phrases.goodbye
                reply.texts[reply.gen] = goodbye
                self._speak(reply, [goodbye])
        self._finish_if_heard(reply)

    def _speak(self, reply: Reply, clauses: Sequence[str]) -> None:
        for clause in clauses:
            if reply.first_clause_ms is None:
                reply.first_clause_ms = self._core.now
            reply.spoken_gen, reply.idle = reply.gen, False
            self._core.record("reply.clause", gen=reply.gen, text=clause)
            self._core.do(act.Speak(reply.gen, clause))

    def _finish_if_heard(self, reply: Reply) -> None:
        if not reply.idle:
            return
        if not reply.remembered:
            self.remember(reply)
        self._core.record("speak.ended", gen=reply.gen, heard=reply.text())
        self.reply = None
        self._core.clear("reply")
        self._heard(reply)

    def _record_latency(self, reply: Reply, synthesis_ms: int) -> None:
        source, self._source = self._source, None
        if source is None or reply.canned:
            return
        now, committed = self._core.now, source.committed_ms
        first_text = reply.first_text_ms or committed
        parts = {
            "end_of_turn": source.due_ms - source.silent_since_ms,
            "recognition_wait": committed - source.due_ms,
            "first_text": first_text - committed,
            "first_clause": (reply.first_clause_ms or first_text) - first_text,
            "synthesis": synthesis_ms,
        }
        total = now - source.silent_since_ms
        parts["playout"] = total - sum(parts.values())
        self._core.record(
            "latency", turn=source.turn, total=total, parts=parts, tool=reply.tools_used
        )
