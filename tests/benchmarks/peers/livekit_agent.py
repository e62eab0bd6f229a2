# SPDX-License-Identifier: Apache-2.0
"""A whole agent made with LiveKit Agents. Runs in its environment: `python -m ... ORDER`.

An `AgentSession` with audio input and output objects in place of a room. One call at a time a process, as a
LiveKit worker runs its jobs; the models are loaded before the call, as its `prewarm` does.
"""

# Checked against an environment that the benchmark makes.
# mypy: ignore-errors

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
import uuid
from typing import Any

import numpy as np
from livekit import rtc
from livekit.agents import Agent, AgentSession, llm, stt, tts, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN
from livekit.agents.voice import io
from livekit.plugins import openai

from tests.benchmarks.peers.engines import SPEECH_RATE, Recognizer, Voice
from tests.benchmarks.peers.order import Order
from tests.benchmarks.peers.wire import FRAME_BYTES, RATE, Line, Playout, serve


class WhisperSTT(stt.STT):
    """A recognizer of whole segments; LiveKit wraps it with its detector into a stream."""

    def __init__(self, recognizer: Recognizer) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self._recognizer = recognizer

    async def _recognize_impl(
        self,
        buffer: Any,
        *,
        language: Any = NOT_GIVEN,
        conn_options: Any = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.SpeechEvent:
        frame = rtc.combine_audio_frames(buffer)
        pcm = np.frombuffer(frame.data, np.int16).astype(np.float32) / 32768
        text = await asyncio.to_thread(self._recognizer.text, pcm)
        return stt.SpeechEvent(
            type=stt.SpeechEventType.FINAL_TRANSCRIPT,
            alternatives=[stt.SpeechData(text=text, language="en")],
        )


class EspeakTTS(tts.TTS):
    """The same voice as in the other arms; LiveKit cuts its text into sentences."""

    def __init__(self, voice: Voice) -> None:
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=False),
            sample_rate=SPEECH_RATE,
            num_channels=1,
        )
        self.voice = voice

    def synthesize(
        self, text: str, *, conn_options: Any = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        return _Speech(tts=self, input_text=text, conn_options=conn_options)


class _Speech(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(
            request_id=uuid.uuid4().hex,
            sample_rate=SPEECH_RATE,
            num_channels=1,
            mime_type="audio/pcm",
        )
        async for audio in self._tts.voice.speak(self.input_text):
            output_emitter.push(audio)
        output_emitter.flush()


class LineInput(io.AudioInput):
    """Audio from the caller; the end of the line ends the call."""

    def __init__(self, line: Line, hung_up: asyncio.Event) -> None:
        super().__init__(label="line")
        self._line = line
        self._hung_up = hung_up

    async def __anext__(self) -> rtc.AudioFrame:
        frame = await self._line.receive()
        if frame is None:
            self._hung_up.set()
            raise StopAsyncIteration
        return rtc.AudioFrame(frame, RATE, 1, FRAME_BYTES // 2)


class LineOutput(io.AudioOutput):
    """Audio to the caller at the pace of speech. It can pause, as LiveKit's own outputs can."""

    def __init__(self, line: Line) -> None:
        super().__init__(
            label="line",
            capabilities=io.AudioOutputCapabilities(pause=True),
            sample_rate=RATE,
        )
        self._playout = Playout(line)
        self._audio = bytearray()
        self._filled = asyncio.Event()
        self._running = asyncio.Event()
        self._running.set()
        self._sent = 0
        self._flushed = False
        self._player = asyncio.create_task(self._play())

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        self._flushed = False
        self._audio += bytes(frame.data)
        self._filled.set()

    def flush(self) -> None:
        super().flush()
        self._flushed = True
        self._filled.set()

    def clear_buffer(self) -> None:
        if self._audio or self._sent:
            self._finish(interrupted=True)

    def pause(self) -> None:
        super().pause()
        self._running.clear()

    def resume(self) -> None:
        super().resume()
        self._running.set()

    async def aclose(self) -> None:
        self._player.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._player

    async def _play(self) -> None:
        while True:
            await self._filled.wait()
            await self._running.wait()
            if len(self._audio) >= FRAME_BYTES or (self._audio and self._flushed):
                frame = bytes(self._audio[:FRAME_BYTES]).ljust(FRAME_BYTES, b"\0")
                del self._audio[:FRAME_BYTES]
                if not self._sent:
                    self.on_playback_started(created_at=time.time())
                self._sent += 1
                await self._playout.frame(frame)
            elif self._flushed and self._sent:
                self._finish(interrupted=False)
            else:
                self._filled.clear()

    def _finish(self, *, interrupted: bool) -> None:
        played, self._sent = self._sent, 0
        self._audio.clear()
        self._flushed = False
        self._filled.clear()
        self.on_playback_finished(playback_position=played * 0.02, interrupted=interrupted)


def tool(definition: dict[str, Any]) -> llm.RawFunctionTool:
    """Return a tool as the model sees it; the callers of this benchmark never need one."""

    async def unused(raw_arguments: dict[str, Any]) -> str:
        return "{}"

    return llm.function_tool(unused, raw_schema=definition)


def session_of(order: Order, recognizer: Recognizer, voice: Voice) -> AgentSession:
    """Return the session: as shipped (turn detector, its own delays), or tuned to equal silence."""
    model = openai.LLM(
        model="starter",
        base_url=order.llm_url,
        api_key="none",
        temperature=0.0,
        max_completion_tokens=order.max_tokens,
    )
    engines = {"stt": WhisperSTT(recognizer), "llm": model, "tts": EspeakTTS(voice)}
    if not order.tuned:
        return AgentSession(**engines)
    return AgentSession(
        **engines,
        turn_handling={
            "turn_detection": "vad",
            "endpointing": {"min_delay": order.end_of_turn_s, "max_delay": order.end_of_turn_s},
            "preemptive_generation": {"preemptive_tts": True},
        },
    )


async def answer(line: Line, order: Order, recognizer: Recognizer, voice: Voice) -> None:
    """Hold one call."""
    hung_up = asyncio.Event()
    async with utils.http_context.open():
        session = session_of(order, recognizer, voice)
        output = LineOutput(line)
        session.input.audio = LineInput(line, hung_up)
        session.output.audio = output
        agent = Agent(instructions=order.system, tools=[tool(one) for one in order.tools])
        await session.start(agent)
        session.say(order.greeting)
        await hung_up.wait()
        await session.aclose()
        await output.aclose()


async def main(order: Order) -> None:
    """Take calls until the process is ended."""
    recognizer = Recognizer(order.recognizer, tuned=order.tuned)
    voice = Voice(order.voice)
    await asyncio.to_thread(recognizer.text, np.zeros(RATE, np.float32))
    server = await serve(order.path, lambda line: answer(line, order, recognizer, voice))
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(Order.load(sys.argv[1])))
