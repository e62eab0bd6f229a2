# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: D101, D102, D103, INP001  (a test says what it does by its name)
"""The whole contract by inheritance, and what is special about this provider by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from trunkline_whistle import WhistleSettings, register_providers
from trunkline_whistle.provider import Whistle

from appliance.plugin import SpeechChunk, TtsRequest
from appliance.plugin.conformance import Subject, TextToSpeechConformance


class TestContract(TextToSpeechConformance):
    @pytest.fixture
    def provider(self) -> Subject:
        (offer,) = register_providers()
        return Subject(offer, {"pitch_hz": 600})


def whistled(*texts: str, speed: float = 1.0) -> list[SpeechChunk]:
    async def given() -> AsyncIterator[str]:
        for text in texts:
            yield text

    async def run() -> list[SpeechChunk]:
        speech = Whistle(WhistleSettings()).speak(given(), TtsRequest(speed=speed))
        return [chunk async for chunk in speech]

    return asyncio.run(run())


def test_each_word_is_marked_where_it_begins() -> None:
    marks = [chunk.marks[0] for chunk in whistled("Good morning, ", "Ada.")]
    assert [mark.char for mark in marks] == [0, 5, 14]
    assert marks[0].sample == 0


def test_twice_the_speed_is_half_the_length() -> None:
    normal, fast = (
        sum(len(chunk.pcm) for chunk in whistled("Good morning.", speed=speed))
        for speed in (1.0, 2.0)
    )
    assert fast == pytest.approx(normal / 2, rel=0.01)
