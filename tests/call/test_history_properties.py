# SPDX-License-Identifier: Apache-2.0
"""Whatever happens in a call: what the caller heard is the history, and a replay agrees."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.call import inputs as inp
from appliance.call.replay import replay
from appliance.plugin import LlmRequest, TextDelta, TokenUsage
from tests.call.sim import Delta, Model, Sim, Spoken, agent

ANSWER = "Well, yes, of course we are. It is all day, every day, and on Sundays too. Come by."

speech = st.tuples(st.integers(100, 2500), st.integers(130, 6000), st.sampled_from(["a", "", "ok"]))
talk = st.lists(speech, min_size=1, max_size=6)
breaks = st.lists(st.one_of(st.none(), st.integers(0, 16)), max_size=6)
"""After how many words each reply of the model breaks off; None: it does not."""
holds = st.lists(st.tuples(st.integers(1000, 20_000), st.integers(100, 4000)), max_size=2)


def breaking(after: list[int | None]) -> Model:
    left = iter(after)

    def model(_: LlmRequest) -> list[Delta]:
        words = ANSWER.split(" ")
        pieces: list[Delta] = [TextDelta(w if i == 0 else f" {w}") for i, w in enumerate(words)]
        limit = next(left, None)
        if limit is None:
            return [*pieces, TokenUsage(10, len(words))]
        return [*pieces[:limit], RuntimeError("the engine died")]

    return model


@settings(max_examples=80, deadline=None)
@given(talk, breaks, holds, st.integers(5, 150), st.integers(0, 300))
def test_the_history_is_what_was_heard(
    said: list[tuple[int, int, str]],
    after: list[int | None],
    held: list[tuple[int, int]],
    model_ms: int,
    tts_ms: int,
) -> None:
    caller, t = [], 1500
    for length, pause, word in said:
        caller.append(Spoken(t, t + length, word))
        t += length + pause
    patient = agent(turn_taking={"silence_prompt_ms": 120_000}, limits={"failures": 10})
    sim = Sim(breaking(after), caller, patient, model_ms=model_ms, tts_ms=tts_ms)
    for at, length in held:
        sim.at(at, inp.HoldChanged(held=True))
        sim.at(at + length, inp.HoldChanged(held=False))
    sim.run(t + 30_000)
    in_history = " ".join(text for role, text in sim.history() if role == "assistant")
    heard = [
        (e.t_ms, text)
        for e in sim.log.events
        if e.kind in {"speak.ended", "speak.stopped"}
        for text in (
            [e.data["heard"]]
            if e.kind == "speak.ended"
            else [piece for _, piece in e.data["heard"]]
        )
        if text
    ]
    assert in_history.split() == " ".join(text for _, text in heard).split()
    assert sim.machine.state.value in {"listening", "held"}
    _, divergence = replay(sim.log.events, sim.script)
    assert divergence is None
