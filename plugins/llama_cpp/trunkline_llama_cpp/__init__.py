# SPDX-License-Identifier: Apache-2.0
"""Local language models in GGUF through llama.cpp: one model, one context, one step loop for all calls."""

from __future__ import annotations

from appliance.plugin import BuildContext, Kind, LanguageModel, LlmCapabilities, Offer, hookimpl
from trunkline_llama_cpp.settings import LlamaCppSettings


def build(settings: LlamaCppSettings, context: BuildContext) -> LanguageModel:
    """Load the model and start the step loop's thread.

    Raises:
        ModelNotFoundError: the file is missing or is no GGUF model.
        ConfigurationError: the model has no chat template, or the context does not fit into memory.
    """
    from trunkline_llama_cpp.provider import build_model  # noqa: PLC0415

    return build_model(settings, context)


@hookimpl
def register_providers() -> list[Offer]:
    """Offer the model."""
    return [
        Offer(
            id="llama_cpp",
            kind=Kind.LANGUAGE_MODEL,
            settings=LlamaCppSettings,
            build=build,
            capabilities=LlmCapabilities(),
            summary="GGUF models in llama.cpp: continuous batching, shared prompts, tool calls.",
        )
    ]
