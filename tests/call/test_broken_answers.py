# SPDX-License-Identifier: Apache-2.0
"""A model that breaks off in the middle of its answer: what was heard stays, and there is no dead air."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.call import inputs as inp
from appliance.call.clauses import Echo
from appliance.call.replay import replay
from appliance.plugin import LlmRequest, Role, TextDelta, TokenUsage, ToolCall
from tests.call.sim import Delta, Sim, Spoken, agent

WHOLE = "Yes, we are open. We are here from nine to five. Come by when you like."
ASKED = [Spoken(2000, 3000, "Are you open?")]
DEAD_AIR_MS = 1500


def pieces(text: str) -> list[Delta]:
    words = text.split(" ")
    return [TextDelta(w if i == 0 else f" {w}") for i, w in enumerate(words)]


def call(*replies: list[Delta], caller: Sequence[Spoken] = ASKED) -> Sim:
    """A call whose model gives these replies in turn. Without speculation, so that each is heard."""
    left = list(replies)
    plain = agent(turn_taking={"speculation": False, "silence_prompt_ms": 120_000})

    def model(_: LlmRequest) -> list[Delta]:
        return left.pop(0)

    return Sim(model, caller, plain)


def longest_silence(sim: Sim) -> int:
    """Return the longest time from speech that ran out to the next, after the caller's turn."""
    marks = [(e.t_ms, e.kind) for e in sim.log.events if e.kind in {"speak.idle", "speak.started"}]
    ran_out = [at for at, kind in marks if kind == "speak.idle" and at > 3000][:-1]
    return max((min(t for t, k in marks if k == "speak.started" and t > at) - at for at in ran_out),
               default=0)  # fmt: skip


@pytest.mark.parametrize("after", range(1, 17))
def test_an_answer_that_breaks_off_anywhere_is_gone_on_with_by_the_next_model(after: int) -> None:
    died: list[Delta] = [*pieces(WHOLE)[:after], RuntimeError("the engine died")]
    sim = call(died, [*pieces(WHOLE), TokenUsage(1, 9)]).run(30_000)
    assert sim.history()[-1] == ("assistant", WHOLE)
    assert sim.played()[-1] == WHOLE
    assert len(sim.events("reply.retried")) == 1
    assert longest_silence(sim) < DEAD_AIR_MS
    _, divergence = replay(sim.log.events, sim.script)
    assert divergence is None


def test_a_next_model_of_other_words_is_heard_in_full() -> None:
    died: list[Delta] = [*pieces(WHOLE)[:6], RuntimeError("the engine died")]
    sim = call(died, [*pieces("From nine to five."), TokenUsage(1, 9)]).run(30_000)
    assert sim.history()[-1] == ("assistant", "Yes, we are open. From nine to five.")


def test_the_next_model_is_shown_the_question_and_not_the_broken_answer() -> None:
    died: list[Delta] = [*pieces(WHOLE)[:6], RuntimeError("the engine died")]
    sim = call(died, [*pieces(WHOLE), TokenUsage(1, 9)]).run(30_000)
    assert sim.requests[1].messages == sim.requests[0].messages


def test_when_it_breaks_off_twice_what_was_heard_stays_and_the_agent_apologises() -> None:
    died: list[Delta] = [*pieces(WHOLE)[:6], RuntimeError("the engine died")]
    sim = call(died, list(died)).run(30_000)
    role, text = sim.history()[-1]
    assert role == "assistant"
    assert text.startswith("Yes, we are open. I'm sorry,")
    assert sim.played()[-1].startswith("Yes, we are open. I'm sorry,")


def test_a_second_model_that_hangs_is_apologised_for_before_the_line_seems_dead() -> None:
    died: list[Delta] = [*pieces(WHOLE)[:6], RuntimeError("the engine died")]
    sim = call(died, []).run(30_000)
    assert sim.played()[-1].startswith("Yes, we are open. I'm sorry,")
    assert 1000 < longest_silence(sim) < DEAD_AIR_MS


def test_an_interruption_of_the_second_attempt_keeps_only_what_was_heard_of_both() -> None:
    died: list[Delta] = [*pieces(WHOLE)[:6], RuntimeError("the engine died")]
    caller = [*ASKED, Spoken(5500, 6500, "Thanks.")]
    bye: list[Delta] = [TextDelta("Bye."), TokenUsage(1, 1)]
    sim = call(died, [*pieces(WHOLE), TokenUsage(1, 9)], bye, caller=caller).run(30_000)
    heard = next(text for role, text in sim.history()[2:] if role == "assistant")
    assert heard.startswith("Yes, we are open. We")
    assert WHOLE.startswith(heard)
    assert len(heard) < len(WHOLE)


def test_a_tool_that_was_called_before_the_model_broke_off_runs_once_and_is_answered() -> None:
    def model(request: LlmRequest) -> list[Delta]:
        if request.messages[-1].role is Role.TOOL:
            return [TextDelta("You are booked."), TokenUsage(1, 3)]
        called = ToolCall("t", "book", "{}")
        return [TextDelta("One moment."), called, RuntimeError("the engine died")]

    tools = {"book": lambda _: inp.ToolFinished(0, "", ok=True, content="{}")}
    plain = agent(turn_taking={"speculation": False})
    sim = Sim(model, ASKED, plain, tools=tools).run(9000)
    assert len(sim.events("tool.called")) == 1
    assert sim.spoken()[1:] == ["One moment.", "You are booked."]


def test_a_synthesizer_that_is_gone_leaves_what_was_heard_in_the_history() -> None:
    sim = call([*pieces(WHOLE), TokenUsage(1, 9)])
    sim.at(5500, inp.SpeechFailed(2, "gone"))
    sim.run(30_000)
    heard = sim.events("interruption")[0].data["heard"]
    assert WHOLE.startswith(heard)
    assert len(heard) > 10
    assert sim.history()[-1][1].startswith(f"{heard} I'm sorry,")


words = st.text(alphabet="ab, .", max_size=30)


@given(words, st.lists(words, max_size=10))
def test_an_echo_gives_each_word_that_was_not_said_exactly_once(
    said: str, given: list[str]
) -> None:
    echo = Echo(said)
    out = "".join(echo.push(piece) for piece in given)
    whole = "".join("".join(given).split())
    spoken = "".join(said.split())
    rest = "".join(out.split())
    if whole.startswith(spoken):
        assert rest == whole[len(spoken) :]
    elif spoken.startswith(whole):
        assert rest == ""
    else:
        assert rest == whole
