# SPDX-License-Identifier: Apache-2.0
"""The asyncio shell around the call core: does what it asks, tells it what happened. Decides nothing.

One 20 ms media frame at a time, by straight function calls (`hear`, then `scored`, then `tick`);
only recognizer, model, synthesizer and tools run in tasks of their own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import structlog

from appliance.audio.recorder import StereoRecorder
from appliance.call import actions as act
from appliance.call import inputs as inp
from appliance.call.core import Script
from appliance.call.log import EventLog
from appliance.call.machine import CallMachine
from appliance.call.recognition import Recognition
from appliance.call.segmenter import Segmenter
from appliance.call.speaker import Speaker
from appliance.call.states import State
from appliance.call.toolbox import ToolBox
from appliance.call.usage import UsageBook, UsageSink
from appliance.engines.chain import LanguageModelChain, SpeechToTextChain, TextToSpeechChain
from appliance.plugin import (
    FRAME_MS,
    SAMPLE_RATE,
    Answered,
    DtmfReceived,
    HoldChanged,
    Leg,
    LegEnded,
    LegEvent,
    LlmRequest,
    MediaFrame,
    Pcm,
    ReplyPace,
    SttRequest,
    TextDelta,
    TokenUsage,
    ToolCall,
    TtsRequest,
    TurnContext,
    TurnDetector,
)

_log = structlog.get_logger(__name__)

RING_FRAMES = 50
"""Caller audio kept for the pre-roll: 1 s."""


PACE_TICKS = 5
"""How often a running reply is told how much of it is unplayed: every 100 ms."""


@dataclass(frozen=True, slots=True)
class CallEngines:
    """The provider chains of one call."""

    speech_to_text: SpeechToTextChain
    language_model: LanguageModelChain
    text_to_speech: TextToSpeechChain
    turn_detector: TurnDetector | None = None


class CallSession:
    """One call on one leg.

    Args:
        leg: its leg; the caller of `answer` has not answered it yet.
        script: the agent's part.
        engines: provider chains.
        toolbox: the agent's tools.
        log: the call's event log.
        usage: receives seconds, tokens and characters.
        recording: written as the call goes on, or None.
        window: samples of a voice activity window.
        clock: seconds, monotonic; the event loop's time.
    """

    def __init__(
        self,
        leg: Leg,
        script: Script,
        engines: CallEngines,
        toolbox: ToolBox,
        log: EventLog,
        usage: UsageSink,
        *,
        recording: StereoRecorder | None = None,
        window: int = 512,
        clock: Callable[[], float],
    ) -> None:
        self.leg = leg
        self.log = log
        self._script = script
        self._engines = engines
        self._toolbox = toolbox
        self._usage = usage
        self._book = UsageBook(usage)
        self._recording = recording
        self._clock = clock
        self._machine = CallMachine(script, log)
        self._segmenter = Segmenter(script.agent.turn_taking, window * 1000 // SAMPLE_RATE)
        self._window = window
        self._ticks = 0
        self._ticked_at = clock()
        self._ring: deque[tuple[int, Pcm]] = deque(maxlen=RING_FRAMES)
        self._pending: Pcm = np.zeros(0, np.int16)
        self._scored_samples = 0
        agent = script.agent
        self._speaker = Speaker(
            leg,
            engines.text_to_speech,
            TtsRequest(script.call_id, agent.voice.name, agent.language, agent.voice.speed),
            feed=self._feed,
            start=self._start,
            used=lambda gen, name, n: self._book.note(gen, name, "text_to_speech", "characters", n),
            clock=clock,
        )
        self._recognition: Recognition | None = None
        self._recognizing: asyncio.Task[None] | None = None
        self._generations: dict[int, tuple[asyncio.Task[None], ReplyPace]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._broken = False
        self._hanging_up: asyncio.Future[None] | None = None

    # -- life --------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What the call is doing."""
        return self._machine.state

    async def run(self) -> None:
        """Return when the call has ended."""
        await self._ended.wait()
        if self._broken:
            await self.leg.hang_up()

    async def aclose(self) -> None:
        """End all that the call started, and its recording. Idempotent."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._book.close()
        if self._hanging_up is not None:
            await asyncio.gather(self._hanging_up, return_exceptions=True)
        if self._recording is not None:
            await asyncio.wrap_future(self._recording.close())

    def abort(self) -> None:
        """A fault makes going on impossible: end the call."""
        self._broken = True
        self._ended.set()

    def load_changed(self, level: int) -> None:
        """Tell the core how busy the box is (an `appliance.call.admission.Level`)."""
        self._feed(inp.LoadChanged(level))

    def leg_event(self, event: LegEvent) -> None:
        """Tell the core what happened to the leg."""
        match event:
            case Answered(codec):
                self._ticked_at = self._clock()
                self._feed(inp.Answered(codec))
            case HoldChanged(held):
                self._feed(inp.HoldChanged(held))
            case DtmfReceived(digit):
                self._feed(inp.DtmfPressed(digit))
            case LegEnded(cause):
                if self._speaker.speaking:  # the words that were heard belong to the record
                    self._feed(inp.PlaybackStopped(self._speaker.stop()))
                self._feed(inp.LegEnded(cause.value))
            case _:
                pass

    # -- media tick: hear, scored, tick ------------------------------------------------------

    def hear(self, frame: MediaFrame) -> Pcm | None:
        """Take 20 ms of both directions; return a voice activity window when one is full."""
        heard = frame.heard.copy()  # the transport reuses its memory
        self._ring.append((self._ticks * FRAME_MS, heard))
        self._ticks += 1
        self._ticked_at = self._clock()
        if self._recording is not None:
            self._recording.write(heard, frame.sent)
        if self._recognition is not None:
            self._recognition.push(heard)
        self._pending = np.concatenate((self._pending, heard))
        if len(self._pending) < self._window:
            return None
        window, self._pending = self._pending[: self._window], self._pending[self._window :]
        return window

    def scored(self, score: float) -> None:
        """Take the voice activity score of the window that `hear` returned last."""
        self._scored_samples += self._window
        speech = self._segmenter.push(score, self._scored_samples * 1000 // SAMPLE_RATE)
        if speech is not None:
            self._feed(speech)

    def tick(self) -> None:
        """Do what is due in this tick: deadlines, playout, news of what the wire took."""
        deadline = self._machine.next_deadline()
        if deadline is not None and deadline <= self.now_ms():
            self._feed(inp.Timer())
        self._speaker.tick()
        if self._generations and self._ticks % PACE_TICKS == 0:
            unplayed = self._speaker.unplayed_s()
            for _, pace in self._generations.values():
                if pace.unplayed_s != unplayed:
                    pace.played(unplayed)

    def now_ms(self) -> int:
        """Return the call's media time: frames heard, plus the time since the last of them."""
        since = (self._clock() - self._ticked_at) * 1000
        return self._ticks * FRAME_MS + int(min(max(since, 0), FRAME_MS))

    # -- core and actions --------------------------------------------------------------------

    def _feed(self, value: inp.Input) -> None:
        for action in self._machine.handle(value, self.now_ms()):
            self._perform(action)
        if self._machine.state is State.ENDED:
            self._ended.set()

    def _perform(self, action: act.Action) -> None:  # noqa: C901, PLR0912 - one flat table
        match action:
            case act.OpenRecognition(turn, from_ms):
                self._open_recognition(turn, from_ms)
            case act.FlushRecognition():
                if self._recognition is not None:
                    self._recognition.flush()
            case act.CloseRecognition():
                self._close_recognition()
            case act.JudgeTurn(turn, flush, context):
                self._start(self._judge(turn, flush, context))
            case act.Generate(gen, request, committed):
                self._begin_generation(gen, request, committed=committed)
            case act.CancelGenerate(gen):
                self._cancel_generation(gen)
            case act.RunTool(gen, id_, name, arguments):
                self._start(self._run_tool(gen, ToolCall(id_, name, arguments)))
            case act.Speak(gen, text):
                self._speaker.say(gen, text)
            case act.Prepare(gen, text):
                self._speaker.prepare(gen, text)
            case act.Commit(gen):
                self._book.commit(gen)
                self._speaker.release()
                if gen in self._generations:
                    self._generations[gen][1].commit()
            case act.Discard(gen):
                self._cancel_generation(gen)
                self._book.discard(gen)
                self._speaker.discard()
            case act.StopSpeaking():
                self._feed(inp.PlaybackStopped(self._speaker.stop()))
            case act.Duck(gain_db):
                self._speaker.duck(gain_db)
            case act.HangUp():
                self._hanging_up = asyncio.ensure_future(self.leg.hang_up())

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a task of the call failed", call_id=self._script.call_id, exc_info=error)

    # -- work in tasks -----------------------------------------------------------------------

    def _open_recognition(self, turn: int, from_ms: int) -> None:
        recognition = Recognition(
            turn,
            feed=self._feed,
            used=lambda name, ms: self._usage(name, "speech_to_text", "seconds", -(-ms // 1000)),
            clock=self._clock,
        )
        for at_ms, pcm in self._ring:
            if at_ms + FRAME_MS > from_ms:
                recognition.push(pcm)
        agent = self._script.agent
        request = SttRequest(self._script.call_id, agent.language, agent.hints)
        self._recognition = recognition
        self._recognizing = self._start(recognition.run(self._engines.speech_to_text, request))

    def _close_recognition(self) -> None:
        if self._recognizing is not None:
            self._recognizing.cancel()
        self._recognition = self._recognizing = None

    async def _judge(self, turn: int, flush: int, context: TurnContext) -> None:
        detector = self._engines.turn_detector
        if detector is None:
            return
        try:
            probability = await asyncio.wait_for(detector.end_of_turn(context), 0.5)
        except Exception as error:
            _log.warning("turn detector failed", call_id=self._script.call_id, error=str(error))
            return
        self._feed(inp.TurnJudged(turn, flush, probability))

    def _begin_generation(self, gen: int, request: LlmRequest, *, committed: bool) -> None:
        pace = ReplyPace(committed=committed)
        if not committed:
            self._book.draft(gen)
        task = self._start(self._generate(gen, replace(request, pace=pace)))
        self._generations[gen] = task, pace
        task.add_done_callback(lambda _: self._generations.pop(gen, None))

    def _cancel_generation(self, gen: int) -> None:
        if gen in self._generations:
            self._generations.pop(gen)[0].cancel()

    async def _generate(self, gen: int, request: LlmRequest) -> None:
        provider, pieces = "", 0

        def used(name: str) -> None:
            nonlocal provider
            provider = name

        tokens = TokenUsage(0, 0)
        try:
            async for delta in self._engines.language_model.reply(request, used):
                pieces += not isinstance(delta, TokenUsage)
                match delta:
                    case TextDelta(text):
                        self._feed(inp.ReplyText(gen, text))
                    case ToolCall(id_, name, arguments):
                        self._feed(inp.ReplyToolCall(gen, id_, name, arguments))
                    case TokenUsage():
                        tokens = delta
            self._feed(inp.ReplyEnded(gen, tokens.prompt, tokens.completion))
        except Exception as error:
            self._feed(inp.ReplyFailed(gen, str(error)))
        finally:
            if provider:  # one that was stopped has not counted: each piece is a token at least
                self._book.note(gen, provider, "prompt", "tokens", tokens.prompt)
                completion = tokens.completion or pieces
                self._book.note(gen, provider, "completion", "tokens", completion)

    async def _run_tool(self, gen: int, call: ToolCall) -> None:
        began = self._clock()
        outcome = await self._toolbox.run(call, self._script.call_id)
        seconds = round(self._clock() - began, 3)
        self._feed(
            inp.ToolFinished(
                gen, call.id, outcome.ok, outcome.content, outcome.end_call, seconds=seconds
            )
        )
