# SPDX-License-Identifier: Apache-2.0
"""The two providers. Neither has a thread, a file or a connection of its own."""

from __future__ import annotations

import asyncio
import json
import re
from collections import OrderedDict
from collections.abc import AsyncIterator

import numpy as np
from pydantic import ValidationError

from appliance.plugin import (
    SAMPLE_RATE,
    ConfigurationError,
    Flush,
    LlmDelta,
    LlmRequest,
    Pcm,
    SttRequest,
    TextDelta,
    TokenUsage,
    ToolCall,
    Transcript,
)
from trunkline_scripted import (
    LLM_CAPABILITIES,
    STT_CAPABILITIES,
    ScriptedModelSettings,
    ScriptedSpeechSettings,
)
from trunkline_scripted.dialogue import decide
from trunkline_scripted.rules import Script, load_script

_CALLS_REMEMBERED = 1024
_SPEECH_RMS = 164
"""-46 dBFS: quieter than any speech on a telephone line."""


class ScriptedModel:
    """See `appliance.plugin.LanguageModel`. A word counts as a token."""

    def __init__(self, settings: ScriptedModelSettings) -> None:
        self.capabilities = LLM_CAPABILITIES
        self._settings = settings
        self._script = _merge(settings)

    async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        """Stream the reply word by word."""
        reply = decide(self._script, request.messages)
        await asyncio.sleep(self._settings.first_delay_s)
        words = re.findall(r"\s*\S+", reply.text)[: request.max_tokens]
        for number, word in enumerate(words):
            if number:
                await asyncio.sleep(self._settings.word_delay_s)
            yield TextDelta(word)
        completion = len(words)
        if reply.tool and any(tool.name == reply.tool for tool in request.tools):
            arguments = json.dumps(reply.arguments)
            yield ToolCall(f"scripted-{len(request.messages)}", reply.tool, arguments)
            completion += 1 + len(reply.arguments)
        prompt = sum(len(message.content.split()) for message in request.messages)
        yield TokenUsage(prompt=prompt, completion=completion)

    async def aclose(self) -> None:
        """Nothing to release."""


def _merge(settings: ScriptedModelSettings) -> Script:
    base = load_script(settings.script) if settings.script else Script()
    data = {
        "rules": (*settings.rules, *base.rules),
        "fallback": base.fallback if settings.fallback is None else settings.fallback,
        "variables": base.variables | settings.variables,
        "prompt_variables": base.prompt_variables | settings.prompt_variables,
    }
    try:
        script = Script.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{key}: {first['msg']}") from error
    script.check(str(settings.script or "settings"))
    return script


class ScriptedSpeechToText:
    """See `appliance.plugin.SpeechToText`. A turn uses up a transcript only if it held sound."""

    def __init__(self, settings: ScriptedSpeechSettings) -> None:
        self.capabilities = STT_CAPABILITIES
        self._settings = settings
        self._turns: OrderedDict[str, int] = OrderedDict()

    async def transcribe(
        self, audio: AsyncIterator[Pcm | Flush], request: SttRequest
    ) -> AsyncIterator[Transcript]:
        """Answer every flush of a stream with the same transcript: the next one of the call."""
        samples, text, sound, answered = 0, "", False, False
        async for item in audio:
            if isinstance(item, Flush):
                text = text or (self._next(request.call_id) if sound else "")
                answered = True
                yield await self._final(text, samples)
                continue
            samples += item.size
            sound = sound or (item.size > 0 and _rms(item) > _SPEECH_RMS)
            answered = False
        if not answered:
            text = text or (self._next(request.call_id) if sound else "")
            yield await self._final(text, samples)

    async def aclose(self) -> None:
        """Forget the calls."""
        self._turns.clear()

    async def _final(self, text: str, samples: int) -> Transcript:
        await asyncio.sleep(self._settings.delay_s)
        return Transcript(text, is_final=True, audio_s=samples / SAMPLE_RATE)

    def _next(self, call_id: str) -> str:
        turn = self._turns.pop(call_id, 0)
        self._turns[call_id] = turn + 1
        if len(self._turns) > _CALLS_REMEMBERED:
            self._turns.popitem(last=False)
        transcripts = self._settings.transcripts
        return transcripts[turn] if turn < len(transcripts) else ""


def _rms(pcm: Pcm) -> float:
    return float(np.sqrt(np.mean(pcm.astype(np.float64) ** 2)))
