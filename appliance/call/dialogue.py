# SPDX-License-Identifier: Apache-2.0
"""The history of one call as the model sees it: only what was really said and heard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from appliance.plugin import Message, Role, ToolCall


@dataclass(slots=True)
class _Entry:
    message: Message
    gen: int = 0


class Dialogue:
    """Messages in order. Assistant entries know their generation, so that an interruption can cut
    them back to the words that were heard.

    Args:
        system: the rendered prompt.
    """

    def __init__(self, system: str) -> None:
        self._system = Message(Role.SYSTEM, system)
        self._entries: list[_Entry] = []

    def messages(self, limit: int) -> tuple[Message, ...]:
        """Return the system message and the newest `limit` entries, never beginning inside a tool
        exchange (a tool result without its call confuses every model).
        """
        return self._view(self._entries, limit)

    def messages_with(self, text: str, limit: int) -> tuple[Message, ...]:
        """Return what `messages` will return once the caller's `text` is added; nothing is added."""
        return self._view(self._with_user(text), limit)

    def add_user(self, text: str) -> None:
        """Add the caller's words; they join the previous entry when nothing was said in between."""
        self._entries = self._with_user(text)

    def add_assistant(self, gen: int, text: str, tool_calls: tuple[ToolCall, ...] = ()) -> None:
        """Add what generation `gen` said and called."""
        if text or tool_calls:
            self._entries.append(_Entry(Message(Role.ASSISTANT, text, tool_calls), gen))

    def add_tool_result(self, call: ToolCall, content: str) -> None:
        """Add the result of a tool call, as JSON text."""
        message = Message(Role.TOOL, content, tool_call_id=call.id, name=call.name)
        self._entries.append(_Entry(message))

    def keep_heard(self, first_gen: int, heard: Mapping[int, str]) -> None:
        """Cut the assistant entries from `first_gen` on to what was heard of them."""
        kept = []
        for entry in self._entries:
            if entry.message.role is Role.ASSISTANT and entry.gen >= first_gen:
                entry.message = replace(entry.message, content=heard.get(entry.gen, ""))
                if not entry.message.content and not entry.message.tool_calls:
                    continue
            kept.append(entry)
        self._entries = kept

    def last_assistant(self) -> str:
        """Return what the agent said last, or ""."""
        for entry in reversed(self._entries):
            if entry.message.role is Role.ASSISTANT and entry.message.content:
                return entry.message.content
        return ""

    def _with_user(self, text: str) -> list[_Entry]:
        last = self._entries[-1].message if self._entries else None
        if last is not None and last.role is Role.USER:
            joined = replace(last, content=f"{last.content} {text}")
            return [*self._entries[:-1], _Entry(joined)]
        return [*self._entries, _Entry(Message(Role.USER, text))]

    def _view(self, entries: list[_Entry], limit: int) -> tuple[Message, ...]:
        shown = [entry.message for entry in entries[-limit:]]
        while shown and shown[0].role is Role.TOOL:
            shown = shown[1:]
        merged: list[Message] = []
        for message in shown:
            if merged and _are_one(merged[-1], message):
                content = f"{merged[-1].content} {message.content}".strip()
                merged[-1] = replace(message, content=content)
            else:
                merged.append(message)
        return (self._system, *merged)


def _are_one(first: Message, second: Message) -> bool:
    """Two assistant messages in a row are one answer: many chat templates refuse to take them apart."""
    return first.role is second.role is Role.ASSISTANT and not first.tool_calls
