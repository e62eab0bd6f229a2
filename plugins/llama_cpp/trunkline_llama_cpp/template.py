# SPDX-License-Identifier: Apache-2.0
"""Renders a dialogue with the model's own Jinja chat template, whatever that template can do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from os.path import commonprefix
from typing import Any

from jinja2 import TemplateError
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from appliance.plugin import (
    ConfigurationError,
    InvalidRequestError,
    Message,
    Role,
    ToolCall,
    ToolSpec,
)
from trunkline_llama_cpp.dialogue import FENCES, TAGS, Abilities, adapt


class ChatTemplate:
    """A chat template.

    Args:
        text: Jinja source.
        bos: text of the beginning-of-sequence token, or "".
        eos: text of the end-of-sequence token, or "".
        control: texts of the model's control tokens. They are taken out of what people and tools say, so
            that nobody can end a message, or begin one in another's name, by saying so.

    Attributes:
        abilities: what it was found to render.
    """

    def __init__(self, text: str, bos: str, eos: str, control: Iterable[str]) -> None:
        try:
            self._formatter: Any = Jinja2ChatFormatter(text, eos, bos, add_generation_prompt=True)
        except TemplateError as error:
            raise ConfigurationError(f"the chat template is not valid Jinja: {error}") from error
        ordered = sorted(control, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, ordered)) or r"(?!)")
        self._style = FENCES if "<start_of_turn>" in text else TAGS
        self.abilities = self._try_out()
        self._openings = lru_cache(maxsize=64)(self._opening)

    def prompt(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> str:
        """Render a dialogue that asks for the assistant's next message.

        Raises:
            InvalidRequestError: the template refuses the dialogue.
        """
        said = [
            replace(message, content=self._control.sub("", message.content)) for message in messages
        ]
        return self._render(*adapt(said, tools, self.abilities, self._style))

    def opening(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> str:
        """Render what every dialogue with this system message and these tools begins with, or ""."""
        if not messages or messages[0].role is not Role.SYSTEM:
            return ""
        described = json.dumps(
            [[tool.name, tool.description, dict(tool.parameters)] for tool in tools]
        )
        return self._openings(messages[0], described)

    def _opening(self, system: Message, described: str) -> str:
        tools = [ToolSpec(*tool) for tool in json.loads(described)]
        begun = [self.prompt([system, Message(Role.USER, text)], tools) for text in "AB"]
        return commonprefix(begun)  # noqa: RUF071 - of texts, not of paths

    def _try_out(self) -> Abilities:
        """Find out what the template renders, and what it refuses or leaves out."""
        user, agent = Message(Role.USER, "zq-asked"), Message(Role.ASSISTANT, "zq-said")
        if not self._renders([user], ["zq-asked"]):
            return (
                Abilities()
            )  # it wants something that nobody has thought of: its own error will say
        system = self._renders([Message(Role.SYSTEM, "zq-system"), user], ["zq-system", "zq-asked"])
        tool = ToolSpec("zq_tool", "zq-what", {"type": "object", "properties": {}})
        tools = self._renders([user], ["zq_tool", "zq-what"], [tool])
        calls = (ToolCall("zqcall001", "zq_one", "{}"), ToolCall("zqcall002", "zq_two", "{}"))
        results = [Message(Role.TOOL, f"zq-{call.name}", (), call.id, call.name) for call in calls]
        called = Message(Role.ASSISTANT, "", calls)
        return Abilities(
            system=system,
            tools=tools,
            tool_turns=self._renders(
                [user, replace(called, tool_calls=calls[:1]), results[0]], ["zq_one", "zq-zq_one"]
            ),
            many_calls=self._renders([user, called, *results], ["zq_one", "zq_two", "zq-zq_two"]),
            text_beside=self._renders(
                [user, replace(called, content="zq-beside", tool_calls=calls[:1]), results[0]],
                ["zq-beside", "zq_one"],
            ),
            any_order=self._renders([agent, user, user], ["zq-said", "zq-asked"]),
        )

    def _renders(
        self,
        messages: Sequence[Message],
        expected: Sequence[str],
        tools: Sequence[ToolSpec] = (),
    ) -> bool:
        try:
            text = self._render(messages, tools)
        except InvalidRequestError:
            return False
        return all(part in text for part in expected)

    def _render(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> str:
        try:
            prompt: str = self._formatter(
                messages=[_message(message) for message in messages],
                tools=[_tool(tool) for tool in tools] or None,
            ).prompt
        except Exception as error:  # it is a program, from anywhere
            raise InvalidRequestError(
                f"the model's chat template refuses this dialogue: {error}"
            ) from error
        return prompt


def _message(message: Message) -> dict[str, Any]:
    rendered: dict[str, Any] = {"role": message.role.value, "content": message.content}
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
