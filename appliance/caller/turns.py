# SPDX-License-Identifier: Apache-2.0
"""Makes the audio of a script before the call, so that nothing is computed while it is measured."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np

from appliance.audio.resample import resample
from appliance.audio.types import SAMPLE_RATE, Pcm, silence
from appliance.audio.wav import read_mono
from appliance.caller.script import Script, ScriptError, TurnSpec
from appliance.plugin import TextToSpeech, TtsRequest


@dataclass(frozen=True, slots=True)
class PreparedTurn:
    """A turn ready to be played.

    Attributes:
        kind: `say`, `wav`, `dtmf`, `wait` or `hold`.
        text: what it is called in results.
        pcm: audio at 16 kHz, for `say` and `wav`.
        digits: for `dtmf`.
        seconds: for `wait` and `hold`.
        interrupt_after_s: begin so long after the agent began to speak; None: when it is done.
        expect_reply: wait for the agent's answer.
        pause_s: silence before it.
    """

    kind: str
    text: str
    pcm: Pcm = field(default_factory=lambda: silence(0))
    digits: str = ""
    seconds: float = 0.0
    interrupt_after_s: float | None = None
    expect_reply: bool = True
    pause_s: float = 0.0


async def prepare(script: Script, synthesizer: TextToSpeech | None) -> list[PreparedTurn]:
    """Synthesize, read and resample all that a script needs.

    Args:
        script: what to do.
        synthesizer: for turns that speak text.

    Raises:
        ScriptError: a WAV file cannot be used, or text is to be spoken without a synthesizer.
        ProviderError: from the synthesizer.
    """
    return [await _prepare(turn, script, synthesizer) for turn in script.turns]


async def _prepare(
    turn: TurnSpec, script: Script, synthesizer: TextToSpeech | None
) -> PreparedTurn:
    idle = turn.wait or turn.hold or 0.0
    expect = not idle if turn.expect_reply is None else turn.expect_reply
    text, pcm = "", silence(0)
    if turn.say is not None:
        if synthesizer is None:
            raise ScriptError("the script speaks text, but there is no synthesizer")
        voice, speed = turn.voice or script.voice, turn.speed or script.speed
        text, pcm = turn.say, await synthesize(synthesizer, turn.say, voice, speed)
    elif turn.wav is not None:
        try:
            text, pcm = turn.wav.name, read_mono(turn.wav)
        except (OSError, ValueError) as error:
            raise ScriptError(f"{turn.wav} cannot be played: {error}") from error
    else:
        text = turn.dtmf or f"{idle:g} s"
    return PreparedTurn(
        turn.kind,
        text,
        pcm,
        turn.dtmf or "",
        idle,
        turn.interrupt_after_s,
        expect,
        turn.pause_s,
    )


async def synthesize(
    synthesizer: TextToSpeech, text: str, voice: str | None = None, speed: float = 1.0
) -> Pcm:
    """Return `text` as speech at 16 kHz.

    Raises:
        ProviderError: from the synthesizer.
    """

    async def words() -> AsyncIterator[str]:
        yield text

    stream = synthesizer.speak(words(), TtsRequest(call_id="caller", voice=voice, speed=speed))
    parts = [chunk.pcm async for chunk in stream]
    if not parts:
        return silence(0)
    return resample(np.concatenate(parts), synthesizer.capabilities.sample_rate, SAMPLE_RATE)
