# SPDX-License-Identifier: Apache-2.0
"""Settings of the `llama_cpp` language model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from appliance.plugin import Settings


class LlamaCppSettings(Settings):
    """Settings of the `llama_cpp` language model."""

    model: str = Field(
        default="starter/llm",
        description="GGUF file, or a folder with exactly one (a path, or a part of a model pack).",
    )
    context_tokens: int = Field(
        default=8192,
        ge=256,
        description="Tokens kept for all calls together. A reply's prompt and its bound must fit in.",
    )
    max_sequences: int = Field(
        default=64,
        ge=2,
        le=256,
        description="Dialogues and shared prompts kept at the same time; llama.cpp's limit is 256.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Threads of a step; 0: what the box grants. More than there are free cores is slower by "
        "a factor.",
    )
    gpu_layers: int = Field(
        default=0, ge=-1, description="Layers computed on a GPU; -1: all of them."
    )
    batch_tokens: int = Field(
        default=64,
        ge=32,
        le=8192,
        description="Most tokens of a step. Prompts are read in pieces of this size while nobody speaks. "
        "Larger ones are read no faster by a processor, and who arrives meanwhile waits for longer.",
    )
    prefill_chunk: int = Field(
        default=32,
        ge=1,
        le=8192,
        description="Most prompt tokens in a step while other replies are being written: it bounds the time "
        "for which they wait.",
    )
    keep_idle_s: float = Field(
        default=120.0,
        ge=0,
        description="How long the state of a call that is not asking for anything is kept.",
    )
    kv_type: Literal["f16", "q8_0"] = Field(
        default="f16", description="Number format of the attention memory."
    )
    chat_template: str = Field(
        default="", description="Jinja chat template; empty: the one in the model file."
    )
    guide_tool_calls: bool = Field(
        default=True,
        description="Hold a tool call, once begun, to a grammar made from the tools' schemas.",
    )
    top_p: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="Nucleus sampling, where the agent's temperature is not 0.",
    )
    min_p: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Tokens less likely than this part of the likeliest are not drawn.",
    )
