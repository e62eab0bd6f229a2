# SPDX-License-Identifier: Apache-2.0
"""Speculation, broken engines and load through the asyncio shell, in virtual time, at the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from appliance.call.admission import Admission, Level
from appliance.call.switchboard import Switchboard
from appliance.plugin import (
    LlmCapabilities,
    LlmDelta,
    LlmRequest,
    ReplyPace,
    SpeechChunk,
    TextDelta,
    TokenUsage,
    TtsRequest,
    UnavailableError,
)
from appliance.store import Store
from tests.call import fakes, sim
from tests.call.test_switchboard import board_test

TALK = fakes.seconds(1.5) + fakes.seconds(1, 500)
GREETING = "Hello."


class SlowMind:
    """Writes a word every 40 ms, and keeps each request and how it ended."""

    capabilities = LlmCapabilities()

    def __init__(self, text: str) -> None:
        self.words = text.split(" ")
        self.paces: list[ReplyPace] = []
        self.changes: list[tuple[float, bool, float]] = []
        self.cancelled = 0

    async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        pace = request.pace
        assert pace is not None
        loop = asyncio.get_running_loop()
        self.paces.append(pace)
        pace.watch(lambda: self.changes.append((loop.time(), pace.committed, pace.unplayed_s)))
        try:
            for index, word in enumerate(self.words):
                await asyncio.sleep(0.04)
                yield TextDelta(word if index == 0 else f" {word}")
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        yield TokenUsage(10, len(self.words))

    async def aclose(self) -> None: ...


def onset(leg: fakes.FakeLeg, after: int) -> int:
    """Return the first frame from `after` on in which the agent is heard."""
    return next(i for i, pcm in enumerate(leg.heard) if i >= after and len(pcm) and pcm.max() > 0)


def wait_frames(tmp_path: Path, *, speculation: bool) -> int:
    """Return after how many frames of silence the answer is heard."""
    waited: list[int] = []

    async def scenario(board: Switchboard, store: Store) -> None:
        leg = fakes.FakeLeg(board)
        board.incoming(leg)
        await fakes.speak([leg], TALK + fakes.seconds(3))
        waited.append(onset(leg, 126) - 125)

    agent = sim.agent(turn_taking={"speculation": speculation})
    folder = tmp_path / str(speculation)
    folder.mkdir()
    board_test(folder, SlowMind("Yes, we are. All day."), scenario, agent=agent)
    return waited[0]


def test_held_speech_is_on_the_wire_within_two_frames_of_the_decision(tmp_path: Path) -> None:
    assert wait_frames(tmp_path, speculation=True) <= 300 // 20 + 2


def test_without_speculation_model_and_synthesizer_come_on_top(tmp_path: Path) -> None:
    assert wait_frames(tmp_path, speculation=False) >= (300 + 4 * 40) // 20


def test_what_is_discarded_is_never_heard_and_is_counted_apart(tmp_path: Path) -> None:
    mind = SlowMind("Yes. We are open from nine to five on every day of the week.")

    async def scenario(board: Switchboard, store: Store) -> None:
        leg = fakes.FakeLeg(board)
        board.incoming(leg)
        pause = fakes.seconds(0.22)
        await fakes.speak([leg], TALK + pause + fakes.seconds(1, 700) + fakes.seconds(0.3))
        assert not any(pcm.max(initial=0) > 0 for pcm in leg.heard[130:])
        await fakes.speak([leg], fakes.seconds(6))
        leg.end()
        await board.idle()

    board_test(tmp_path, mind, scenario)
    assert mind.cancelled == 1
    with Store.open(tmp_path / "box.db") as store:
        [one] = store.calls()
        used = {(u.provider, u.kind): u.quantity for u in store.usage(one.id)}
        texts = [line.text for line in store.transcript(one.id)]
    assert texts == [GREETING, "level 500 level 700", " ".join(mind.words)]
    assert used["mind", "completion"] == len(mind.words)
    assert 1 <= used["mind", "discarded_completion"] <= 4
    assert used["voice", "text_to_speech"] == len(GREETING) + len(" ".join(mind.words)) - 1


def test_no_more_than_two_seconds_and_a_clause_are_synthesized_ahead_of_the_decision(
    tmp_path: Path,
) -> None:
    text = " ".join(["We are open today."] * 12)
    agent = sim.agent(turn_taking={"end_of_turn_ms": 5000})

    async def scenario(board: Switchboard, store: Store) -> None:
        leg = fakes.FakeLeg(board)
        board.incoming(leg)
        await fakes.speak([leg], TALK + fakes.seconds(4))
        leg.end()
        await board.idle()

    board_test(tmp_path, SlowMind(text), scenario, agent=agent)
    with Store.open(tmp_path / "box.db") as store:
        [one] = store.calls()
        used = {(u.provider, u.kind): u.quantity for u in store.usage(one.id)}
    seconds = used["voice", "discarded_text_to_speech"] * fakes.SAMPLES_PER_CHAR / 16_000
    assert 2 <= seconds <= 2 + 2 * len("We are open today.") * 0.06


def test_the_model_is_told_of_the_decision_and_of_unplayed_speech(tmp_path: Path) -> None:
    mind = SlowMind(" ".join(["We are open today."] * 8))

    async def scenario(board: Switchboard, store: Store) -> None:
        leg = fakes.FakeLeg(board)
        board.incoming(leg)
        await fakes.speak([leg], TALK + fakes.seconds(4))

    board_test(tmp_path, mind, scenario, agent=sim.agent(turn_taking={"end_of_turn_ms": 600}))
    committed = [at for at, committed, _ in mind.changes if committed]
    assert any(not committed for _, committed, _ in mind.changes)
    assert max(unplayed for *_, unplayed in mind.changes) > 1
    told = [at for at, *_ in mind.changes]
    assert len(told) <= (told[-1] - told[0]) * 10 + 2
    assert committed[0] - told[0] < 0.6


def test_a_reply_outside_of_speculation_is_wanted_from_the_start(tmp_path: Path) -> None:
    mind = SlowMind("Yes.")

    async def scenario(board: Switchboard, store: Store) -> None:
        leg = fakes.FakeLeg(board)
        board.incoming(leg)
        await fakes.speak([leg], TALK + fakes.seconds(1))

    board_test(tmp_path, mind, scenario, agent=sim.agent(turn_taking={"speculation": False}))
    assert [pace.committed for pace in mind.paces] == [True]


class BreakingVoice(fakes.ToneVoice):
    """Stops after two words, every second time it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def speak(
        self, text: AsyncIterator[str], request: TtsRequest
    ) -> AsyncIterator[SpeechChunk]:
        piece = "".join([part async for part in text])
        self.asked.append(piece)
        left = 2 if len(self.asked) % 2 == 0 else 1000

        async def once() -> AsyncIterator[str]:
            yield piece

        async for chunk in super().speak(once(), request):
            if not left:
                raise UnavailableError("the engine died")
            left -= 1
            yield chunk


