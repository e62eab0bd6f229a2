# SPDX-License-Identifier: Apache-2.0
"""Behaviour of a call, on a virtual clock."""

from __future__ import annotations

import json

import pytest

from appliance.call import inputs as inp
from appliance.call.replay import replay
from appliance.plugin import LlmRequest, Role, TextDelta, TokenUsage, ToolCall
from tests.call.sim import Delta, Sim, Spoken, agent, says

OPEN = "We are open Monday to Friday from nine to five."


def finished(content: dict[str, object], *, end_call: bool = False) -> inp.ToolFinished:
    return inp.ToolFinished(0, "", ok=True, content=json.dumps(content), end_call=end_call)


def test_a_call_greets_listens_answers_and_listens_again() -> None:
    sim = Sim(says(OPEN), [Spoken(2000, 3000, "When are you open?")]).run(9000)
    assert sim.states()[:6] == [
        "processing", "speaking", "listening", "processing", "speaking", "listening",
    ]  # fmt: skip
    assert sim.history() == [
        ("assistant", "Hello."),
        ("user", "When are you open?"),
        ("assistant", OPEN),
    ]


def test_the_answer_begins_when_the_set_silence_is_over() -> None:
    slow = agent(turn_taking={"end_of_turn_ms": 700})
    sim = Sim(says(OPEN), [Spoken(2000, 3000, "When?")], slow).run(9000)
    assert sim.events("turn.committed")[0].t_ms == 3700


def test_a_pause_shorter_than_the_set_silence_does_not_end_the_turn() -> None:
    caller = [Spoken(2000, 2800, "I would like"), Spoken(3000, 4000, "an appointment.")]
    sim = Sim(says("Sure."), caller).run(9000)
    assert [e.data["text"] for e in sim.events("turn.committed")] == [
        "I would like an appointment."
    ]
    assert sim.events("turn.committed")[0].t_ms == 4300


def test_a_late_recognizer_delays_the_commit_but_loses_nothing() -> None:
    sim = Sim(says(OPEN), [Spoken(2000, 3000, "When?")], stt_ms=900).run(12000)
    committed = sim.events("turn.committed")[0]
    assert (committed.t_ms, committed.data["text"]) == (3000 + 96 + 900, "When?")
    assert sim.events("latency")[0].data["parts"]["recognition_wait"] == 696


def test_a_short_turn_whose_words_never_came_is_asked_for_again() -> None:
    sim = Sim(says(OPEN), [Spoken(2000, 2500, "When?")], stt_ms=10**6).run(20000)
    assert "I'm sorry, I didn't catch that." in sim.played()
    assert sim.requests == []


def test_a_recognizer_that_hangs_is_replaced_by_its_last_interim_result() -> None:
    sim = Sim(says(OPEN), [Spoken(2000, 3000, "When are you open?")], stt_ms=10**6)
    sim.at(2700, inp.InterimTranscript(1, "When are you"))
    sim.run(12000)
    assert sim.events("turn.committed")[0].data["text"] == "When are you"
    assert sim.events("error")[0].data["stage"] == "recognition"


def test_the_latency_parts_add_up_to_the_total() -> None:
    sim = Sim(says(OPEN), [Spoken(2000, 3000, "When are you open?")]).run(9000)
    latency = sim.events("latency")[0].data
    assert sum(latency["parts"].values()) == latency["total"]
    assert latency["total"] == sim.events("speak.started")[1].t_ms - 3000


def test_the_first_clause_is_spoken_while_the_model_still_writes() -> None:
    sim = Sim(says("Of course, we are open today until five in the evening."),
              [Spoken(2000, 3000, "Open?")], model_ms=200).run(20000)  # fmt: skip
    started = next(e for e in sim.events("speak.started") if e.data["gen"] == 2)
    assert started.t_ms < sim.events("reply.ended")[0].t_ms


def test_barge_in_stops_the_agent_and_keeps_only_the_words_that_were_heard() -> None:
    caller = [Spoken(2000, 3000, "When?"), Spoken(4500, 5500, "And where are you?")]
    sim = Sim(says(OPEN, "At Mill Lane."), caller).run(20000)
    stopped = sim.events("speak.stopped")[0]
    assert stopped.t_ms - 4500 <= 200
    heard = sim.events("interruption")[0].data["heard"]
    assert OPEN.startswith(heard)
    assert 0 < len(heard) < len(OPEN)
    assert ("assistant", heard) in sim.history()
    assert ("assistant", OPEN) not in sim.history()


def test_speech_over_the_agent_ducks_it_before_it_is_stopped() -> None:
    caller = [Spoken(2000, 3000, "When?"), Spoken(4500, 5500, "Wait.")]
    sim = Sim(says(OPEN, "Yes?"), caller).run(20000)
    assert sim.ducks[0] == (4564, -12.0)
    assert sim.events("speak.stopped")[0].t_ms > 4564


