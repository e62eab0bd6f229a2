# SPDX-License-Identifier: Apache-2.0
"""A rule-based language model, and a recognizer with prepared transcripts.

The model answers when no real one is available (degraded service); both stand in for engines in
tests, where they make a call repeatable to the word.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from appliance.plugin import (
    BuildContext,
    Kind,
    LanguageModel,
    LlmCapabilities,
    Offer,
    Settings,
    SpeechToText,
    SttCapabilities,
    hookimpl,
)
from trunkline_scripted.rules import SORRY, Rule

LLM_CAPABILITIES = LlmCapabilities(tool_calling=True, streaming=True)
STT_CAPABILITIES = SttCapabilities()


class ScriptedModelSettings(Settings):
    """Settings of the language model `scripted`."""

    script: Path | None = Field(
        None,
        description="YAML file with the keys rules, fallback, variables and prompt_variables. What "
        "stands in these settings comes first.",
    )
    rules: tuple[Rule, ...] = Field(
        (), description="Rules, tried in order before those of the file."
    )
    fallback: str | None = Field(
        None, description=f"Said when no rule matches. Default: the file's, or: {SORRY}"
    )
    variables: dict[str, str] = Field(
        default_factory=dict, description="Values for {name} in replies; they override the file's."
    )
    prompt_variables: dict[str, str] = Field(
        default_factory=dict,
        description="Variables read from the agent's prompt by regular expressions.",
    )
    first_delay_s: float = Field(
        0.0, ge=0, le=10, description="Wait before the first word, seconds: imitates a slow model."
    )
    word_delay_s: float = Field(0.0, ge=0, le=1, description="Wait between two words, seconds.")


class ScriptedSpeechSettings(Settings):
    """Settings of the recognizer `scripted`."""

    transcripts: tuple[str, ...] = Field(
        (), description="What each turn of a call is taken for, in order; nothing after the last."
    )
    delay_s: float = Field(
        0.0, ge=0, le=10, description="Wait before a final transcript: imitates a slow recognizer."
    )


def build_model(settings: ScriptedModelSettings, context: BuildContext) -> LanguageModel:
    """Read and check the script.

    Raises:
        ConfigurationError: the script is wrong; the message names the file and the key.
    """
    from trunkline_scripted.providers import ScriptedModel  # noqa: PLC0415  imports us

    del context
    return ScriptedModel(settings)


def build_speech(settings: ScriptedSpeechSettings, context: BuildContext) -> SpeechToText:
    """Make the recognizer."""
    from trunkline_scripted.providers import ScriptedSpeechToText  # noqa: PLC0415  imports us

    del context
    return ScriptedSpeechToText(settings)


@hookimpl
def register_providers() -> list[Offer]:
    """Offer both."""
    return [
        Offer(
            id="scripted",
            kind=Kind.LANGUAGE_MODEL,
            settings=ScriptedModelSettings,
            build=build_model,
            capabilities=LLM_CAPABILITIES,
            summary="Answers by rules: for tests, and when no model is available.",
        ),
        Offer(
            id="scripted",
            kind=Kind.SPEECH_TO_TEXT,
            settings=ScriptedSpeechSettings,
            build=build_speech,
            capabilities=STT_CAPABILITIES,
            summary="Gives prepared transcripts, one a turn: for tests only.",
        ),
    ]
