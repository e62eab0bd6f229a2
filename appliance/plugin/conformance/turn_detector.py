# SPDX-License-Identifier: Apache-2.0
"""Checks of a turn detector. See `appliance.plugin.speech.TurnDetector` for the contract."""

from __future__ import annotations

import asyncio

from appliance.plugin.conformance import sound
from appliance.plugin.conformance.drive import loop_stays_free
from appliance.plugin.conformance.findings import Check, check, require
from appliance.plugin.conformance.subject import Subject
from appliance.plugin.speech import SAMPLE_RATE, TurnContext, TurnDetector

CONTEXTS = (
    TurnContext("", 0.5, 0.0),
    TurnContext("I would like to", 0.2, 1.0, agent_text="How can I help?"),
    TurnContext("That is all, thank you.", 0.8, 1.5, pcm=sound.babble(2.0, SAMPLE_RATE)),
    TurnContext("zero four seven", 0.3, 1.2, expected="digits", language="en"),
)


async def use(detector: TurnDetector, subject: Subject) -> None:
    """Judge one silence."""
    await detector.end_of_turn(CONTEXTS[1])


@check("it answers a probability, whatever is known")
async def it_answers_a_probability(subject: Subject) -> str:
    """Text, audio and what the agent said may each be missing."""
    found = [await subject.provider.end_of_turn(context) for context in CONTEXTS]
    require(all(isinstance(one, float) and 0 <= one <= 1 for one in found), f"it answered {found}")
    return ", ".join(f"{one:.2f}" for one in found)


@check("two calls at once do not mix")
async def calls_do_not_mix(subject: Subject) -> str:
    """One object serves all calls."""
    detector: TurnDetector = subject.provider
    alone = [await detector.end_of_turn(context) for context in CONTEXTS]
    together = await asyncio.gather(*(detector.end_of_turn(context) for context in CONTEXTS))
    off = max(abs(one - two) for one, two in zip(alone, together, strict=True))
    require(off <= 0.01, f"alone {alone}, together {together}")
    return ""


@check("the event loop is never blocked longer than 20 ms")
async def the_loop_stays_free(subject: Subject) -> str:
    """A frame of every call leaves each 20 ms."""
    return await loop_stays_free(lambda: subject.provider.end_of_turn(CONTEXTS[2]))


CHECKS: tuple[Check, ...] = (it_answers_a_probability, calls_do_not_mix, the_loop_stays_free)