def test_a_cough_over_the_agent_does_not_stop_it() -> None:
    caller = [Spoken(2000, 3000, "When?"), Spoken(4500, 4590, "")]
    sim = Sim(says(OPEN), caller, agent(turn_taking={"barge_in_ms": 200})).run(9000)
    assert not sim.events("speak.stopped")
    assert ("assistant", OPEN) in sim.history()
    assert sim.ducks[-1][1] == 0.0


def test_a_long_noise_without_words_lets_the_agent_say_the_rest() -> None:
    caller = [Spoken(2000, 3000, "When?"), Spoken(4500, 5200, "")]
    sim = Sim(says(OPEN), caller).run(9000)
    heard = sim.events("interruption")[0].data["heard"]
    rest = sim.spoken()[-1]
    assert f"{heard} {rest}" == OPEN
    assert len(sim.requests) == 1


def test_a_backchannel_lets_the_agent_go_on() -> None:
    caller = [Spoken(2000, 3000, "When?"), Spoken(4500, 4800, "Mm-hmm.")]
    sim = Sim(says(OPEN), caller).run(9000)
    assert [e.data["text"] for e in sim.events("turn.committed")] == ["When?"]
    assert sim.history()[-1][1].endswith("five.")


def test_a_caller_who_goes_on_before_the_answer_is_heard_gets_one_answer_to_both() -> None:
    caller = [Spoken(2000, 3000, "When are you open?"), Spoken(3450, 4200, "On Saturday.")]
    sim = Sim(says("Never said.", "From ten."), caller, model_ms=300).run(9000)
    users = [text for role, text in sim.history() if role == "user"]
    assert users == ["When are you open? On Saturday."]
    assert sim.history()[-1] == ("assistant", "From ten.")


def test_with_barge_in_off_the_agent_finishes_its_sentence() -> None:
    caller = [Spoken(2000, 3000, "When?"), Spoken(4500, 5500, "Stop it.")]
    sim = Sim(says(OPEN), caller, agent(turn_taking={"barge_in": False})).run(20000)
    assert not sim.events("speak.stopped")
    assert sim.events("overlap.ignored")


def booking(request: LlmRequest) -> list[Delta]:
    if request.messages[-1].role is Role.TOOL:
        return [TextDelta("You are booked."), TokenUsage(1, 3)]
    arguments = '{"day": "Friday"}'
    return [TextDelta("One moment."), ToolCall("t1", "book", arguments), TokenUsage(1, 9)]


def test_a_tool_call_runs_and_its_result_is_answered() -> None:
    tools = {"book": lambda _: finished({"ok": True})}
    sim = Sim(booking, [Spoken(2000, 3000, "Friday.")], tools=tools).run(9000)
    assert [(m.role.value, m.content) for m in sim.requests[1].messages[1:]] == [
        ("assistant", "Hello."),
        ("user", "Friday."),
        ("assistant", "One moment."),
        ("tool", '{"ok": true}'),
    ]
    assert sim.spoken()[1:] == ["One moment.", "You are booked."]
    assert sim.states()[-1] == "listening"


def test_an_interruption_while_a_tool_runs_keeps_call_and_result_in_the_history() -> None:
    tools = {"book": lambda _: finished({"ok": True})}
    caller = [Spoken(2000, 3000, "Friday."), Spoken(3700, 4500, "No wait.")]
    sim = Sim(booking, caller, tools=tools, tool_ms=3000).run(30000)
    assert sim.events("turn.committed")[1].t_ms == sim.events("tool.result")[0].t_ms > 4900
    last = sim.requests[1].messages
    assert [m.role.value for m in last[-3:]] == ["assistant", "tool", "user"]
    assert last[-3].tool_calls[0].name == "book"
    assert last[-1].content == "No wait."


def test_end_call_hangs_up_only_after_the_goodbye_was_heard() -> None:
    def model(_: LlmRequest) -> list[Delta]:
        return [TextDelta("Goodbye, take care."), ToolCall("t", "end_call", "{}"), TokenUsage(1, 1)]

    tools = {"end_call": lambda _: finished({"ok": True}, end_call=True)}
    sim = Sim(model, [Spoken(2000, 3000, "Bye.")], tools=tools).run(20000)
    ended = sim.events("speak.ended")[-1]
    assert sim.hung_up_ms == ended.t_ms + 300
    assert ended.data["heard"] == "Goodbye, take care."
    assert sim.states()[-1] == "ended"


def test_end_call_without_words_says_goodbye_first() -> None:
    tools = {"end_call": lambda _: finished({"ok": True}, end_call=True)}
    sim = Sim(lambda _: [ToolCall("t", "end_call", "{}"), TokenUsage(1, 1)],
              [Spoken(2000, 3000, "Bye.")], tools=tools).run(20000)  # fmt: skip
    assert sim.spoken()[-2:] == ["Hello.", "Thank you for calling. Goodbye."]
    assert sim.hung_up_ms is not None


def test_a_model_that_calls_tools_for_ever_is_made_to_answer() -> None:
    def model(request: LlmRequest) -> list[Delta]:
        if request.tools:
            return [ToolCall(f"t{len(request.messages)}", "book", "{}"), TokenUsage(1, 1)]
        return [TextDelta("Enough."), TokenUsage(1, 1)]

    tools = {"book": lambda _: finished({"ok": False})}
    sim = Sim(model, [Spoken(2000, 3000, "Go.")], tools=tools).run(9000)
    assert len(sim.requests) == 5
    assert sim.spoken()[-1] == "Enough."


