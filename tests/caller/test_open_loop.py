# SPDX-License-Identifier: Apache-2.0
"""Open-loop callers on a virtual clock: they speak by their plan, and measure to the sample."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.audio.types import SAMPLE_RATE, Pcm, silence
from appliance.caller.open_loop import Heard, OpenCaller
from appliance.caller.plan import PlannedCall, Turn, Voices, plan
from appliance.plugin import FRAME_SAMPLES, Direction, LegInfo, MediaFrame
from tests.lab.process import espeak


def tone(seconds: float, level: int = 8000) -> Pcm:
    t = np.arange(round(seconds * SAMPLE_RATE))
    return (level * np.sign(np.sin(2 * np.pi * 300 * t / SAMPLE_RATE) + 1e-9)).astype(np.int16)


class Desk:
    """A leg whose far end says what a track says, whatever the caller does."""

    def __init__(self, seconds: float) -> None:
        self.info = LegInfo("1", "desk", "", Direction.OUTBOUND, "", "")
        self.track = silence(round(seconds * SAMPLE_RATE))
        self._queue = silence(0)

    def says(self, at_s: float, seconds: float) -> None:
        start = round(at_s * SAMPLE_RATE)
        self.track[start : start + round(seconds * SAMPLE_RATE)] = tone(seconds)

    def play(self, pcm: Pcm) -> None:
        self._queue = np.concatenate([self._queue, pcm])

    def queued(self) -> int:
        return self._queue.size

    def run(self, *turns: Turn) -> Heard:
        caller = OpenCaller(PlannedCall(0, turns, self.track.size / SAMPLE_RATE))
        for start in range(0, self.track.size - FRAME_SAMPLES + 1, FRAME_SAMPLES):
            sent = np.zeros(FRAME_SAMPLES, np.int16)
            part, self._queue = self._queue[:FRAME_SAMPLES], self._queue[FRAME_SAMPLES:]
            sent[: part.size] = part
            heard = self.track[start : start + FRAME_SAMPLES]
            caller.tick(self, MediaFrame(self, heard, sent))  # type: ignore[arg-type]
        return caller.result(failed=False)


def whole(at_s: float) -> Turn:
    return Turn(at_s, "whole", "one", tone(1.0))


def test_latency_is_from_the_last_sample_sent_to_the_first_heard() -> None:
    desk = Desk(8)
    desk.says(3.7, 1.0)
    heard = desk.run(whole(2.0))
    # The caller decides in the tick that ends at 2.0 s, and its first frame leaves in the next one.
    assert heard.latencies_s == [pytest.approx(0.7, abs=0.021)]
    assert (heard.missed, heard.early, heard.cut_ins) == ([False], [False], [])


def test_callers_speak_again_whether_they_were_answered_or_not() -> None:
    desk = Desk(12)
    desk.says(7.5, 1.0)
    heard = desk.run(whole(2.0), whole(6.0))
    assert heard.missed == [True, False]
    assert len(heard.latencies_s) == 1


def test_an_answer_into_a_pause_is_a_cut_in_and_no_latency() -> None:
    paused = np.concatenate([tone(0.8), silence(round(0.6 * SAMPLE_RATE)), tone(0.8)])
    desk = Desk(8)
    desk.says(3.2, 0.4)
    desk.says(4.6, 1.0)
    heard = desk.run(Turn(2.0, "paused", "one ... two", paused))
    assert heard.cut_ins == [True]
    assert heard.latencies_s == []
    assert heard.missed == [False]


def test_an_interruption_begins_into_the_answer_and_times_its_end() -> None:
    desk = Desk(14)
    desk.says(3.5, 1.6)
    desk.says(7.0, 1.0)
    heard = desk.run(whole(2.0), Turn(2.0, "interruption", "two", tone(1.0)))
    # It begins 1.2 s into the answer, at about 4.7 s; the answer stops at 5.1 s.
    assert heard.barge_in_s == [pytest.approx(0.4, abs=0.06)]
    assert heard.missed == [False, False]


def test_without_an_answer_nobody_is_interrupted() -> None:
    heard = Desk(14).run(whole(2.0), Turn(2.0, "interruption", "two", tone(1.0)), whole(9.0))
    assert heard.barge_in_s == []
    assert heard.missed == [True, True]


async def test_a_plan_is_the_same_for_the_same_seed_and_has_all_kinds_of_turns() -> None:
    synthesizer = espeak()
    try:
        voices = Voices(synthesizer)
        one, two = [await plan(voices, 2, 8, seed=5) for _ in range(2)]
    finally:
        await synthesizer.aclose()
    assert {turn.kind for turn in one[0].turns} == {"whole", "paused", "interruption"}
    for mine, other in zip(one, two, strict=True):
        assert (mine.dial_s, mine.hang_up_s) == (other.dial_s, other.hang_up_s)
        assert [turn.at_s for turn in mine.turns] == [turn.at_s for turn in other.turns]
        assert all(
            np.array_equal(a.pcm, b.pcm) for a, b in zip(mine.turns, other.turns, strict=True)
        )
