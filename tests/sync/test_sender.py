# SPDX-License-Identifier: Apache-2.0
"""When the box sends, asks, waits and gives way, second by second in virtual time."""

from __future__ import annotations

import itertools

import pytest

from appliance.store import OutboxPart
from appliance.sync.outbox import Outbox
from appliance.sync.sender import Limits, Want
from appliance.wire import Ack, Refusal, new_id

EPOCH = new_id()
LIMITS = Limits(rows=10)


def outbox(rows: int = 1000, *, acked: int = 0, stream: str = "calls") -> Outbox:
    """An outbox that is connected at second 0 and has asked."""
    parts = [OutboxPart(stream, EPOCH, 1, rows, acked, 0)] if rows else []
    made = Outbox(parts, LIMITS, lambda: 0.5)
    made.connected(0)
    return made


def send(box: Outbox, now: float) -> list[Want]:
    """Send all that may be sent now."""
    wants = []
    while (want := box.next(now)) is not None:
        box.sent(want, want.most, now)
        wants.append(want)
    return wants


def answer(box: Outbox, seq: int, now: float, pause_ms: int = 0) -> None:
    box.acknowledged(Ack(epoch=EPOCH, stream="calls", seq=seq, pause_ms=pause_ms), now)


def test_the_hub_is_asked_before_anything_is_sent() -> None:
    box = outbox()
    (question,) = send(box, 0)
    assert (question.most, question.first) == (0, 1001)
    answer(box, 40, 0.1)
    assert [want.first for want in send(box, 0.1)] == [41, 51]


def test_what_is_in_flight_doubles_with_each_answer_that_moves_up_to_eight_batches() -> None:
    box = outbox()
    send(box, 0)
    answer(box, 0, 0)
    flying, seen, acked = len(send(box, 0)), [], 0
    for _ in range(6):
        seen.append(flying)
        acked += 10
        answer(box, acked, 0)
        flying += len(send(box, 0)) - 1
    assert seen == [2, 4, 8, 8, 8, 8]


def test_without_an_answer_it_asks_at_growing_intervals_and_sends_nothing_else() -> None:
    box = outbox()
    asked, now = [], 0.0
    while now < 2000:
        asked += [now] * len(send(box, now))
        wake = box.wake_at(now)
        assert wake is not None
        now = max(wake, now + 0.001)
    waits = [round(b - a, 1) for a, b in itertools.pairwise(asked)]
    assert waits[:8] == [3.8, 7.5, 15, 30, 60, 120, 225, 225]  # times 0.75, the jitter's middle


def test_an_answer_that_is_late_is_asked_for_and_what_was_lost_is_sent_again() -> None:
    box = outbox()
    send(box, 0)
    answer(box, 0, 0)
    send(box, 0)
    assert send(box, 9.9) == []
    (question,) = send(box, 10)
    assert question.most == 0
    answer(box, 10, 10.5)
    assert [want.first for want in send(box, 10.5)] == [11, 21]


def test_three_answers_that_say_the_same_are_enough_to_send_again() -> None:
    box = outbox()
    send(box, 0)
    answer(box, 0, 0)
    send(box, 0)
    for _ in range(3):
        answer(box, 0, 1)
    assert [want.first for want in send(box, 1)] == [1, 11]


def test_a_hub_that_asks_for_a_pause_gets_it() -> None:
    box = outbox()
    send(box, 0)
    answer(box, 0, 0, pause_ms=5000)
    assert send(box, 4.9) == []
    assert box.wake_at(1) == 5
    assert send(box, 5)


def test_after_a_refusal_it_waits_says_why_and_tries_again() -> None:
    box = outbox()
    send(box, 0)
    box.refused(Refusal(code="version", detail="too new", supported=(1,)), 1)
    assert "too new" in box.fault
    assert send(box, 300) == []
    assert [want.most for want in send(box, 301)] == [0]
    answer(box, 0, 302)
    assert not box.fault


def test_with_nothing_to_send_the_hub_is_asked_every_five_minutes() -> None:
    box = outbox(20, acked=20)
    assert [want.first for want in send(box, 0)] == [21]
    answer(box, 20, 0)
    assert send(box, 299) == []
    assert box.wake_at(299) == 300
    assert [want.most for want in send(box, 300)] == [0]


def test_a_new_fact_is_sent_at_once() -> None:
    box = outbox(20, acked=20)
    send(box, 0)
    answer(box, 20, 0)
    box.wrote("calls", EPOCH, 21)
    assert [(want.first, want.most) for want in send(box, 7)] == [(21, 10)]


def test_the_state_of_the_box_goes_before_its_calls() -> None:
    parts = [OutboxPart(stream, EPOCH, 1, 5, 0, 0) for stream in ("calls", "fleet")]
    box = Outbox(parts, LIMITS, lambda: 0.5)
    box.connected(0)
    assert [want.stream for want in send(box, 0)] == ["fleet", "calls"]


@pytest.mark.parametrize("seq", [5, 2000])
def test_an_answer_about_an_epoch_that_is_not_here_changes_nothing(seq: int) -> None:
    box = outbox()
    send(box, 0)
    ack = Ack(epoch=new_id(), stream="calls", seq=seq)
    assert not box.acknowledged(ack, 1)
    assert send(box, 1) == []


def test_rows_that_are_gone_are_skipped_and_the_hub_is_told_from_where() -> None:
    part = OutboxPart("calls", EPOCH, 401, 500, 450, 0)
    box = Outbox([part], LIMITS, lambda: 0.5)
    box.connected(0)
    send(box, 0)
    answer(box, 100, 0)  # restored from long ago
    want = send(box, 0)[0]
    assert (want.first, want.floor) == (401, 401)
