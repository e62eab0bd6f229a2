# SPDX-License-Identifier: Apache-2.0
"""Whatever comes in whatever order: the core neither raises nor gets stuck, and its log replays."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.call import actions as act
from appliance.call import inputs as inp
from appliance.call.core import Script
from appliance.call.log import EventLog
from appliance.call.machine import CallMachine
from appliance.call.replay import replay
from appliance.call.states import TRANSITIONS, State
from appliance.plugin import ToolSpec
from tests.call.sim import agent

SCRIPT = Script(
    "c", agent(), "You are a test.", "Hello.", (ToolSpec("book", "", {"type": "object"}),)
)
small = st.integers(0, 6)
words = st.sampled_from(["", "Mm-hmm.", "Hello there.", "When, if ever, are you open? Now."])
inputs = st.one_of(
    st.builds(inp.Answered, st.just("PCMU")),
    st.builds(inp.SpeechStarted, st.integers(0, 20_000)),
    st.builds(inp.SpeechStopped, st.integers(0, 20_000)),
    st.builds(inp.SpeechSuspected, st.integers(0, 20_000)),
    st.builds(inp.InterimTranscript, small, words),
    st.builds(inp.FinalTranscript, small, small, words),
    st.builds(inp.RecognitionFailed, small, st.just("gone")),
    st.builds(inp.TurnJudged, small, small, st.floats(0, 1)),
    st.builds(inp.ReplyText, small, words),
    st.builds(inp.ReplyToolCall, small, st.sampled_from("ab"), st.just("book"), st.just("{}")),
    st.builds(inp.ReplyEnded, small),
    st.builds(inp.ReplyFailed, small, st.just("gone")),
    st.builds(
        inp.ToolFinished, small, st.sampled_from("ab"), st.booleans(), st.just("{}"), st.booleans()
    ),
    st.builds(inp.PlaybackStarted, small),
    st.builds(inp.PlaybackIdle, small),
    st.builds(inp.SpeechFailed, small, st.just("gone")),
    st.builds(inp.DtmfPressed, st.sampled_from("0123456789*#")),
    st.builds(inp.HoldChanged, st.booleans()),
    st.builds(inp.LoadChanged, st.integers(0, 3)),
    st.just(inp.Timer()),
)
steps = st.lists(st.tuples(inputs, st.integers(0, 3000)), max_size=60)


def drive(pairs: list[tuple[inp.Input, int]]) -> tuple[CallMachine, EventLog]:
    log = EventLog()
    machine = CallMachine(SCRIPT, log)
    now = 0

    def feed(value: inp.Input) -> None:
        for action in machine.handle(value, now):
            if isinstance(action, act.StopSpeaking):
                feed(inp.PlaybackStopped(((1, "Hello."),)))

    feed(inp.Answered("PCMU"))
    for value, wait in pairs:
        now += wait
        feed(value)
    return machine, log


@settings(max_examples=400, deadline=None)
@given(steps)
def test_any_sequence_of_inputs_is_survived_and_replays_bit_for_bit(
    pairs: list[tuple[inp.Input, int]],
) -> None:
    _, log = drive(pairs)
    assert [event.seq for event in log.events] == list(range(len(log.events)))
    assert [event.t_ms for event in log.events] == sorted(event.t_ms for event in log.events)
    for event in log.events:
        if event.kind == "state":
            assert State(event.data["to"]) in TRANSITIONS[State(event.data["from"])]
    _, divergence = replay(log.events, SCRIPT)
    assert divergence is None


@settings(max_examples=200, deadline=None)
@given(steps)
def test_a_call_that_nobody_touches_any_more_always_ends_by_itself(
    pairs: list[tuple[inp.Input, int]],
) -> None:
    """Left alone with a leg that hangs up when asked and speech that plays, no call lives for ever."""
    machine, _ = drive(pairs)
    now = 200_000
    for _ in range(200):
        if machine.state is State.ENDED:
            return
        deadline = machine.next_deadline()
        assert deadline is not None, f"stuck in {machine.state}"
        now = max(now, deadline)
        for action in machine.handle(inp.Timer(), now):
            match action:
                case act.StopSpeaking():
                    machine.handle(inp.PlaybackStopped(()), now)
                case act.Speak(gen, _):
                    machine.handle(inp.PlaybackStarted(gen), now)
                    machine.handle(inp.PlaybackIdle(gen), now)
                case act.HangUp():
                    machine.handle(inp.LegEnded("local_hangup"), now)
    raise AssertionError(f"still {machine.state} after two hundred deadlines")
