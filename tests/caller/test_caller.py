# SPDX-License-Identifier: Apache-2.0
"""The caller against a far end of tones, in virtual time: media ticks are the only clock."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path

import numpy as np
import pytest

from appliance.caller import Caller, CallResult, PreparedTurn, Timing, TurnResult, summarize
from tests.caller.lab import RATE, LabTransport, tone

HELLO = PreparedTurn("say", "Hello.", tone(12_345))
LONG = PreparedTurn("say", "Tell me all.", tone(20_000))
STOP = PreparedTurn("say", "Stop.", tone(9_999), interrupt_after_s=0.4)
BYE = PreparedTurn("say", "Bye.", tone(8_000))


async def talk(
    *turns: PreparedTurn,
    target: str = "sip:100",
    timing: Timing | None = None,
    greeting: bool = True,
    record: Path | None = None,
    **agent: int | bool,
) -> tuple[CallResult, LabTransport]:
    transport = LabTransport(**agent)
    async with asyncio.timeout(30), Caller(transport) as caller:
        result = await caller.call(
            target, turns, timing=timing, greeting=greeting, record=record, answer_timeout_s=0.2
        )
    return result, transport


async def test_answer_latency_is_exact_to_the_sample() -> None:
    result, _ = await talk(HELLO, LONG, BYE, latency=7777, farewell=3)
    assert result.answered
    assert result.heard
    assert result.complete
    assert result.cause == "remote_hangup"
    assert result.codec == "PCMU"
    assert [turn.answer_latency_s for turn in result.turns] == [7777 / RATE] * 3
    assert [turn.text for turn in result.turns] == ["Hello.", "Tell me all.", "Bye."]
    for turn, spec in zip(result.turns, (HELLO, LONG, BYE), strict=True):
        assert turn.speech_start_s is not None
        assert turn.speech_end_s is not None
        assert (turn.speech_end_s - turn.speech_start_s) * RATE == pytest.approx(spec.pcm.size)
    assert result.greeting is not None
    assert result.greeting.answer_latency_s == pytest.approx((500 + 320) / RATE, abs=0.03)


async def test_barge_in_stop_is_exact_to_the_sample_and_the_answer_is_counted_too() -> None:
    result, _ = await talk(HELLO, STOP, BYE, latency=9000, stop=3333, answer=5 * RATE, farewell=3)
    hello, stop, bye = result.turns
    assert not hello.interrupted
    assert hello.reply_start_s is not None
    assert stop.interrupted
    assert stop.speech_start_s is not None
    assert stop.speech_start_s - hello.reply_start_s == pytest.approx(0.4, abs=0.025)
    assert stop.barge_in_stop_s == 3333 / RATE
    assert stop.answer_latency_s == 9000 / RATE
    assert bye.barge_in_stop_s is None
    summary = summarize([result])
    assert summary["answer_latency"].n == 3
    assert summary["barge_in_stop"].p50 == pytest.approx(1000 * 3333 / RATE)


async def test_the_greeting_can_be_interrupted() -> None:
    result, _ = await talk(STOP, stop=2000, greeting=True, farewell=1)
    assert result.turns[0].barge_in_stop_s == 2000 / RATE


async def test_an_early_answer_is_marked_and_gives_no_latency() -> None:
    pause = np.zeros(5000, np.int16)
    halting = PreparedTurn("say", "I ... well", np.concatenate([tone(4000), pause, tone(8000)]))
    result, _ = await talk(halting, latency=5200, stop=60_000, answer=4 * RATE, farewell=2)
    assert result.turns[0].early
    assert result.turns[0].answer_latency_s is None
    assert summarize([result]) == {}


async def test_a_missing_answer_is_noted_and_the_script_goes_on() -> None:
    timing = Timing(reply_timeout_s=2, linger_s=1)
    result, transport = await talk(HELLO, BYE, timing=timing, deaf=True)
    assert [turn.reply_missing for turn in result.turns] == [True, True]
    assert result.complete
    assert result.cause == "local_hangup"
    assert transport.legs[0].hung_up


async def test_an_agent_that_says_nothing_was_not_heard() -> None:
    timing = Timing(greeting_timeout_s=1, reply_timeout_s=1, linger_s=0.5)
    async with Caller(LabTransport(deaf=True, greeting=0)) as caller:
        result = await caller.call("sip:100", [HELLO], timing=timing)
    assert result.answered
    assert not result.heard
    assert result.greeting is not None
    assert result.greeting.reply_missing


async def test_digits_waiting_and_turns_that_expect_no_answer() -> None:
    turns = (
        PreparedTurn("dtmf", "42#", digits="42#", expect_reply=False),
        PreparedTurn("wait", "2 s", seconds=2, expect_reply=False),
        PreparedTurn("say", "Mm-hmm.", tone(4000), expect_reply=False, pause_s=0.5),
        BYE,
    )
    result, transport = await talk(*turns, farewell=2)
    assert transport.legs[0].digits == "42#"
    digits, wait, backchannel, bye = result.turns
    assert digits.kind == "dtmf"
    assert wait.speech_start_s is None
    assert result.greeting is not None
    assert result.greeting.reply_end_s is not None
    assert backchannel.speech_start_s is not None
    pause = backchannel.speech_start_s - result.greeting.reply_end_s
    assert pause == pytest.approx(0.8 + 3 * 0.26 + 2 + 0.5, abs=0.1)
    assert bye.answer_latency_s is not None


async def test_many_calls_at_once_keep_apart() -> None:
    seen: list[TurnResult] = []
    transport = LabTransport(latency=6000, farewell=2)
    async with Caller(transport) as caller:
        results = await asyncio.gather(
            *(caller.call("sip:100", [HELLO, BYE], on_turn=seen.append) for _ in range(5))
        )
    assert [len(result.turns) for result in results] == [2] * 5
    assert {t.answer_latency_s for r in results for t in r.turns} == {6000 / RATE}
    assert len(seen) == 5 * 3
    assert summarize(results)["answer_latency"].n == 10


async def test_the_recording_holds_the_caller_left_and_the_agent_right(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    result, _ = await talk(HELLO, record=path, farewell=1)
    assert result.recording == str(path)
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, RATE)
        both = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    caller = np.flatnonzero(both[:, 0])
    agent = np.flatnonzero(both[:, 1])
    (turn,) = result.turns
    assert turn.speech_start_s is not None
    assert turn.reply_start_s is not None
    assert caller[0] == round(turn.speech_start_s * RATE)
    assert round(turn.reply_start_s * RATE) in agent
    assert both.shape[0] == pytest.approx(result.seconds * RATE)


@pytest.mark.parametrize(
    ("target", "cause", "code"),
    [("sip:busy", "busy", 486), ("sip:nobody", "no_answer", 0), ("bad", "failed", 0)],
)
async def test_a_call_that_is_not_taken_says_why(target: str, cause: str, code: int) -> None:
    result, _ = await talk(HELLO, target=target)
    assert not result.answered
    assert (result.cause, result.code) == (cause, code)
    assert result.turns == ()


async def test_a_call_has_a_longest_duration() -> None:
    timing = Timing(max_call_s=3)
    result, _ = await talk(LONG, LONG, LONG, LONG, timing=timing)
    assert 3 <= result.seconds < 3.1
    assert not result.complete


async def test_cancelling_a_call_hangs_up() -> None:
    transport = LabTransport()
    greeted = asyncio.Event()
    async with Caller(transport) as caller:
        call = caller.call("sip:100", [HELLO] * 50, on_turn=lambda _: greeted.set())
        task = asyncio.create_task(call)
        await greeted.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert transport.legs[0].hung_up
