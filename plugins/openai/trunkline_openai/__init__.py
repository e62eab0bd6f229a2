# SPDX-License-Identifier: Apache-2.0
"""Any server that speaks the OpenAI chat API: streaming, tool calls, usage."""

from __future__ import annotations

from appliance.plugin import BuildContext, Kind, LanguageModel, LlmCapabilities, Offer, hookimpl
from trunkline_openai.settings import OpenAiSettings


def build(settings: OpenAiSettings, context: BuildContext) -> LanguageModel:
    """Make the client. Nothing is asked of the server before the first reply.

    Raises:
        ConfigurationError: the file of trusted certificates cannot be read.
    """
    from trunkline_openai.provider import OpenAiModel  # noqa: PLC0415

    del context
    return OpenAiModel(settings)


@hookimpl
def register_providers() -> list[Offer]:
    """Offer the model."""
    return [
        Offer(
            id="openai",
            kind=Kind.LANGUAGE_MODEL,
            settings=OpenAiSettings,
            build=build,
            capabilities=LlmCapabilities(local=False),
            summary="A chat model behind the OpenAI API, in a cloud or on a server of one's own.",
        )
    ]
