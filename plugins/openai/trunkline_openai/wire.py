# SPDX-License-Identifier: Apache-2.0
"""The chat API's JSON: a request out, and the chunks of a streamed reply in. No I/O.

Source: the OpenAI API reference, "Create chat completion" and "Streaming"; server-sent events by the
HTML standard, of which the API uses `data:` lines alone.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.plugin import (
    LlmDelta,
    LlmRequest,
    Message,
    Role,
    TextDelta,
    TokenUsage,
    ToolCall,
    UnavailableError,
)
from trunkline_openai.errors import from_event
from trunkline_openai.settings import OpenAiSettings

_CHARACTERS_PER_TOKEN = 4
"""The usual estimate for English text; servers stream about one token a chunk."""


def request_body(request: LlmRequest, settings: OpenAiSettings) -> dict[str, Any]:
    """Return the JSON object that asks for a streamed reply."""
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        settings.token_limit: request.max_tokens,
    }
    if settings.send_usage_option:
        body["stream_options"] = {"include_usage": True}
    if settings.send_temperature:
        body["temperature"] = request.temperature
    if request.seed is not None:
        body["seed"] = request.seed
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": dict(tool.parameters),
                },
            }
            for tool in request.tools
        ]
    return body | settings.extra_body


def _message(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role.value, "content": message.content}
    if message.tool_calls:
        body["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.role is Role.TOOL:
        body["tool_call_id"] = message.tool_call_id
    return body


@dataclass(slots=True)
class _PartialCall:
    """A tool call whose arguments still arrive."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""

    def whole(self) -> ToolCall:
        return ToolCall(
            self.id or "call_" + secrets.token_hex(8), self.name, self.arguments or "{}"
        )


class ReplyReader:
    """Puts a streamed reply together, line by line.

    Args:
        asked: characters of the request, from which its tokens are estimated should the server not count.
    """

    def __init__(self, asked: int = 0) -> None:
        self._asked = asked
        self._call: _PartialCall | None = None
        self._finished = False
        self._usage: TokenUsage | None = None
        self._pieces = 0

    def line(self, line: str) -> Iterator[LlmDelta]:
        """Take one line of the event stream; yield what is complete.

        Raises:
            ProviderError: the server reports an error in the stream.
            UnavailableError: the line is not what the API specifies.
        """
        if not line.startswith("data:"):
            return  # blank lines end events; comments keep the connection alive
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            self._finished = True
            return
        try:
            chunk = json.loads(data)
        except ValueError as error:
            raise UnavailableError("the server sent a chunk that is not JSON") from error
        yield from self._chunk(chunk, "delta")

    def whole(self, body: bytes) -> Iterator[LlmDelta]:
        """Take the answer of a server that does not stream.

        Raises:
            UnavailableError: it is not what the API specifies.
        """
        try:
            chunk = json.loads(body)
        except ValueError as error:
            raise UnavailableError("the server sent an answer that is not JSON") from error
        yield from self._chunk(chunk, "message")
        self._finished = True

    def end(self) -> Iterator[LlmDelta]:
        """The stream is over; yield the rest and the usage.

        Raises:
            UnavailableError: it broke off in the midst of the reply.
        """
        if not self._finished:
            raise UnavailableError("the server's stream broke off in the midst of the reply")
        yield from self._complete_call()
        yield self._usage or TokenUsage(
            prompt=-(-self._asked // _CHARACTERS_PER_TOKEN), completion=self._pieces
        )

    def _chunk(self, chunk: Any, part: str) -> Iterator[LlmDelta]:
        if not isinstance(chunk, Mapping):
            raise UnavailableError("the server sent a chunk that is not an object")
        if chunk.get("error"):
            raise from_event(chunk["error"])
        try:
            if chunk.get("usage"):
                self._usage = _usage(chunk["usage"])
            for choice in chunk.get("choices") or []:
                yield from self._delta(choice.get(part) or {})
                if choice.get("finish_reason"):
                    self._finished = True
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UnavailableError(
                f"the server sent a chunk of another shape: {error!r}"
            ) from error

    def _delta(self, delta: Mapping[str, Any]) -> Iterator[LlmDelta]:
        text = delta.get("content")
        if text:
            self._pieces += 1
            yield TextDelta(text)
        for place, part in enumerate(delta.get("tool_calls") or []):
            index = part.get("index", place)
            if self._call is None or self._call.index != index:
                yield from self._complete_call()
                self._call = _PartialCall(index)
            function = part.get("function") or {}
            self._call.id = part.get("id") or self._call.id
            self._call.name = function.get("name") or self._call.name
            self._call.arguments += function.get("arguments") or ""
            self._pieces += 1

    def _complete_call(self) -> Iterator[ToolCall]:
        if self._call is not None:
            yield self._call.whole()
            self._call = None


def _usage(usage: Mapping[str, Any]) -> TokenUsage:
    details = usage.get("prompt_tokens_details") or {}
    return TokenUsage(
        prompt=int(usage.get("prompt_tokens") or 0),
        completion=int(usage.get("completion_tokens") or 0),
        cached=int(details.get("cached_tokens") or 0),
    )
