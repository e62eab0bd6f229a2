# SPDX-License-Identifier: Apache-2.0
"""Strategies of the end of a turn, alone and in a call."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from appliance.call import inputs as inp
from appliance.call.core import Script
from appliance.call.end_of_turn import DetectedEnd, PlainSilence, TurnView, strategy
from appliance.call.log import EventLog
from appliance.call.machine import CallMachine
from appliance.call.timing import TurnTaking
from tests.call.sim import Sim, Spoken, agent, says

SILENT = TurnView(silence_ms=100, speech_ms=900)


def test_plain_silence_waits_the_same_for_every_turn() -> None:
    waits = {PlainSilence(300).wait_ms(replace(SILENT, text=text)) for text in (None, "", "And")}
    assert waits == {300}


def test_a_detector_that_says_not_finished_gets_the_caller_more_time() -> None:
    detected = DetectedEnd(300, 1400)
    assert detected.wait_ms(SILENT) == 300
    assert detected.wait_ms(replace(SILENT, probability=0.9)) == 300
    assert detected.wait_ms(replace(SILENT, probability=0.2)) == 1400


def test_the_settings_choose_the_strategy() -> None:
    timing = TurnTaking(end_of_turn_ms=550)
    assert strategy(timing, detector=False) == PlainSilence(550)
    assert strategy(timing, detector=True) == DetectedEnd(550, 1400)


@dataclass
class Digits:
    """Waits for a number of ten digits; any other turn ends soon."""

    views: list[TurnView] = field(default_factory=list)

    def wait_ms(self, view: TurnView) -> int:
        self.views.append(view)
        digits = sum(char.isdigit() for char in view.text or "")
        return 2000 if 0 < digits < 10 else 200


def with_strategy(ends: Digits, *caller: Spoken) -> Sim:
    sim = Sim(says("Thanks."), caller, agent(greeting="Your number?"))
    script: Script = replace(sim.script, end_of_turn=ends)
    sim.log = EventLog()
    sim.machine = CallMachine(script, sim.log)
    return sim.run(12_000)


def test_a_strategy_of_ones_own_decides_by_the_words() -> None:
    ends = Digits()
    sim = with_strategy(ends, Spoken(2000, 3000, "555 123"), Spoken(4500, 5500, "4567"))
    [committed] = sim.events("turn.committed")
    assert (committed.t_ms, committed.data["text"]) == (5700, "555 123 4567")
    assert [view.text for view in ends.views] == [None, "555 123", None, "555 123 4567"]
    assert ends.views[1].agent_text == "Your number?"
    assert ends.views[1].silence_ms == 126
    assert ends.views[3].speech_ms == 3500


def test_a_strategy_that_shortens_the_wait_when_the_words_come_ends_the_turn_at_once() -> None:
    class Sure:
        def wait_ms(self, view: TurnView) -> int:
            return 1000 if view.text is None else 110

    sim = Sim(says("Thanks."), [Spoken(2000, 3000, "Bye.")])
    sim.log = EventLog()
    sim.machine = CallMachine(replace(sim.script, end_of_turn=Sure()), sim.log)
    sim.run(9000)
    assert sim.events("turn.committed")[0].t_ms == 3126


def test_a_turn_is_not_ended_into_the_onset_of_a_word() -> None:
    sim = Sim(says("Yes."), [Spoken(2000, 3000, "I would"), Spoken(3260, 4000, "like that.")])
    sim.run(9000)
    [committed] = sim.events("turn.committed")
    assert committed.data["text"] == "I would like that."


def test_a_click_at_the_end_of_the_wait_costs_no_more_than_it_takes_to_know_it() -> None:
    sim = Sim(says("Yes."), [Spoken(2000, 3000, "I would.")])
    for at in (3100, 3200, 3290, 3330, 3360):
        sim.at(at, inp.SpeechSuspected(at - 32))
    sim.run(9000)
    assert 3300 < sim.events("turn.committed")[0].t_ms <= 3364
