# SPDX-License-Identifier: Apache-2.0
"""Contracts of the language providers: model and embedder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
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


class ReplyPace:
    """How urgently a running reply is wanted. The call changes it while the reply is being written; a
    scheduler reads it from any thread. A provider that knows no urgency ignores it.

    Attributes:
        committed: False while the caller's turn is not over yet, and the reply may come to nothing.
        unplayed_s: seconds of speech of this reply that were made and not heard yet; 0 before the first.
    """

    __slots__ = ("_watchers", "committed", "unplayed_s")

    def __init__(self, *, committed: bool = True) -> None:
        self.committed = committed
        self.unplayed_s = 0.0
        self._watchers: list[Callable[[], None]] = []

    def commit(self) -> None:
        """The turn is over: the reply is wanted."""
        if not self.committed:
            self.committed = True
            self._tell()

    def played(self, unplayed_s: float) -> None:
        """Note how much speech lies ahead of the caller, in seconds."""
        self.unplayed_s = unplayed_s
        self._tell()

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` after each change, in the changer's thread; return what ends that."""
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    def _tell(self) -> None:
        for changed in tuple(self._watchers):
            changed()


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
        pace: how urgent the reply is, as it goes on; None is a reply wanted at full speed.
    """

    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = ()
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = None
    call_id: str = ""
    pace: ReplyPace | None = field(default=None, compare=False)


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
