# SPDX-License-Identifier: Apache-2.0
"""What open-loop callers will say and when: made before a measurement, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from appliance.audio.g711 import decode_ulaw, encode_ulaw
from appliance.audio.resample import resample
from appliance.audio.types import SAMPLE_RATE, Pcm, silence
from appliance.caller.measure import SENT_DB
from appliance.caller.turns import synthesize
from appliance.plugin import TextToSpeech

Utterances: TypeAlias = Sequence[tuple[str, str]]
"""What callers say, each in two parts, so that a caller can think in between; the second may be ""."""

QUESTIONS: Utterances = (
    ("Are you open", "on Saturday?"),
    ("How much is", "a cleaning?"),
    ("What are your", "opening hours?"),
    ("Can I pay", "by card?"),
    ("How much is", "a check-up?"),
    ("Are you open", "on Sunday?"),
)
INTO = ("What are your", "opening hours?")
"""The question with the longest answer: it is interrupted."""
SLOT_S = 9.0
FIRST_S = 4.5
"""The example agent's greeting is over by then."""
VOICES = ("en-us+f3", "en-us+m3", "en-gb+f2", "en-us+m1")


@dataclass(frozen=True)
class Turn:
    """One planned turn.

    Attributes:
        at_s: when to begin, in seconds of the call; for an interruption, the turn it belongs to began there.
        kind: `whole`, `paused` or `interruption`.
        text: for people.
        pcm: telephone-band speech at 16 kHz.
    """

    at_s: float
    kind: str
    text: str
    pcm: Pcm


@dataclass(frozen=True)
class PlannedCall:
    """One caller: when to dial, in seconds of the block, and what to say."""

    dial_s: float
    turns: Sequence[Turn]
    hang_up_s: float


class Voices:
    """Speech of callers, through a telephone: made once, kept.

    Args:
        synthesizer: what speaks.
    """

    def __init__(self, synthesizer: TextToSpeech) -> None:
        self._synthesizer = synthesizer
        self._made: dict[tuple[str, str], Pcm] = {}

    async def say(self, parts: tuple[str, str], voice: str, pause_s: float = 0.0) -> Pcm:
        """Return the two parts with a pause between them, or the whole sentence without one."""
        if pause_s <= 0 or not parts[1]:
            return await self._speech(" ".join(parts).strip(), voice)
        first, second = [await self._speech(part, voice) for part in parts]
        return np.concatenate([first, silence(round(pause_s * SAMPLE_RATE)), second])

    async def _speech(self, text: str, voice: str) -> Pcm:
        if (text, voice) not in self._made:
            pcm = await synthesize(self._synthesizer, text, voice)
            narrow = decode_ulaw(encode_ulaw(resample(pcm, SAMPLE_RATE, 8000)))
            wide = resample(narrow, 8000, SAMPLE_RATE)
            loud = np.flatnonzero(np.abs(wide.astype(int)) > _level(SENT_DB))
            self._made[text, voice] = wide[loud[0] : loud[-1] + 1] if loud.size else wide
        return self._made[text, voice]


async def plan(
    voices: Voices,
    calls: int,
    turns: int,
    seed: int,
    *,
    utterances: Utterances = QUESTIONS,
    plain: bool = False,
    first_s: float = FIRST_S,
) -> list[PlannedCall]:
    """Return what `calls` callers do in one block: the same for the same seed.

    Every third turn is paused, every fourth is interrupted.

    Args:
        voices: what they speak with.
        calls: how many there are.
        turns: how often each speaks.
        seed: of what is left to chance: who says what, and when.
        utterances: what they choose from.
        plain: whole turns only.
        first_s: when each begins to speak: the greeting should be over by then.
    """
    dice = random.Random(seed)  # noqa: S311  a plan that can be made again
    planned = []
    for number in range(calls):
        voice = VOICES[number % len(VOICES)]
        made: list[Turn] = []
        at = first_s
        for index in range(turns):
            parts = dice.choice(utterances)
            if index % 3 == 1 and not plain:
                pcm = await voices.say(parts, voice, dice.uniform(0.2, 0.6))
                made.append(Turn(at, "paused", " ... ".join(parts), pcm))
            elif index % 4 == 3 and not plain:
                made.append(Turn(at, "whole", " ".join(INTO), await voices.say(INTO, voice)))
                again = Turn(at, "interruption", " ".join(parts), await voices.say(parts, voice))
                made.append(again)
            else:
                made.append(Turn(at, "whole", " ".join(parts), await voices.say(parts, voice)))
            at += SLOT_S + dice.uniform(-1.0, 1.0)
        planned.append(PlannedCall(dice.uniform(0, SLOT_S), made, at))
    return planned


def _level(db: float) -> float:
    return float(32768 * 10 ** (db / 20))
