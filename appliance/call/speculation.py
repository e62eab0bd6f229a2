# SPDX-License-Identifier: Apache-2.0
"""The answer that is prepared while the caller's silence is still being waited out. Part of the call core.

A draft is begun when the words of a silent caller are known. Its clauses are synthesized and held; its
tool calls wait. When the turn is committed with the same words, the draft becomes the answer as far as it
has come; more speech, or anything else that makes it wrong, discards it without a trace in the history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from appliance.call import actions as act
from appliance.call import inputs as inp
from appliance.call.core import Core
from appliance.call.parts import CallerTurn, Reply
from appliance.plugin import LlmRequest, Message, ToolCall


@dataclass(slots=True)
class _Draft:
    reply: Reply
    request: LlmRequest
    tokens: int = 0
    """Counted by the provider at its end, until then the pieces that came."""
    held: list[str] = field(default_factory=list)
    """Clauses given to the synthesizer."""


class Speculation:
    """Follows one draft at a time.

    Args:
        core: shared ground.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._draft: _Draft | None = None
        self._turn = 0  # of the caller; what follows counts for it
        self._discarded = self._tokens = self._characters = 0

    def covers(self, messages: Sequence[Message]) -> bool:
        """Return whether there is a draft of the answer to just this dialogue."""
        return self._draft is not None and self._draft.request.messages == messages

    def begin(self, turn: CallerTurn, gen: int, request: LlmRequest) -> None:
        """Begin a draft; one of other words is discarded."""
        self._count_for(turn)
        self.discard("other words")
        self._draft = _Draft(Reply(gen, gen, drafted_ms=self._core.now), request)
        self._core.record("draft.started", gen=gen, turn=turn.id)
        self._core.do(act.Generate(gen, request, committed=False))

    def discard(self, why: str) -> None:
        """Forget the draft, if there is one."""
        draft, self._draft = self._draft, None
        if draft is None:
            return
        characters = sum(map(len, draft.held))
        self._discarded += 1
        self._tokens += draft.tokens
        self._characters += characters
        gen = draft.reply.gen
        self._core.record(
            "draft.discarded", gen=gen, why=why, tokens=draft.tokens, characters=characters
        )
        self._core.do(act.Discard(gen))

    def commit(
        self, turn: CallerTurn, messages: Sequence[Message]
    ) -> tuple[Reply, list[str]] | None:
        """The turn is over. Return the draft, if it answers just this dialogue, and its held clauses."""
        self._count_for(turn)
        draft = self._draft if self.covers(messages) else None
        if draft is None:
            self.discard("other words")
        outcome = "hit" if draft else "miss" if self._discarded else "none"
        self._core.record(
            "speculation",
            turn=turn.id,
            outcome=outcome,
            discarded=self._discarded,
            tokens=self._tokens,
            characters=self._characters,
        )
        self._draft = None
        return (draft.reply, draft.held) if draft else None

    # -- what the model says -----------------------------------------------------------------

    def text(self, value: inp.ReplyText) -> bool:
        """Take a piece of the draft's text; False when it is not the draft's."""
        if (draft := self._of(value.gen)) is None:
            return False
        reply = draft.reply
        if reply.first_text_ms is None:
            reply.first_text_ms = self._core.now
        reply.texts[reply.gen] = reply.texts.get(reply.gen, "") + value.text
        draft.tokens += 1
        self._hold(draft, reply.splitter.push(value.text))
        return True

    def tool_call(self, value: inp.ReplyToolCall) -> bool:
        """Keep a tool call until the turn is committed; False when it is not the draft's."""
        if (draft := self._of(value.gen)) is None:
            return False
        self._hold(draft, draft.reply.splitter.flush())
        draft.reply.calls[value.id] = ToolCall(value.id, value.name, value.arguments)
        draft.tokens += 1
        return True

    def ended(self, value: inp.ReplyEnded) -> bool:
        """The model has said all; False when it is not the draft's."""
        if (draft := self._of(value.gen)) is None:
            return False
        reply = draft.reply
        self._hold(draft, reply.splitter.flush())
        reply.generated = True
        draft.tokens = value.completion_tokens or draft.tokens
        if not reply.calls and not reply.text():
            self.discard("empty")
        return True

    def failed(self, gen: int) -> bool:
        """An engine failed in it: no harm is done, the answer is begun anew at the turn's end."""
        if self._of(gen) is None:
            return False
        self.discard("engine failure")
        return True

    # -- inside ------------------------------------------------------------------------------

    def _of(self, gen: int) -> _Draft | None:
        draft = self._draft
        return draft if draft is not None and draft.reply.gen == gen else None

    def _hold(self, draft: _Draft, clauses: Sequence[str]) -> None:
        for clause in clauses:
            if draft.reply.first_clause_ms is None:
                draft.reply.first_clause_ms = self._core.now
            draft.held.append(clause)
            self._core.record("draft.clause", gen=draft.reply.gen, text=clause)
            self._core.do(act.Prepare(draft.reply.gen, clause))

    def _count_for(self, turn: CallerTurn) -> None:
        if turn.id != self._turn:
            self._turn = turn.id
            self._discarded = self._tokens = self._characters = 0
