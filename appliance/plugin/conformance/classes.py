# SPDX-License-Identifier: Apache-2.0
"""The kit as pytest classes: subclass one, give it a fixture `provider`, and its tests are there.

    class TestTone(TextToSpeechConformance):
        @pytest.fixture
        def provider(self) -> Subject:
            return Subject(OFFER, {"pitch_hz": 440})

Each rule of the contract is a test of its own, named as a sentence. The tests are plain functions that
run an event loop of their own, so no pytest plugin is needed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import ClassVar

from appliance.plugin.conformance.findings import Check, Outcome
from appliance.plugin.conformance.kit import checks_for
from appliance.plugin.conformance.subject import Subject
from appliance.plugin.offers import Kind


def _test_of(check: Check) -> Callable[[object, Subject], None]:
    def test(self: object, provider: Subject) -> None:
        async def run() -> tuple[Outcome, str]:
            async with provider:
                finding = await check(provider)
            return finding.outcome, finding.detail

        outcome, detail = asyncio.run(run())
        assert outcome in {Outcome.PASSED, Outcome.NOT_APPLICABLE}, f"{outcome}: {detail}"

    test.__doc__ = check.name
    return test


def test_name(check: Check) -> str:
    """Return the name of a check as a test: `test_` and its sentence."""
    return "test_" + re.sub(r"[^a-z0-9]+", "_", check.name.lower()).strip("_")


test_name.__test__ = False  # type: ignore[attr-defined]  # pytest shall not take it for one


class Conformance:
    """Base of the classes: a subclass names its kind and receives that kind's tests."""

    kind: ClassVar[Kind]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "kind" in vars(cls):
            for check in checks_for(cls.kind):
                setattr(cls, test_name(check), _test_of(check))


class SpeechToTextConformance(Conformance):
    """Contract of a recognizer. Override the fixture `provider`."""

    kind = Kind.SPEECH_TO_TEXT


class LanguageModelConformance(Conformance):
    """Contract of a language model. Override the fixture `provider`."""

    kind = Kind.LANGUAGE_MODEL


class TextToSpeechConformance(Conformance):
    """Contract of a synthesizer. Override the fixture `provider`."""

    kind = Kind.TEXT_TO_SPEECH


class VoiceActivityConformance(Conformance):
    """Contract of a voice activity detector. Override the fixture `provider`."""

    kind = Kind.VOICE_ACTIVITY


class TurnDetectorConformance(Conformance):
    """Contract of a turn detector. Override the fixture `provider`."""

    kind = Kind.TURN_DETECTOR


class EmbedderConformance(Conformance):
    """Contract of an embedder. Override the fixture `provider`."""

    kind = Kind.EMBEDDER


class TransportConformance(Conformance):
    """Contract of a transport. Override the fixture `provider`."""

    kind = Kind.TRANSPORT


class ToolConformance(Conformance):
    """Contract of a tool. Override the fixture `provider`."""

    kind = Kind.TOOL


class GuardrailConformance(Conformance):
    """Contract of a guardrail. Override the fixture `provider`."""

    kind = Kind.GUARDRAIL


class RecordingStoreConformance(Conformance):
    """Contract of a recording store. Override the fixture `provider`."""

    kind = Kind.RECORDING_STORE
