# SPDX-License-Identifier: Apache-2.0
"""The agent's answer: generated, spoken clause by clause, with tools between. Part of the call core."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from appliance.call import actions as act
from appliance.call import inputs as inp
from appliance.call.admission import Level
from appliance.call.clauses import ClauseSplitter, Echo
from appliance.call.core import Core
from appliance.call.latency import LatencySource, breakdown
from appliance.call.parts import CallerTurn, Reply
from appliance.call.speculation import Speculation
from appliance.call.states import State
from appliance.plugin import LlmRequest, Message, ToolCall

BRIEF_TOKENS = 64
"""Longest answer of a box under load: a sentence or two, or one tool call."""

RETRY_MS = 1200
"""Longest silence after a model broke off in mid-answer; then the agent apologises."""


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
        self._speculation = Speculation(core)
        self.reply: Reply | None = None

    # -- beginning an answer -----------------------------------------------------------------

    def speculate(self, turn: CallerTurn) -> None:
        """Draft the answer to a turn that may not be over."""
        dialogue, limits = self._core.dialogue, self._core.script.agent.limits
        messages = dialogue.messages_with(turn.final or "", limits.history_messages)
        if not self._speculation.covers(messages):
            self._gen += 1
            self._speculation.begin(turn, self._gen, self._request(messages, 0))

    def withdraw(self, why: str) -> None:
        """Discard what was drafted."""
        self._speculation.discard(why)

    def answer_turn(self, turn: CallerTurn) -> None:
        """Answer a committed turn; its latency is counted from the turn's last speech."""
        self._source = LatencySource(turn.id, turn.silent_since_ms, turn.due_ms, self._core.now)
        drafted = self._speculation.commit(turn, self._messages())
        if drafted is None:
            self.answer()
        else:
            self._adopt(*drafted)

    def answer(self) -> None:
        """Begin a new answer of the model to the dialogue as it stands."""
        self.withdraw("another answer")
        self._gen += 1
        self.reply = Reply(self._gen, self._gen)
        self._generate(self.reply)

    def say(
        self,
        text: str,
        *,
        hang_up: bool = False,
        interruptible: bool = True,
        after: Reply | None = None,
    ) -> None:
        """Say a fixed phrase as an answer of its own, `after` the speech of one that was given up."""
        self.withdraw("another answer")
        self._gen += 1
        reply = Reply(self._gen, self._gen, canned=True, hang_up=hang_up)
        reply.interruptible, reply.generated = interruptible, True
        if after is not None and after.spoken_gen:
            reply.first_gen, reply.texts = after.first_gen, dict(after.texts)
        reply.texts[reply.gen] = text
        self.reply = reply
        self._core.go(State.PROCESSING)
        self._expect_sound(reply)
        self._speak(reply, [*reply.splitter.push(text), *reply.splitter.flush()])

    def take(self) -> Reply | None:
        """Give the answer up: cancel its generation and return it. Its speech is not stopped."""
        self.withdraw("given up")
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

    def remember_handed(self, reply: Reply) -> None:
        """Write into the history what an answer that broke off gave to the synthesizer."""
        if not reply.remembered:
            reply.texts[reply.gen] = reply.handed(reply.gen)
            self._core.dialogue.add_assistant(reply.gen, reply.texts[reply.gen])
            reply.remembered = True

    # -- what the model says -----------------------------------------------------------------

    def text(self, value: inp.ReplyText) -> None:
        """Take a piece of text; speak the clauses it completes."""
        if self._speculation.text(value) or (reply := self._current(value.gen)) is None:
            return
        text = value.text
        if reply.echo is not None:
            if not (text := reply.echo.push(text)):
                return
            reply.echo = None
        if reply.first_text_ms is None:
            reply.first_text_ms = self._core.now
        reply.texts[reply.gen] = reply.texts.get(reply.gen, "") + text
        self._speak(reply, reply.splitter.push(text))

    def tool_call(self, value: inp.ReplyToolCall) -> None:
        """Run a tool at once; what was said before it is spoken meanwhile."""
        if self._speculation.tool_call(value) or (reply := self._current(value.gen)) is None:
            return
        self._speak(reply, reply.splitter.flush())
        self._run(reply, ToolCall(value.id, value.name, value.arguments))

    def generated(self, value: inp.ReplyEnded) -> None:
        """The model has said all."""
        if self._speculation.ended(value) or (reply := self._current(value.gen)) is None:
            return
        rest = reply.splitter.flush()
        cut_off = 0 < reply.max_tokens <= value.completion_tokens
        if cut_off and reply.handed(reply.gen) and not reply.calls:
            reply.texts[reply.gen] = reply.handed(reply.gen)  # half a sentence is not spoken
        else:
            self._speak(reply, rest)
        reply.generated = True
        if not reply.calls and not reply.text():
            self._core.record("error", stage="reply", message="the model gave an empty answer")
            self._failed()
        else:
            self._advance(reply)

    def generation_failed(self, value: inp.ReplyFailed) -> None:
        """No model could answer, or the one that did broke off: then it is asked again, once."""
        if self.draft_failed(value.gen) or (reply := self._current(value.gen)) is None:
            return
        if reply.calls:  # what was called goes on, and its result is answered
            self._speak(reply, reply.splitter.flush())
            reply.generated = True
            self._advance(reply)
        elif reply.texts.get(reply.gen) and not reply.retries:
            self._again(reply)
        else:
            self._failed()

    def draft_failed(self, gen: int) -> bool:
        """An engine failed in a generation; return whether it was only a draft."""
        return self._speculation.failed(gen)

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
            self._expect_sound(reply)

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

    def _messages(self) -> tuple[Message, ...]:
        return self._core.dialogue.messages(self._core.script.agent.limits.history_messages)

    def _request(self, messages: tuple[Message, ...], rounds: int) -> LlmRequest:
        core, agent = self._core, self._core.script.agent
        bound = agent.limits.reply_tokens
        return LlmRequest(
            messages=messages,
            tools=() if rounds >= agent.limits.tool_rounds else core.script.tools,
            max_tokens=min(bound, BRIEF_TOKENS) if core.load >= Level.BRIEF else bound,
            temperature=agent.temperature,
            call_id=core.script.call_id,
        )

    def _generate(self, reply: Reply) -> None:
        core = self._core
        reply.generated = False
        reply.calls, reply.results = {}, {}
        request = self._request(self._messages(), reply.rounds)
        reply.max_tokens = request.max_tokens if core.load >= Level.BRIEF else 0
        if core.state is not State.SPEAKING:
            core.go(State.PROCESSING)
        self._expect_sound(reply)
        core.record("reply.started", gen=reply.gen)
        core.do(act.Generate(reply.gen, request))

    def _adopt(self, reply: Reply, held: Sequence[str]) -> None:
        """A draft is the answer: go on from where it has come to."""
        core = self._core
        self.reply = reply
        core.go(State.PROCESSING)
        self._expect_sound(reply)
        core.record("reply.started", gen=reply.gen)
        core.do(act.Commit(reply.gen))
        for clause in held:
            self._note_clause(reply, clause)
        for call in tuple(reply.calls.values()):
            self._run(reply, call)
        self._advance(reply)

    def _again(self, reply: Reply) -> None:
        """Ask the model again, and go on where it broke off. What was handed on is spoken meanwhile."""
        said = reply.handed(reply.gen)
        broken, self._gen = reply.gen, self._gen + 1
        self._core.record("reply.retried", gen=self._gen, said=said)
        reply.texts[broken] = said
        reply.retries, reply.gen = reply.retries + 1, self._gen
        reply.echo, reply.splitter = Echo(said), ClauseSplitter()
        self._generate(reply)
        self._core.dialogue.add_assistant(broken, said)

    def _expect_sound(self, reply: Reply) -> None:
        """Nothing can be heard: set the longest time for that. Speech that is on its way has its own."""
        if reply.idle:
            longest = self._core.timing.reply_timeout_ms
            limit = longest if reply.echo is None else min(RETRY_MS, longest)
            self._core.set("reply", self._core.now + limit)

    def _run(self, reply: Reply, call: ToolCall) -> None:
        reply.calls[call.id] = call
        reply.tools_used = True
        self._core.record("tool.called", id=call.id, name=call.name, arguments=call.arguments)
        self._core.do(act.RunTool(reply.gen, call.id, call.name, call.arguments))

    def _advance(self, reply: Reply) -> None:
        """The model has finished and perhaps its tools: go on, or wait for the wire."""
        if not reply.generated or reply.tools_running:
            return
        if reply.calls:
            self.remember(reply)
            reply.hang_up = any(result.end_call for result in reply.results.values())
            if not reply.hang_up:
                self._gen += 1
                reply.gen, reply.rounds, reply.echo = self._gen, reply.rounds + 1, None
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
            self._note_clause(reply, clause)
            self._core.do(act.Speak(reply.gen, clause))

    def _note_clause(self, reply: Reply, clause: str) -> None:
        reply.spoken_gen, reply.idle = reply.gen, False
        reply.clauses.setdefault(reply.gen, []).append(clause)
        self._core.record("reply.clause", gen=reply.gen, text=clause)

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
        self._core.record("latency", **breakdown(source, reply, self._core.now, synthesis_ms))