def test_a_voice_that_breaks_off_in_a_clause_says_the_rest_of_it(tmp_path: Path) -> None:
    voice = BreakingVoice()
    spoken: list[int] = []

    async def scenario(board: Switchboard, store: Store) -> None:
        leg = fakes.FakeLeg(board)
        board.incoming(leg)
        await fakes.speak([leg], TALK + fakes.seconds(5))
        spoken.append(sum(int((pcm > 0).sum()) for pcm in leg.heard[130:]))
        leg.end()
        await board.idle()

    agent = sim.agent(turn_taking={"speculation": False})
    board_test(tmp_path, fakes.always("We are open all day."), scenario, agent=agent, voice=voice)
    assert voice.asked[:2] == [GREETING, "We are open all day."]
    assert len(voice.asked) == 3
    assert "We are open all day.".endswith(voice.asked[2])
    with Store.open(tmp_path / "box.db") as store:
        [one] = store.calls()
        assert [line.text for line in store.transcript(one.id)][-1] == "We are open all day."
        assert not [e for e in store.events(one.id) if e.kind == "error.speech"]
    whole = (len("We are open all day.") + 1) * fakes.SAMPLES_PER_CHAR
    assert abs(spoken[0] - whole) <= 6 * fakes.SAMPLES_PER_CHAR


def test_an_overloaded_box_refuses_new_calls_and_keeps_those_it_has(tmp_path: Path) -> None:
    admission = Admission(900)

    async def scenario(board: Switchboard, store: Store) -> None:
        leg = fakes.FakeLeg(board)
        board.incoming(leg)
        await fakes.speak([leg], fakes.seconds(2))
        for _ in range(200):
            admission.answered(asyncio.get_running_loop().time(), 5000)
            await fakes.speak([leg], fakes.seconds(0.1))
        assert board.admission.level is Level.FULL
        late = fakes.FakeLeg(board, "late")
        board.incoming(late)
        await asyncio.sleep(0.1)
        assert late.rejected == (503, 30)
        assert (board.refused, board.refused_for_load) == (1, 1)
        assert leg.up
        await fakes.speak([leg], fakes.seconds(75))
        again = fakes.FakeLeg(board, "again")
        board.incoming(again)
        await asyncio.sleep(0.1)
        assert again.rejected is None

    patient = sim.agent(turn_taking={"silence_prompt_ms": 120_000})
    board_test(tmp_path, fakes.always("Yes."), scenario, agent=patient, admission=admission)
    with Store.open(tmp_path / "box.db") as store:
        [first, *_] = sorted(store.calls(), key=lambda call: call.started_at)
        levels = [e.data["level"] for e in store.events(first.id) if e.kind == "load"]
    assert levels == [1, 2, 3, 2, 1, 0]


def test_slow_answers_of_the_calls_themselves_are_the_load(tmp_path: Path) -> None:
    async def scenario(board: Switchboard, store: Store) -> None:
        legs = [fakes.FakeLeg(board, f"leg{i}") for i in range(6)]
        for leg in legs:
            board.incoming(leg)
        await fakes.speak(legs, TALK + fakes.seconds(3))
        assert board.admission.p95_ms() is not None
        assert board.admission.level is Level.LEAN

    slow = sim.agent(turn_taking={"speculation": False})
    mind = SlowMind(" ".join(["word"] * 20))
    board_test(tmp_path, mind, scenario, agent=slow, admission=Admission(600))


def test_an_agent_that_waits_long_by_its_own_setting_is_no_load(tmp_path: Path) -> None:
    async def scenario(board: Switchboard, store: Store) -> None:
        legs = [fakes.FakeLeg(board, f"leg{i}") for i in range(6)]
        for leg in legs:
            board.incoming(leg)
        await fakes.speak(legs, TALK + fakes.seconds(4))
        assert (board.admission.p95_ms() or 0) < 500
        assert board.admission.level is Level.NORMAL

    patient = sim.agent(turn_taking={"end_of_turn_ms": 2000})
    board_test(tmp_path, SlowMind("Yes."), scenario, agent=patient, admission=Admission(600))
