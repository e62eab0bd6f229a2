# SPDX-License-Identifier: Apache-2.0
"""The order in which the recognizer computes: a pure object, driven by random histories."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from trunkline_faster_whisper.schedule import FullError, Schedule

CALLS = st.sampled_from("abcde")
SHAPES = st.sampled_from([1, 2, 3])
LIMIT, BATCH = 6, 3


class AnyHistory(RuleBasedStateMachine):
    """Calls ask, give up and are served; a plain list says what must wait, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule: Schedule[int] = Schedule(LIMIT, BATCH)
        self.finals: list[tuple[int, str, int]] = []  # job, call, shape
        self.interims: list[tuple[int, str, int]] = []
        self.made = 0

    def job(self) -> int:
        self.made += 1
        return self.made

    @rule(call=CALLS, shape=SHAPES)
    def a_final_is_asked_for(self, call: str, shape: int) -> None:
        job = self.job()
        if len(self.finals) == LIMIT:
            with pytest.raises(FullError):
                self.schedule.add_final(job, call, shape)
            return
        gone = set(self.schedule.add_final(job, call, shape))
        mine = {one for one, whose, _ in self.interims if whose == call}
        assert mine <= gone
        assert len(gone - mine) <= 1
        assert not gone - mine or len(self.finals) + len(self.interims) - len(mine) == LIMIT
        self.interims = [one for one in self.interims if one[0] not in gone]
        self.finals.append((job, call, shape))

    @rule(call=CALLS, shape=SHAPES)
    def an_interim_is_asked_for(self, call: str, shape: int) -> None:
        job = self.job()
        gone = self.schedule.add_interim(job, call, shape)
        at = [at for at, one in enumerate(self.interims) if one[1] == call]
        if at:
            assert gone == [self.interims[at[0]][0]]
            self.interims[at[0]] = (job, call, shape)
        elif len(self.finals) + len(self.interims) == LIMIT:
            assert gone == [job]
        else:
            assert gone == []
            self.interims.append((job, call, shape))

    @precondition(lambda self: self.finals or self.interims)
    @rule(data=st.data())
    def someone_gives_up(self, data: st.DataObject) -> None:
        job, _, _ = data.draw(st.sampled_from(self.finals + self.interims))
        self.schedule.drop(job)
        self.finals = [one for one in self.finals if one[0] != job]
        self.interims = [one for one in self.interims if one[0] != job]

    @rule()
    def a_thread_is_free(self) -> None:
        waiting = self.finals or self.interims
        expected = [one for one in waiting if one[2] == waiting[0][2]][:BATCH]
        assert self.schedule.take() == [job for job, _, _ in expected]
        for one in expected:
            waiting.remove(one)

    @rule()
    def a_stranger_is_dropped(self) -> None:
        self.schedule.drop(-1)

    @invariant()
    def it_is_bounded_and_counts_what_waits(self) -> None:
        assert len(self.schedule) == len(self.finals) + len(self.interims) <= LIMIT

    @invariant()
    def a_call_has_one_interim_at_most(self) -> None:
        calls = [call for _, call, _ in self.interims]
        assert len(calls) == len(set(calls))

    def teardown(self) -> None:
        left = self.schedule.clear()
        assert sorted(left) == sorted(job for job, _, _ in self.finals + self.interims)
        assert len(self.schedule) == 0
        assert self.schedule.take() == []


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_nobody_waits_for_ever_among_finals() -> None:
    schedule: Schedule[int] = Schedule(limit=1000, batch=2)
    schedule.add_final(0, "first", shape=0)
    for job in range(1, 100):  # a crowd of another shape comes again and again
        schedule.add_final(job, "crowd", shape=1)
        if 0 in schedule.take():
            break
    assert job == 1
