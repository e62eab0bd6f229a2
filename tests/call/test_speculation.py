# SPDX-License-Identifier: Apache-2.0
"""What is prepared while the caller's silence is waited out, on a virtual clock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.call import inputs as inp
from appliance.call.replay import replay
from appliance.plugin import LlmRequest, Role, TextDelta, TokenUsage, ToolCall
from tests.call.sim import Delta, Model, Sim, Spoken, agent, says

OPEN = "Yes, we are open. We are here Monday to Friday from nine to five."
ASKED = [Spoken(2000, 3000, "When are you open?")]
TURN_END = 3300


def answers(first: str, *, fail_first: int = 0) -> Model:
    """Answers every turn with `first` and the words it answers; the first requests fail."""
    failing = iter(range(fail_first))

    def model(request: LlmRequest) -> list[Delta]:
        if next(failing, None) is not None:
            return [TextDelta("Lost words. And"), RuntimeError("the engine died")]
        asked = request.messages[-1].content
        words = f"{first} You said: {asked}".split(" ")
        pieces: list[Delta] = [TextDelta(w if i == 0 else f" {w}") for i, w in enumerate(words)]
        return [*pieces, TokenUsage(10, len(words))]

    return model


def call(
    model: Model, caller: list[Spoken], timing: Mapping[str, Any] | None = None, **speeds: Any
) -> Sim:
    """A call whose agent never asks a silent caller."""
    settings = {"silence_prompt_ms": 120_000, **(timing or {})}
    return Sim(model, caller, agent(turn_taking=settings), **speeds)


def audible(sim: Sim, gen: int) -> int:
    return next(e.t_ms for e in sim.events("speak.started") if e.data["gen"] == gen)


def test_an_answer_prepared_in_the_silence_is_heard_at_the_moment_of_the_decision() -> None:
    sim = call(says(OPEN), ASKED).run(9000)
    assert sim.events("turn.committed")[0].t_ms == TURN_END
    assert audible(sim, 2) == TURN_END
    assert sim.events("latency")[0].data["total"] == 300


def test_without_speculation_the_same_answer_comes_later() -> None:
    sim = call(says(OPEN), ASKED, {"speculation": False}).run(9000)
    assert audible(sim, 2) > TURN_END + 100
    assert not sim.events("draft.started")
    assert sim.events("speculation")[0].data["outcome"] == "none"


def test_the_log_of_a_turn_tells_hit_and_gain() -> None:
    sim = call(says("Yes. Of course."), ASKED).run(9000)
    [speculation] = sim.events("speculation")
    assert speculation.data == {
        "turn": 1, "outcome": "hit", "discarded": 0, "tokens": 0, "characters": 0,
    }  # fmt: skip
    latency = sim.events("latency")[0].data
    assert latency["gained"] == 40 + 10  # two words until the first clause is cut, its synthesis
    assert sum(latency["parts"].values()) == latency["total"]


def test_a_draft_that_is_not_ready_at_the_decision_goes_on_as_the_answer() -> None:
    sim = call(says(OPEN), ASKED, model_ms=90).run(20_000)
    assert len(sim.requests) == 1
    assert sim.events("speculation")[0].data["outcome"] == "hit"
    assert sim.history()[-1] == ("assistant", OPEN)
    latency = sim.events("latency")[0].data
    assert sum(latency["parts"].values()) == latency["total"]
    assert latency["gained"] == TURN_END - 3126
    assert min(latency["parts"].values()) >= 0


def test_nothing_of_a_draft_reaches_the_caller_before_the_decision() -> None:
    sim = call(says(OPEN), ASKED, {"end_of_turn_ms": 2000}).run(20_000)
    assert sim.events("draft.clause")[0].t_ms < 4000
    assert not [e for e in sim.events("reply.clause") if 3000 < e.t_ms < 5000]
    assert audible(sim, 2) == 5000


@pytest.mark.parametrize("pause_ms", range(100, 300, 10))
def test_more_speech_at_any_moment_discards_what_was_prepared(pause_ms: int) -> None:
    caller = [Spoken(2000, 3000, "I would like"), Spoken(3000 + pause_ms, 4500, "to book.")]
    sim = call(answers("Sure."), caller).run(20_000)
    turns = [e.data["text"] for e in sim.events("turn.committed")]
    if pause_ms + 32 >= 300:
        assert turns == ["I would like", "to book."]  # its onset is known too late
        return
    assert turns == ["I would like to book."]
    assert [text for role, text in sim.history() if role == "assistant"] == [
        "Hello.",
        "Sure. You said: I would like to book.",
    ]
    assert not any("I would like." in text for text in sim.played())
    begun = len(sim.events("draft.started"))
    [speculation] = sim.events("speculation")
    assert speculation.data["discarded"] == begun - 1
    assert speculation.data["outcome"] == "hit"


def test_what_a_discarded_draft_wrote_is_counted_as_wasted() -> None:
    caller = [Spoken(2000, 3000, "I would like"), Spoken(3220, 4500, "to book.")]
    sim = call(answers("Sure thing."), caller).run(20_000)
    [discarded] = sim.events("draft.discarded")
    assert discarded.data["why"] == "more speech"
    assert discarded.data["tokens"] > 0
    [speculation] = sim.events("speculation")
    assert speculation.data["tokens"] == discarded.data["tokens"]
    assert speculation.data["characters"] == len("Sure thing.")


def booked(_: str) -> inp.ToolFinished:
    return inp.ToolFinished(0, "", ok=True, content=json.dumps({"ok": True}))


def booking(request: LlmRequest) -> list[Delta]:
    if request.messages[-1].role is Role.TOOL:
        return [TextDelta("You are booked."), TokenUsage(1, 3)]
    arguments = '{"day": "Friday"}'
    return [TextDelta("One moment."), ToolCall("t1", "book", arguments), TokenUsage(1, 9)]


def test_no_tool_runs_before_the_decision() -> None:
    sim = call(booking, [Spoken(2000, 3000, "Friday.")], tools={"book": booked}).run(9000)
    [called] = sim.events("tool.called")
    assert called.t_ms == TURN_END > sim.events("reply.tool_call")[0].t_ms
    assert sim.spoken()[1:] == ["One moment.", "You are booked."]


def test_a_tool_call_of_a_discarded_draft_never_runs() -> None:
    caller = [Spoken(2000, 3000, "Friday."), Spoken(3200, 4500, "No, wait, Monday.")]
    sim = call(booking, caller, tools={"book": booked}).run(9000)
    assert len(sim.events("reply.tool_call")) == 2
    assert len(sim.events("tool.called")) == 1


def test_an_interruption_right_after_the_decision_keeps_nothing_unheard() -> None:
    caller = [*ASKED, Spoken(3310, 4500, "On Saturday.")]
    sim = call(answers("Hello there."), caller).run(20_000)
    heard = sim.events("interruption")[0].data["heard"]
    assert len(heard) < 10
    assert sim.history()[-1] == ("assistant", "Hello there. You said: On Saturday.")
    users = [text for role, text in sim.history() if role == "user"]
    assert " ".join(users) == "When are you open? On Saturday."


def test_a_model_that_fails_in_a_draft_only_is_neither_heard_nor_counted() -> None:
    turns = [Spoken(t, t + 1000, "Again?") for t in range(2000, 60_000, 9000)]
    failing = iter([True, False] * len(turns))

    def model(request: LlmRequest) -> list[Delta]:
        if next(failing):
            return [TextDelta("Wrong words. And"), RuntimeError("the engine died")]
        return [TextDelta("Right."), TokenUsage(1, 1)]

    sim = call(model, turns).run(60_000)
    assert len(sim.events("error.reply")) == len(sim.events("turn.committed")) > 4
    assert set(sim.played()) == {"Hello.", "Right."}
    assert {e.data["outcome"] for e in sim.events("speculation")} == {"miss"}


def test_a_model_that_fails_in_the_draft_and_after_the_decision_is_apologised_for() -> None:
    sim = call(lambda _: [RuntimeError("boom")], ASKED).run(9000)
    assert sim.spoken()[1] == "I'm sorry,"


def test_a_synthesizer_that_fails_in_a_draft_leaves_the_answer_to_a_second_attempt() -> None:
    sim = call(says(OPEN, OPEN), ASKED)
    sim.at(3250, inp.SpeechFailed(2, "gone"))
    sim.run(9000)
    assert len(sim.requests) == 2
    assert sim.played() == ["Hello.", OPEN]


def test_a_recognizer_that_fails_when_the_words_are_known_does_no_harm() -> None:
    sim = call(says(OPEN), ASKED)
    sim.at(3200, inp.RecognitionFailed(1, "gone"))
    sim.run(9000)
    assert sim.played() == ["Hello.", OPEN]


def test_a_recognizer_that_failed_before_the_caller_spoke_on_is_apologised_for() -> None:
    sim = call(says(OPEN), [*ASKED, Spoken(3230, 4500, "On Sunday.")])
    sim.at(3200, inp.RecognitionFailed(1, "gone"))
    sim.run(9000)
    assert sim.spoken()[1] == "I'm sorry,"
    assert not sim.events("turn.committed")


def test_an_empty_draft_is_asked_again_at_the_decision() -> None:
    replies: list[list[Delta]] = [[TokenUsage(1, 0)], [TextDelta("Yes."), TokenUsage(1, 1)]]
    sim = call(lambda _: replies.pop(0), ASKED).run(9000)
    assert sim.played() == ["Hello.", "Yes."]


@pytest.mark.parametrize("at_ms", range(3100, 3300, 10))
def test_hold_during_speculation_discards_it_and_the_call_goes_on_after_it(at_ms: int) -> None:
    sim = call(answers("Sure."), [*ASKED, Spoken(20_000, 21_000, "And now?")])
    sim.at(at_ms, inp.HoldChanged(held=True))
    sim.at(15_000, inp.HoldChanged(held=False))
    sim.run(40_000)
    assert not [e for e in sim.events("speak.started") if 3000 < e.t_ms < 20_000]
    assert sim.history()[1:] == [
        ("user", "And now?"),
        ("assistant", "Sure. You said: And now?"),
    ]


@pytest.mark.parametrize("at_ms", range(3100, 3300, 20))
def test_a_key_during_speculation_changes_nothing(at_ms: int) -> None:
    sim = call(says(OPEN), ASKED)
    sim.at(at_ms, inp.DtmfPressed("1"))
    sim.run(9000)
    assert audible(sim, 2) == TURN_END


@pytest.mark.parametrize("at_ms", range(3100, 3420, 10))
def test_a_hang_up_during_speculation_leaves_nothing_running(at_ms: int) -> None:
    sim = call(says(OPEN), ASKED)
    sim.at(at_ms, inp.LegEnded("remote_hangup"))
    sim.run(9000)
    assert sim.log.events[-1].kind == "call.ended"
    assert len(sim.events("draft.started")) == len(sim.events("draft.discarded")) + len(
        [e for e in sim.events("speculation") if e.data["outcome"] == "hit"]
    )


def test_the_silence_prompt_comes_as_before_when_a_draft_was_discarded_by_noise() -> None:
    sim = Sim(says("Yes."), ASKED).run(30_000)
    prompt = next(e for e in sim.events("reply.clause") if e.data["text"] == "Are you still there?")
    heard = next(e for e in sim.events("speak.ended") if e.data["heard"] == "Yes.")
    assert prompt.t_ms == heard.t_ms + 8000


def test_a_backchannel_after_an_interruption_is_not_speculated_on() -> None:
    caller = [*ASKED, Spoken(4500, 4800, "Mm-hmm.")]
    sim = call(says(OPEN), caller).run(20_000)
    assert len(sim.requests) == 1


def test_words_said_into_the_agents_last_word_are_speculated_on_once_it_is_out() -> None:
    heard_by = 10 + 6 * 60  # the greeting
    sim = call(
        says(OPEN), [Spoken(100, 200, "When?")], {"barge_in_ms": 2000, "end_of_turn_ms": 600}
    )
    sim.run(9000)
    assert sim.events("draft.started")[0].t_ms == heard_by
    assert audible(sim, 2) == 800


def test_a_busy_box_speculates_no_more() -> None:
    sim = call(says("One.", "Two."), [*ASKED, Spoken(9000, 10_000, "And?")])
    sim.at(6000, inp.LoadChanged(1))
    sim.run(20_000)
    outcomes = [e.data["outcome"] for e in sim.events("speculation")]
    assert outcomes == ["hit", "none"]


def test_a_very_busy_box_answers_briefly_and_never_with_half_a_sentence() -> None:
    def model(request: LlmRequest) -> list[Delta]:
        words = ["Yes,", *["we", "are", "open."] * 60][: request.max_tokens]
        return [*[TextDelta(f"{w} ") for w in words], TokenUsage(9, len(words))]

    sim = call(model, [Spoken(9000, 10_000, "When?")])
    sim.at(6000, inp.LoadChanged(2))
    sim.run(60_000)
    assert sim.requests[0].max_tokens == 64
    assert sim.played()[-1].endswith("open.")


def test_speculated_calls_replay_bit_for_bit() -> None:
    caller = [
        Spoken(2000, 3000, "I would"), Spoken(3200, 4000, "like"), Spoken(4210, 5000, "a booking."),
        Spoken(5400, 6000, "Friday."), Spoken(12_000, 12_080, ""),
    ]  # fmt: skip
    sim = call(booking, caller, tools={"book": booked}).run(60_000)
    assert sim.events("draft.discarded")
    _, divergence = replay(sim.log.events, sim.script)
    assert divergence is None


speech = st.tuples(st.integers(40, 1200), st.integers(0, 900), st.sampled_from("abc"))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(speech, min_size=1, max_size=8),
    st.integers(0, 400),
    st.integers(5, 200),
    st.integers(0, 200),
    st.integers(0, 3),
)
def test_whatever_the_pauses_and_speeds_only_answers_to_whole_turns_are_heard(
    said: list[tuple[int, int, str]], stt_ms: int, model_ms: int, tts_ms: int, failing: int
) -> None:
    caller, t = [], 2000
    for length, pause, word in said:
        caller.append(Spoken(t, t + length, word))
        t += length + max(pause, 130)
    sim = call(
        answers("So.", fail_first=failing), caller, stt_ms=stt_ms, model_ms=model_ms, tts_ms=tts_ms
    ).run(t + 60_000)
    committed = [e.t_ms for e in sim.events("turn.committed")]
    drafted = {e.data["gen"]: e.t_ms for e in sim.events("draft.started")}
    discarded = {e.data["gen"] for e in sim.events("draft.discarded")}
    heard = {e.data["gen"] for e in sim.events("speak.started")}
    assert not heard & discarded
    for event in sim.events("speak.started"):
        begun = drafted.get(event.data["gen"])
        assert begun is None or any(begun <= at <= event.t_ms for at in committed)
    assert len(sim.events("speculation")) == len(committed)
    _, divergence = replay(sim.log.events, sim.script)
    assert divergence is None
