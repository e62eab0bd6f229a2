# SPDX-License-Identifier: Apache-2.0
"""Contracts of the language providers: model and embedder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray


class Role(StrEnum):
    """Who speaks in a dialogue."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model wants a tool run. `arguments` is JSON text as the model wrote it: the core parses
    it and validates it against the tool's schema.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a dialogue.

    Attributes:
        content: text; for `Role.TOOL` the tool's result as JSON text.
        tool_calls: what an assistant message called.
        tool_call_id: which call a `Role.TOOL` message answers.
        name: the tool's name in a `Role.TOOL` message.
    """

    role: Role
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model sees it; `parameters` is a JSON Schema object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LlmCapabilities:
    """What a language model can do.

    Attributes:
        tool_calling: it yields `ToolCall`s for `LlmRequest.tools`.
        streaming: text comes piece by piece.
        context_tokens: size of its context, 0 when unknown.
        local: nothing leaves the machine.
    """

    tool_calling: bool = True
    streaming: bool = True
    context_tokens: int = 0
    local: bool = True


@dataclass(frozen=True, slots=True)
class LlmRequest:
    """One reply wanted.

    Attributes:
        messages: the dialogue, system message first.
        tools: what the model may call.
        max_tokens: upper bound of the reply.
        temperature: 0 is greedy.
        seed: for repeatable sampling, where the provider can.
        call_id: for logs and for keeping a call's cache warm.
    """

    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = ()
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = None
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the reply's text."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Counted by the provider; the last item of every reply. `cached` is part of `prompt`."""

    prompt: int
    completion: int
    cached: int = 0


LlmDelta: TypeAlias = TextDelta | ToolCall | TokenUsage


class LanguageModel(Protocol):
    """A chat model. One object serves all calls at once."""

    capabilities: LlmCapabilities

    def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        """Stream the reply: text pieces and whole tool calls in the order made, then one `TokenUsage`.

        Raises:
            ProviderError: see `appliance.plugin.errors`.
        """
        ...

    async def aclose(self) -> None:
        """Release model, threads and connections. Idempotent."""


@dataclass(frozen=True, slots=True)
class EmbedderCapabilities:
    """`dimensions` of each vector; `max_tokens` of a text before it is cut."""

    dimensions: int
    max_tokens: int = 256
    local: bool = True


class Embedder(Protocol):
    """Turns texts into unit vectors for search."""

    capabilities: EmbedderCapabilities

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return shape (len(texts), dimensions), rows of unit length.

        Raises:
            ProviderError: see `appliance.plugin.errors`.
        """
        ...

    async def aclose(self) -> None:
        """Release the model. Idempotent."""
