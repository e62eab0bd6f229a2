# SPDX-License-Identifier: Apache-2.0
"""Renders a dialogue with the model's own Jinja chat template."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from jinja2 import TemplateError
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from appliance.plugin import ConfigurationError, InvalidRequestError, Message, Role, ToolSpec


class ChatTemplate:
    """A chat template.

    Args:
        text: Jinja source.
        bos: text of the beginning-of-sequence token, or "".
        eos: text of the end-of-sequence token, or "".
        control: texts of the model's control tokens. They are taken out of what people and tools say, so
            that nobody can end a message, or begin one in another's name, by saying so.
    """

    def __init__(self, text: str, bos: str, eos: str, control: Iterable[str]) -> None:
        try:
            self._with_reply = Jinja2ChatFormatter(text, eos, bos, add_generation_prompt=True)
            self._without_reply = Jinja2ChatFormatter(text, eos, bos, add_generation_prompt=False)
        except TemplateError as error:
            raise ConfigurationError(f"the chat template is not valid Jinja: {error}") from error
        ordered = sorted(control, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, ordered)) or r"(?!)")

    def prompt(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> str:
        """Render a dialogue that asks for the assistant's next message.

        Raises:
            InvalidRequestError: the template refuses the dialogue (roles in an order it does not know).
        """
        return self._render(self._with_reply, messages, tools)

    def opening(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> str:
        """Render what every dialogue with this system message and these tools begins with, or ""."""
        if not messages or messages[0].role is not Role.SYSTEM:
            return ""
        try:
            return self._render(self._without_reply, messages[:1], tools)
        except InvalidRequestError:  # a template may insist on a user's message
            return ""

    def _render(
        self, formatter: Any, messages: Sequence[Message], tools: Sequence[ToolSpec]
    ) -> str:
        try:
            prompt: str = formatter(
                messages=[self._message(message) for message in messages],
                tools=[_tool(tool) for tool in tools] or None,
            ).prompt
        except (TemplateError, ValueError, TypeError) as error:
            raise InvalidRequestError(
                f"the model's chat template refuses this dialogue: {error}"
            ) from error
        return prompt

    def _message(self, message: Message) -> dict[str, Any]:
        rendered: dict[str, Any] = {
            "role": message.role.value,
            "content": self._control.sub("", message.content),
        }
        if message.tool_calls:
            rendered["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": _arguments(call.arguments)},
                }
                for call in message.tool_calls
            ]
        if message.role is Role.TOOL:
            rendered["tool_call_id"] = message.tool_call_id
            rendered["name"] = message.name
        return rendered


def _arguments(text: str) -> Any:
    """Templates expect an object; what the model wrote may not be one."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _tool(tool: ToolSpec) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": dict(tool.parameters),
        },
    }
