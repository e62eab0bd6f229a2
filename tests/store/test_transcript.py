# SPDX-License-Identifier: Apache-2.0
"""Transcripts, read from logs that the call core itself wrote on a virtual clock."""

from __future__ import annotations

import json
from collections.abc import Sequence

from appliance.call import inputs as inp
from appliance.plugin import LlmRequest, Role, TextDelta, TokenUsage, ToolCall
from appliance.store import Event, Line, transcript
from tests.call.sim import Delta, Sim, Spoken, says

OPEN = "We are open Monday to Friday from nine to five."


def read(sim: Sim) -> list[Line]:
    return transcript(Event("c1", e.seq, e.t_ms, e.kind, e.data) for e in sim.log.events)


def words(lines: Sequence[Line]) -> list[tuple[str, str]]:
    return [(line.who, line.text) for line in lines]


def test_both_sides_are_written_down_in_order_and_dated_to_their_first_sound() -> None:
    sim = Sim(says(OPEN), [Spoken(2000, 3000, "When are you open?")]).run(9000)
    lines = read(sim)
    assert words(lines) == [("agent", "Hello."), ("caller", "When are you open?"), ("agent", OPEN)]
    assert lines[1].t_ms == 2000
    assert lines[2].t_ms == sim.events("speak.started")[1].t_ms
    assert not any(line.interrupted for line in lines)


def test_an_answer_carries_its_latency_and_the_greeting_none() -> None:
    lines = read(Sim(says(OPEN), [Spoken(2000, 3000, "When are you open?")]).run(9000))
    assert lines[0].latency_ms is None
    assert lines[2].latency_ms == lines[2].t_ms - 3000
    assert sum(lines[2].latency_parts.values()) == lines[2].latency_ms


def test_of_an_interrupted_answer_only_the_words_that_were_heard_are_written() -> None:
    caller = [Spoken(2000, 3000, "When are you open?"), Spoken(4600, 6000, "And on Saturday?")]
    lines = read(Sim(says(OPEN, "From ten to one."), caller).run(12000))
    cut = lines[2]
    assert cut.interrupted
    assert cut.text
    assert OPEN.startswith(cut.text)
    assert cut.text != OPEN
    assert words(lines[3:]) == [("caller", "And on Saturday?"), ("agent", "From ten to one.")]
    assert [line.t_ms for line in lines] == sorted(line.t_ms for line in lines)


def test_a_cough_leaves_no_line() -> None:
    caller = [Spoken(1500, 1900, ""), Spoken(4000, 5000, "Hi.")]
    lines = read(Sim(says("Hello there."), caller).run(12000))
    heard = [line for line in lines if line.who == "caller"]
    assert [(line.text, line.t_ms) for line in heard] == [("Hi.", 4000)]


def test_a_tool_is_written_with_its_arguments_and_what_came_of_it() -> None:
    def model(request: LlmRequest) -> list[Delta]:
        if request.messages[-1].role is Role.TOOL:
            return [TextDelta("Done."), TokenUsage(1, 1)]
        return [ToolCall("t1", "book", '{"day": "Friday"}'), TokenUsage(1, 1)]

    def book(_: str) -> inp.ToolFinished:
        return inp.ToolFinished(0, "", ok=False, content=json.dumps({"reason": "taken"}))

    lines = read(Sim(model, [Spoken(2000, 3000, "Friday.")], tools={"book": book}).run(9000))
    assert ("tool", 'book {"day": "Friday"} -> failed: {"reason": "taken"}') in words(lines)
    assert words(lines)[-1] == ("agent", "Done.")


def test_pressed_keys_are_written() -> None:
    sim = Sim(says())
    sim.at(1500, inp.DtmfPressed("5"))
    assert ("caller", "[key 5]") in words(read(sim.run(3000)))


def test_an_empty_log_is_an_empty_transcript() -> None:
    assert transcript([]) == []