def test_a_failing_model_is_apologised_for_and_the_call_goes_on() -> None:
    boom: list[Delta] = [RuntimeError("boom")]
    answers: list[list[Delta]] = [boom, boom, [TextDelta("Fine."), TokenUsage(1, 1)]]
    caller = [Spoken(2000, 3000, "Hello?"), Spoken(12000, 13000, "And now?")]
    sim = Sim(lambda _: answers.pop(0), caller).run(30000)
    assert sim.spoken()[1:5] == [
        "I'm sorry,",
        "something went wrong on my side.",
        "Could you say that again?",
        "Fine.",
    ]


def test_a_model_that_never_answers_is_given_up_after_the_set_time() -> None:
    sim = Sim(lambda _: [], [Spoken(2000, 3000, "Hello?")]).run(16000)
    failed = next(e for e in sim.events("error") if e.data["stage"] == "reply")
    assert failed.t_ms == 3300 + 8000
    assert sim.spoken()[-1] == "Could you say that again?"


def test_after_three_failures_in_a_row_the_agent_says_so_and_hangs_up() -> None:
    caller = [Spoken(t, t + 1000, "Hello?") for t in (2000, 12000, 22000)]
    sim = Sim(lambda _: [RuntimeError("boom")], caller).run(60000)
    assert "Please call again later." in sim.spoken()
    assert sim.hung_up_ms is not None


def test_a_silent_caller_is_asked_twice_and_then_the_call_ends() -> None:
    sim = Sim(says()).run(120_000)
    assert sim.spoken().count("Are you still there?") == 2
    assert sim.spoken()[-1] == "Goodbye."
    assert sim.states()[-1] == "ended"


def test_a_call_that_lasts_too_long_is_ended_with_a_goodbye() -> None:
    caller = [Spoken(t, t + 3000, "and") for t in range(2000, 20000, 3200)]
    sim = Sim(says(*["Yes."] * 20), caller, agent(limits={"max_call_s": 10})).run(60000)
    assert sim.events("limit")[0].t_ms == 10_000
    assert sim.spoken()[-1] == "Goodbye."
    assert sim.states()[-1] == "ended"


def test_hold_silences_the_agent_and_resume_lets_it_say_the_rest() -> None:
    sim = Sim(says(OPEN), [Spoken(2000, 3000, "When?")])
    sim.at(4500, inp.HoldChanged(held=True))
    sim.at(20000, inp.HoldChanged(held=False))
    sim.run(40000)
    held = next(e for e in sim.events("state") if e.data["to"] == "held")
    assert held.t_ms == 4500
    assert not [e for e in sim.events("reply.clause") if 4500 < e.t_ms < 20000]
    assert sim.spoken()[2].endswith("five.")


@pytest.mark.parametrize("at_ms", range(0, 9000, 250))
def test_a_hang_up_at_any_moment_ends_the_call_and_its_timers(at_ms: int) -> None:
    sim = Sim(says(OPEN), [Spoken(2000, 3000, "When?"), Spoken(4500, 5000, "Wait.")])
    sim.at(at_ms, inp.LegEnded("remote_hangup"))
    sim.run(60000)
    assert sim.states()[-1] == "ended"
    assert sim.machine.next_deadline() is None
    assert sim.log.events[-1].kind == "call.ended"


def test_a_turn_detector_that_says_not_finished_gives_the_caller_more_time() -> None:
    sim = Sim(says("Thanks."), [Spoken(2000, 3000, "My number is")], judge=lambda _: 0.1).run(9000)
    assert sim.events("turn.committed")[0].t_ms == 3000 + 1400


def test_a_recorded_call_replays_bit_for_bit() -> None:
    tools = {"book": lambda _: finished({"ok": True})}
    caller = [Spoken(2000, 3000, "Friday."), Spoken(3700, 4500, "No wait."), Spoken(9000, 9050, "")]
    sim = Sim(booking, caller, tools=tools).run(60000)
    replayed, divergence = replay(sim.log.events, sim.script)
    assert divergence is None
    assert len(replayed.events) == len(sim.log.events) > 30


def test_a_changed_agent_shows_up_as_a_divergence_in_the_replay() -> None:
    sim = Sim(says(OPEN), [Spoken(2000, 3000, "When?")]).run(9000)
    other = Sim(says(), agent=agent(phrases={"still_there": "Hello?"}, greeting="Good day.")).script
    _, divergence = replay(sim.log.events, other)
    assert divergence is not None
    assert divergence.recorded is not None
    assert divergence.recorded[1] == "reply.clause"


def test_thirty_seconds_of_call_need_no_waiting() -> None:
    caller = [Spoken(t, t + 1000, "When?") for t in range(2000, 30000, 6000)]
    sim = Sim(says(*[OPEN] * 10), caller).run(30000)
    assert len(sim.events("turn.committed")) == 5
