# SPDX-License-Identifier: Apache-2.0
"""A whole agent made with Pipecat. Runs in Pipecat's environment: `python -m ... ORDER`.

Built as the project's own scaffold builds a telephone bot: transport, recognizer, user aggregator with
Silero, model, voice, transport, assistant aggregator. One call a process, as its documentation deploys it.
"""

# Checked against an environment that the benchmark makes.
# mypy: ignore-errors

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np
from loguru import logger
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
    StartFrame,
    TranscriptionFrame,
    TTSSpeakFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.settings import STTSettings, TTSSettings
from pipecat.services.stt_service import SegmentedSTTService
from pipecat.services.tts_service import TTSService
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.utils.time import time_now_iso8601
from pipecat.workers.runner import WorkerRunner

from tests.benchmarks.peers.engines import SPEECH_RATE, Recognizer, Voice
from tests.benchmarks.peers.order import Order
from tests.benchmarks.peers.wire import FRAME_BYTES, RATE, Line, Playout, serve

STOP_S = 0.2
"""Silence after which Pipecat's detector reports a stop: its default, and what its latency tables assume."""


class WhisperSTT(SegmentedSTTService):
    """What Pipecat's own `WhisperSTTService` does, with the options that the starter model needs."""

    def __init__(self, recognizer: Recognizer, **options: Any) -> None:
        super().__init__(settings=STTSettings(model="starter", language=None), **options)
        self._recognizer = recognizer

    @property
    def wants_wav_segments(self) -> bool:
        return False

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame, None]:
        pcm = np.frombuffer(audio, np.int16).astype(np.float32) / 32768
        text = await asyncio.to_thread(self._recognizer.text, pcm)
        if text:
            yield TranscriptionFrame(text, self._user_id, time_now_iso8601())


class LocalLLM(OpenAILLMService):
    """OpenAI's protocol without its `developer` role, as Pipecat's own services for local servers set it."""

    supports_developer_role = False


class EspeakTTS(TTSService):
    """The same voice as in the other arms, streamed as it is synthesized."""

    def __init__(self, voice: Voice) -> None:
        super().__init__(
            push_start_frame=True,
            push_stop_frames=True,
            settings=TTSSettings(model="espeak", voice="espeak", language=None),
        )
        self._espeak = voice

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame, None]:
        frames = self._stream_audio_frames_from_iterator(
            self._espeak.speak(text), in_sample_rate=SPEECH_RATE, context_id=context_id
        )
        async for frame in frames:
            yield frame


class LineInput(BaseInputTransport):
    """Audio from the caller."""

    def __init__(self, line: Line, params: TransportParams, hung_up: asyncio.Event) -> None:
        super().__init__(params)
        self._line = line
        self._hung_up = hung_up
        self._task = None

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)
        self._task = self._task or self.create_task(self._read())

    async def cleanup(self) -> None:
        await super().cleanup()
        if self._task is not None:
            await self.cancel_task(self._task)
            self._task = None

    async def _read(self) -> None:
        while (pcm := await self._line.receive()) is not None:
            await self.push_audio_frame(InputAudioRawFrame(pcm, RATE, 1))
        self._hung_up.set()


class LineOutput(BaseOutputTransport):
    """Audio to the caller, at the pace of speech, as Pipecat's own socket transports do it."""

    def __init__(self, line: Line, params: TransportParams) -> None:
        super().__init__(params)
        self._playout = Playout(line)

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        for start in range(0, len(frame.audio), FRAME_BYTES):
            await self._playout.frame(
                frame.audio[start : start + FRAME_BYTES].ljust(FRAME_BYTES, b"\0")
            )
        return True


class LineTransport(BaseTransport):
    """Both."""

    def __init__(self, line: Line, params: TransportParams) -> None:
        super().__init__()
        self.hung_up = asyncio.Event()
        self._in = LineInput(line, params, self.hung_up)
        self._out = LineOutput(line, params)

    def input(self) -> LineInput:
        return self._in

    def output(self) -> LineOutput:
        return self._out


def aggregation(order: Order) -> LLMUserAggregatorParams:
    """Return how turns are taken: as shipped, Silero and Smart Turn; tuned, Silero and a timer."""
    if not order.tuned:
        return LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    stop = SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=order.end_of_turn_s - STOP_S)
    return LLMUserAggregatorParams(
        vad_analyzer=SileroVADAnalyzer(), user_turn_strategies=UserTurnStrategies(stop=[stop])
    )


async def answer(line: Line, order: Order, recognizer: Recognizer, voice: Voice) -> None:
    """Hold one call."""
    chunks = {"audio_out_10ms_chunks": 2} if order.tuned else {}
    transport = LineTransport(
        line, TransportParams(audio_in_enabled=True, audio_out_enabled=True, **chunks)
    )
    # Pipecat asks for the measured time of a local recognizer in place of its guess of one second.
    stt = WhisperSTT(recognizer, **({"ttfs_p99_latency": 0.3} if order.tuned else {}))
    llm = LocalLLM(
        api_key="none",
        base_url=order.llm_url,
        settings=LocalLLM.Settings(
            model="starter",
            temperature=0.0,
            max_tokens=order.max_tokens,
            system_instruction=order.system,
        ),
    )
    tools = [
        FunctionSchema(
            tool["name"],
            tool["description"],
            tool["parameters"]["properties"],
            tool["parameters"].get("required", []),
        )
        for tool in order.tools
    ]
    context = LLMContext(tools=ToolsSchema(standard_tools=tools))
    users, assistants = LLMContextAggregatorPair(context, user_params=aggregation(order))
    pipeline = Pipeline(
        [transport.input(), stt, users, llm, EspeakTTS(voice), transport.output(), assistants]
    )
    worker = PipelineWorker(
        pipeline, params=PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE)
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await worker.queue_frames([TTSSpeakFrame(order.greeting)])

    async def hang_up() -> None:
        await transport.hung_up.wait()
        await runner.cancel()

    ending = asyncio.create_task(hang_up())
    try:
        await runner.run()
    finally:
        ending.cancel()


async def main(order: Order) -> None:
    """Take calls until the process is ended."""
    recognizer = Recognizer(order.recognizer, tuned=order.tuned)
    voice = Voice(order.voice)
    await asyncio.to_thread(recognizer.text, np.zeros(RATE, np.float32))
    server = await serve(order.path, lambda line: answer(line, order, recognizer, voice))
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stderr, level=os.environ.get("PEER_LOG", "WARNING"))
    asyncio.run(main(Order.load(sys.argv[1])))
