# SPDX-License-Identifier: Apache-2.0
"""Brings a dialogue into the form that a model's chat template can render.

Templates differ in what they know: some have no system message and no tools (Gemma), insist on caller and
agent taking turns with the caller first (Gemma, Mistral), on one call a message, or on no text beside it
(Llama). What a template knows is found by trying it, see `template.py`; what it does not is written into
messages that it does.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from appliance.plugin import Message, Role, ToolCall, ToolSpec

_BEFORE_THE_GREETING = "(The call begins.)"
_UNSAID = "..."
_SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a template can render.

    Attributes:
        system: a system message.
        tools: a list of tools.
        tool_turns: calls of the assistant, and their results.
        many_calls: several calls in one message.
        text_beside: text in a message that calls.
        any_order: the agent first, or two messages of the same person.
    """

    system: bool = True
    tools: bool = True
    tool_turns: bool = True
    many_calls: bool = True
    text_beside: bool = True
    any_order: bool = True


@dataclass(frozen=True, slots=True)
class ToolStyle:
    """How tools are written where the template knows none: what stands around a call, and around a result."""

    call: tuple[str, str]
    result: tuple[str, str]


TAGS = ToolStyle(
    call=("<tool_call>\n", "\n</tool_call>"), result=("<tool_response>\n", "\n</tool_response>")
)
FENCES = ToolStyle(call=("```tool_code\n", "\n```"), result=("```tool_output\n", "\n```"))


def adapt(
    messages: Sequence[Message], tools: Sequence[ToolSpec], able: Abilities, style: ToolStyle
) -> tuple[list[Message], Sequence[ToolSpec]]:
    """Return a dialogue and tools that a template with these abilities can render."""
    adapted = list(messages)
    if tools and not able.tools:
        adapted = _with_system(adapted, _instructions(tools, style))
        tools = ()
    if not able.tool_turns:
        adapted = [_written_out(message, style) for message in adapted]
    else:
        if not able.text_beside:
            adapted = _text_apart(adapted)
        if not able.many_calls:
            adapted = _one_call_each(adapted)
    if not able.system:
        adapted = _without_system(adapted)
    if not able.any_order:
        adapted = _taking_turns(adapted)
    return [_short_ids(message) for message in adapted], tools


def _with_system(messages: list[Message], text: str) -> list[Message]:
    if messages and messages[0].role is Role.SYSTEM:
        first = replace(messages[0], content=f"{messages[0].content}\n\n{text}")
        return [first, *messages[1:]]
    return [Message(Role.SYSTEM, text), *messages]


def _instructions(tools: Sequence[ToolSpec], style: ToolStyle) -> str:
    listed = "\n".join(
        json.dumps(
            {
                "name": tool.name,
                "description": tool.description,
                "parameters": dict(tool.parameters),
            },
            ensure_ascii=False,
        )
        for tool in tools
    )
    begin, end = style.call
    form = f'{begin}{{"name": "the tool", "arguments": {{...}}}}{end}'
    return (
        f"You have these tools:\n{listed}\n"
        f"To use one, end your message with its call in this form, and wait for the result:\n{form}"
    )


def _written_out(message: Message, style: ToolStyle) -> Message:
    if message.role is Role.TOOL:
        begin, end = style.result
        return Message(Role.USER, f"{begin}{message.content}{end}")
    if not message.tool_calls:
        return message
    begin, end = style.call
    calls = [
        f'{begin}{{"name": {json.dumps(call.name)}, "arguments": {call.arguments or "{}"}}}{end}'
        for call in message.tool_calls
    ]
    return Message(message.role, "\n".join(filter(None, [message.content, *calls])))


def _text_apart(messages: Sequence[Message]) -> list[Message]:
    adapted = []
    for message in messages:
        if message.tool_calls and message.content:
            adapted += [replace(message, tool_calls=()), replace(message, content="")]
        else:
            adapted.append(message)
    return adapted


def _one_call_each(messages: Sequence[Message]) -> list[Message]:
    """Give each call a message of its own, its result behind it."""
    adapted: list[Message] = []
    results = {message.tool_call_id: message for message in messages if message.role is Role.TOOL}
    moved: set[str] = set()
    for message in messages:
        if message.role is Role.TOOL and message.tool_call_id in moved:
            continue
        if len(message.tool_calls) < 2:
            adapted.append(message)
            continue
        for number, call in enumerate(message.tool_calls):
            content = message.content if number == 0 else ""
            adapted.append(Message(message.role, content, (call,)))
            if call.id in results:
                adapted.append(results[call.id])
                moved.add(call.id)
    return adapted


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """Let the caller's first message begin with what the system says; a later one is the caller's too."""
    adapted: list[Message] = []
    said = ""
    for number, message in enumerate(messages):
        if message.role is Role.SYSTEM and number == 0:
            said = message.content
        elif message.role is Role.SYSTEM:
            adapted.append(Message(Role.USER, message.content))
        else:
            adapted.append(message)
    if said and adapted and adapted[0].role is Role.USER:
        adapted[0] = replace(adapted[0], content=f"{said}\n\n{adapted[0].content}")
    elif said:
        adapted.insert(0, Message(Role.USER, said))
    return adapted


def _taking_turns(messages: Sequence[Message]) -> list[Message]:
    """Join what the same person said in a row, and let the caller begin; calls and results do not count."""
    adapted: list[Message] = []
    speaker: Role | None = None
    for message in messages:
        role = message.role
        if role not in {Role.USER, Role.ASSISTANT}:
            adapted.append(message)
            continue
        if role is speaker and adapted[-1].role is role and not message.tool_calls:
            text = "\n".join(filter(None, [adapted[-1].content, message.content]))
            adapted[-1] = replace(adapted[-1], content=text)
            continue
        if role is Role.ASSISTANT and speaker is not Role.USER:
            adapted.append(Message(Role.USER, _UNSAID if speaker else _BEFORE_THE_GREETING))
            speaker = Role.USER
        elif role is Role.USER and speaker is Role.USER:
            adapted.append(Message(Role.ASSISTANT, _UNSAID))
        if not message.tool_calls:
            speaker = role
        adapted.append(message)
    return adapted


def _short_ids(message: Message) -> Message:
    """Mistral's templates insist on nine letters and digits; another provider may have named the call."""
    return replace(
        message,
        tool_calls=tuple(
            ToolCall(_short_id(call.id), call.name, call.arguments) for call in message.tool_calls
        ),
        tool_call_id=_short_id(message.tool_call_id) if message.tool_call_id else "",
    )


def _short_id(text: str) -> str:
    return text if _SHORT_ID.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()[:9]
