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
        entries = self._entries[-limit:]
        while entries and entries[0].message.role is Role.TOOL:
            entries = entries[1:]
        return (self._system, *(entry.message for entry in entries))

    def add_user(self, text: str) -> None:
        """Add the caller's words; they join the previous entry when nothing was said in between."""
        last = self._entries[-1].message if self._entries else None
        if last is not None and last.role is Role.USER:
            self._entries[-1] = _Entry(replace(last, content=f"{last.content} {text}"))
            return
        self._entries.append(_Entry(Message(Role.USER, text)))

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
