# SPDX-License-Identifier: Apache-2.0
"""Calls through the asyncio shell in virtual time: real core, real store, fake leg and engines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from appliance.audio.recorder import RecordingWriter
from appliance.call.admission import Admission
from appliance.call.agent import Agent
from appliance.call.log import Event
from appliance.call.replay import replay
from appliance.call.shell import CallEngines
from appliance.call.switchboard import Switchboard
from appliance.call.toolbox import ToolBox
from appliance.call.tools import EndCallTool
from appliance.engines.chain import (
    Health,
    LanguageModelChain,
    Member,
    SpeechToTextChain,
    TextToSpeechChain,
)
from appliance.plugin import (
    LanguageModel,
    RecordingCapabilities,
    TextDelta,
    TextToSpeech,
    TokenUsage,
    ToolCall,
    UnavailableError,
)
from appliance.store import Store
from tests.call import fakes, sim
from tests.virtual_time import run


class Desk:
    """Answers 100 with one agent."""

    def __init__(
        self,
        agent: Agent,
        model: LanguageModel,
        ears: fakes.LevelRecognizer,
        voice: TextToSpeech | None = None,
    ) -> None:
        self.agent = agent
        self.model = model
        self.ears = ears
        self.voice = voice or fakes.ToneVoice()

    def agent_for(self, called: str) -> Agent | None:
        return self.agent if called == "100" else None

    def engines_for(self, agent: Agent) -> CallEngines:
        clock = asyncio.get_running_loop().time
        return CallEngines(
            SpeechToTextChain(Health([Member("ears", self.ears)], clock)),
            LanguageModelChain(Health([Member("mind", self.model)], clock)),
            TextToSpeechChain(Health([Member("voice", self.voice)], clock)),
        )

    def version_id(self, agent: Agent) -> str:
        return ""

    def toolbox(self, agent: Agent, caller: str) -> ToolBox:
        tools = [EndCallTool(tool) for tool in agent.tools if tool.type == "end_call"]
        return ToolBox(tools, agent=agent.name, caller=caller)


class Archive:
    """A recording store that moves files into memory, or cannot."""

    capabilities = RecordingCapabilities()

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.kept: dict[str, int] = {}

    async def put(self, call_id: str, wav: Path) -> str:
        if self.error is not None:
            raise self.error
        self.kept[call_id] = wav.stat().st_size
        wav.unlink()
        return f"memory:{call_id}"

    async def fetch(self, uri: str, to: Path) -> None: ...

    async def delete(self, uri: str) -> None: ...

    async def aclose(self) -> None: ...


def board_test(
    tmp_path: Path,
    model: LanguageModel,
    scenario: Callable[[Switchboard, Store], Awaitable[None]],
    *,
    agent: Agent | None = None,
    max_calls: int = 10,
    vad: fakes.LevelVad | None = None,
    ears: fakes.LevelRecognizer | None = None,
    voice: TextToSpeech | None = None,
    admission: Admission | None = None,
    recordings: bool = False,
    archive: Archive | None = None,
    notify: Callable[..., None] = lambda *_, **__: None,
) -> None:
    store = Store.open(tmp_path / "box.db")
    writer = RecordingWriter()

    async def main() -> None:
        board = Switchboard(
            Desk(agent or sim.agent(), model, ears or fakes.LevelRecognizer(), voice),
            vad or fakes.LevelVad(),
            store,
            max_calls=max_calls,
            admission=admission,
            recordings=(writer, tmp_path / "rec") if recordings else None,
            archive=archive,
            notify=notify,
            clock=asyncio.get_running_loop().time,
        )
        try:
            await scenario(board, store)
        finally:
            await board.aclose()
        await store.sync()

    try:
        run(main())
    finally:
        writer.close()
        store.close()


def test_a_call_is_held_from_ring_to_record(tmp_path: Path) -> None:
    told: list[str] = []

    async def scenario(board: Switchboard, store: Store) -> None:
        leg = fakes.FakeLeg(board)
        board.incoming(leg)
        await fakes.speak([leg], fakes.seconds(2) + fakes.seconds(1, 500) + fakes.seconds(3))
        leg.end()
        await board.idle()

    board_test(
        tmp_path,
        fakes.always("We are open."),
        scenario,
        recordings=True,
        notify=lambda hook, **_: told.append(hook),
    )
    with Store.open(tmp_path / "box.db") as store:
        [call] = store.calls()
        assert (call.agent, call.cause, call.called) == ("test", "remote_hangup", "100")
        lines = [(line.who, line.text) for line in store.transcript(call.id)]
        assert lines == [("agent", "Hello."), ("caller", "level 500"), ("agent", "We are open.")]
        used = {(u.provider, u.kind, u.unit): u.quantity for u in store.usage(call.id)}
        assert used["mind", "completion", "tokens"] == 2
        assert used["voice", "text_to_speech", "characters"] == len("Hello.We are open.")
        assert Path(call.recording_path).stat().st_size > 6 * 16_000 * 4 * 0.9
        events = [Event(e.seq, e.t_ms, e.kind, dict(e.data)) for e in store.events(call.id)]
    assert [event.seq for event in events] == list(range(len(events)))
    assert told == ["call_ringing", "call_answered", "turn_committed", "call_ended"]


def test_the_stored_log_of_a_call_replays_bit_for_bit(tmp_path: Path) -> None:
    async def scenario(board: Switchboard, store: Store) -> None:
        leg = fakes.FakeLeg(board)
        board.incoming(leg)
        talk = fakes.seconds(1, 500) + fakes.seconds(1.5) + fakes.seconds(0.6, 700)
        await fakes.speak([leg], fakes.seconds(1) + talk + fakes.seconds(6))
        leg.end()
        await board.idle()

    agent = sim.agent()
    board_test(tmp_path, fakes.always("A rather long answer it is."), scenario, agent=agent)
    with Store.open(tmp_path / "box.db") as store:
        [call] = store.calls()
        events = [Event(e.seq, e.t_ms, e.kind, dict(e.data)) for e in store.events(call.id)]
    script = sim.Sim(sim.says()).script
    assert any(event.kind == "interruption" for event in events)
    _, divergence = replay(events, script)
    assert divergence is None


def test_no_more_than_sixty_milliseconds_of_speech_wait_at_the_transport(tmp_path: Path) -> None:
    async def scenario(board: Switchboard, store: Store) -> None:
        leg = fakes.FakeLeg(board)
        board.incoming(leg)
        most = 0
        for _ in range(100):
            await fakes.speak([leg], fakes.seconds(0.02))
            most = max(most, leg.queued())
        assert 640 <= most <= 960

    agent = sim.agent(greeting="A greeting that takes a good while to say.")
    board_test(tmp_path, fakes.always("Yes."), scenario, agent=agent)


def test_barge_in_silences_the_wire_within_three_hundred_milliseconds(tmp_path: Path) -> None:
    async def scenario(board: Switchboard, store: Store) -> None:
        leg = fakes.FakeLeg(board)
        board.incoming(leg)
        await fakes.speak([leg], fakes.seconds(1) + fakes.seconds(1, 500))
        onset = len(leg.heard) - 50
        loud = [i for i, pcm in enumerate(leg.heard) if len(pcm) and pcm.max() > 0]
        assert onset < max(loud) < onset + 15

    agent = sim.agent(greeting="A greeting that takes a good while to say to anyone at all.")
    board_test(tmp_path, fakes.always("Yes."), scenario, agent=agent)


def test_end_call_hangs_up_after_the_last_word_left_the_box(tmp_path: Path) -> None:
    model = fakes.FunctionModel(
        lambda _: [TextDelta("Goodbye now."), ToolCall("t", "end_call", "{}"), TokenUsage(1, 1)]
    )

    async def scenario(board: Switchboard, store: Store) -> None:
        leg = fakes.FakeLeg(board)
        board.incoming(leg)
        await fakes.speak([leg], fakes.seconds(1.5) + fakes.seconds(1, 500) + fakes.seconds(4))
        await board.idle()
        assert leg.ended
        spoken = sum(len(pcm) for pcm in leg.heard)
        assert spoken == sum(
            (len(t) + 1) * fakes.SAMPLES_PER_CHAR for t in ("Hello.", "Goodbye now.")
        )

    agent = sim.agent(tools=[{"type": "end_call"}])
    board_test(tmp_path, model, scenario, agent=agent)


def test_calls_above_the_limit_are_refused_as_busy_with_a_time_to_retry(tmp_path: Path) -> None:
    async def scenario(board: Switchboard, store: Store) -> None:
        legs = [fakes.FakeLeg(board, f"leg{i}") for i in range(3)]
        for leg in legs:
            board.incoming(leg)
        await asyncio.sleep(0.1)
        assert [leg.rejected for leg in legs] == [None, None, (486, 30)]
        board.drain()
        late = fakes.FakeLeg(board, "late")
        board.incoming(late)
        await asyncio.sleep(0.1)
        assert late.rejected == (503, 30)

    board_test(tmp_path, fakes.always("Yes."), scenario, max_calls=2)


def test_a_number_that_nobody_answers_is_refused_as_unknown(tmp_path: Path) -> None:
    async def scenario(board: Switchboard, store: Store) -> None:
        leg = fakes.FakeLeg(board, called="999")
        board.incoming(leg)
        await asyncio.sleep(0.1)
        assert leg.rejected == (404, None)
        assert store.calls() == []

    board_test(tmp_path, fakes.always("Yes."), scenario)


def test_the_voices_of_all_calls_are_scored_in_one_batch(tmp_path: Path) -> None:
    vad = fakes.LevelVad()

    async def scenario(board: Switchboard, store: Store) -> None:
        legs = [fakes.FakeLeg(board, f"leg{i}") for i in range(8)]
        for leg in legs:
            board.incoming(leg)
        await asyncio.sleep(0.1)
        await fakes.speak(legs, fakes.seconds(1))
        assert set(vad.batches) == {8}

    board_test(tmp_path, fakes.always("Yes."), scenario, vad=vad)


def test_a_fault_in_one_call_ends_that_call_and_no_other(tmp_path: Path) -> None:
    async def scenario(board: Switchboard, store: Store) -> None:
        legs = [fakes.FakeLeg(board, f"leg{i}") for i in range(2)]
        for leg in legs:
            board.incoming(leg)
        await fakes.speak(legs, fakes.seconds(0.5))
        legs[0].play = None  # type: ignore[assignment, method-assign]
        await fakes.speak(legs, fakes.seconds(0.5))
        assert legs[0].ended
        assert legs[1].up

    agent = sim.agent(greeting="A greeting that takes a good while to say.")
    board_test(tmp_path, fakes.always("Yes."), scenario, agent=agent)


@pytest.mark.parametrize("error", [None, UnavailableError("the store is full")])
def test_a_finished_recording_goes_to_the_recording_store_or_stays(
    tmp_path: Path, error: Exception | None
) -> None:
    archive = Archive(error)

    async def scenario(board: Switchboard, store: Store) -> None:
        leg = fakes.FakeLeg(board)
        board.incoming(leg)
        await fakes.speak([leg], fakes.seconds(1))
        leg.end()
        await board.idle()

    board_test(tmp_path, fakes.always("Yes."), scenario, recordings=True, archive=archive)
    with Store.open(tmp_path / "box.db") as store:
        [call] = store.calls()
    if error is None:
        assert call.recording_path == f"memory:{call.id}"
        assert archive.kept[call.id] >= 16_000 * 4
    else:
        assert Path(call.recording_path).is_file()


def test_a_caller_who_hangs_up_while_ringing_leaves_a_closed_record(tmp_path: Path) -> None:
    async def scenario(board: Switchboard, store: Store) -> None:
        leg = fakes.FakeLeg(board)
        board.incoming(leg)
        leg.end()
        await board.idle()
        await store.sync()
        [call] = store.calls()
        assert call.answered_at is None
        assert call.cause == "remote_hangup"

    board_test(tmp_path, fakes.always("Yes."), scenario)


def test_what_the_recognizer_gets_begins_before_the_onset(tmp_path: Path) -> None:
    ears = fakes.LevelRecognizer()

    async def scenario(board: Switchboard, store: Store) -> None:
        leg = fakes.FakeLeg(board)
        board.incoming(leg)
        await fakes.speak([leg], fakes.seconds(2) + fakes.seconds(0.5, 500) + fakes.seconds(0.6))

    board_test(tmp_path, fakes.always("Yes."), scenario, ears=ears)
    onset = ears.heard.index(500)
    assert 10 <= onset <= 14
    assert ears.heard.count(500) == 25
