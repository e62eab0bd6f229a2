# SPDX-License-Identifier: Apache-2.0
"""Takes a reply apart while it is written: what is spoken goes on at once, tool calls never do.

Families of tool calls, by what begins one:

    <tool_call>{"name": ..., "arguments": {...}}</tool_call>       Qwen, Hermes
    <function=name>{...}</function>                                Llama 3.1
    <|python_tag|>{"name": ..., "parameters": {...}}; {...}        Llama 3.1
    {"name": ..., "parameters": {...}}; {...}                      Llama 3.2
    [TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]           Mistral
    [TOOL_CALLS]name[ARGS]{...}                                    Mistral, since 2025
    ```tool_code, and JSON as above or name(key="value")           Gemma

The last of Llama's and Gemma's are calls only where tools were offered. `<think>...</think>` is dropped: it
is not for the caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from appliance.plugin import TextDelta, ToolCall
from trunkline_llama_cpp.calls import marked_calls, unmarked_calls

VISIBLE_MARKS = frozenset(
    {"<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>"}
    | {"<think>", "</think>"}
)
"""Marks that may be control tokens of the vocabulary, and must be rendered to be seen here."""

_FENCE = "```"
_CLOSED = {
    "<tool_call>": "</tool_call>",
    "<function=": "</function>",
    "<think>": "</think>",
    _FENCE: _FENCE,
}
_OPEN = ("[TOOL_CALLS]", "<|python_tag|>")
_STRAY = ("</tool_call>", "</function>", "</think>")
_ALWAYS = (*(mark for mark in _CLOSED if mark != _FENCE), *_OPEN, *_STRAY)
_WITH_TOOLS = (*_ALWAYS, _FENCE, "{")
_UNFINISHED = re.compile(r'\[?\s*\{\s*"')
_LANGUAGE = re.compile(r"\s*(?:tool_code|tool_call|json|python)?\s*")


class ReplyParser:
    """Reads one reply, piece by piece.

    Args:
        tools: whether the model was offered any: only then can bare JSON or fenced code be a call.
    """

    def __init__(self, *, tools: bool) -> None:
        self._buffer = ""
        self._mark = ""  # what the buffer stands behind (`{` and `[`: at); "" outside of marks
        self._said = False
        self._called = False  # a bare call has just ended: what separates calls is not spoken
        self._tools = tools
        self._marks = _WITH_TOOLS if tools else _ALWAYS
        self._any_mark = re.compile("|".join(map(re.escape, self._marks)))

    def begin_in_thought(self) -> None:
        """The prompt has opened `<think>` already."""
        self._mark = "<think>"

    def feed(self, piece: str) -> Iterator[TextDelta | ToolCall]:
        """Take the next piece; yield what is certain now."""
        self._buffer += piece
        while True:
            if not self._mark:
                yield from self._speak()
                if not self._mark:
                    return
            length = self._inside()
            if length is None:
                return
            inside, self._buffer = self._buffer[:length], self._buffer[length:]
            yield from self._take(inside, closed=True)
            self._buffer = self._buffer.removeprefix(_CLOSED.get(self._mark, ""))
            self._mark = ""

    def end(self) -> Iterator[TextDelta | ToolCall]:
        """The reply is over; yield the rest."""
        if self._mark:
            yield from self._take(self._buffer, closed=False)
        elif self._buffer.strip():
            yield TextDelta(self._buffer)
        self._buffer = ""

    def _speak(self) -> Iterator[TextDelta]:
        """Yield the text in front of the next mark, and keep what may be the beginning of one."""
        while not self._mark:
            if self._called:
                self._buffer = self._buffer.lstrip(" \n;,")
                self._called = not self._buffer
            if self._begins_with_list():
                return
            found = self._any_mark.search(self._buffer)
            if found:
                text, mark = self._buffer[: found.start()], found.group()
                self._buffer = self._buffer[found.start() if mark == "{" else found.end() :]
                self._mark = "" if mark in _STRAY else mark
            else:
                held = self._held_back()
                text, self._buffer = self._buffer[:held], self._buffer[held:]
            if text.strip() or (text and self._said and not found):
                self._said = True
                yield TextDelta(text)
            if not found:
                return

    def _begins_with_list(self) -> bool:
        """Whether the reply begins with a list of objects, or may: then it is held back."""
        start = self._buffer.lstrip()
        if self._said or not self._tools or not start.startswith("["):
            return False
        following = start[1:].lstrip()[:1]
        if following == "{":
            self._buffer, self._mark = start, "["
        return following in {"", "{"}

    def _held_back(self) -> int:
        """Return where the longest end of the buffer begins that a mark could begin with."""
        text = self._buffer
        longest = max(map(len, self._marks)) - 1
        for start in range(max(0, len(text) - longest), len(text)):
            if any(mark.startswith(text[start:]) for mark in self._marks):
                return start
        return len(text)

    def _inside(self) -> int | None:
        """Return the length of what the mark holds, None when it has not ended yet."""
        if self._mark in {"{", "["}:
            return _value_end(self._buffer)
        if self._mark in _OPEN:
            return None
        end = self._buffer.find(_CLOSED[self._mark])
        return end if end >= 0 else None

    def _take(self, inside: str, *, closed: bool) -> Iterator[TextDelta | ToolCall]:
        """Yield what a mark held: calls, or text that only looked like one."""
        match self._mark:
            case "<think>":
                return
            case "<function=":
                name, _, arguments = inside.partition(">")
                yield from marked_calls(f"{name}[ARGS]{arguments}")
            case "{" | "[" | "```":
                code = _LANGUAGE.sub("", inside, count=1) if self._mark == _FENCE else inside
                calls = unmarked_calls(code)
                yield from calls
                self._called = bool(calls)
                if not calls and (closed or not _UNFINISHED.match(code)):
                    fence = _FENCE if self._mark == _FENCE else ""
                    self._said = True
                    yield TextDelta(f"{fence}{inside}{fence if closed else ''}")
            case _:
                yield from marked_calls(inside)


def _value_end(text: str) -> int | None:
    """Return where the JSON object or list ends with which `text` begins, None when it has not ended."""
    depth, quoted, escaped = 0, False, False
    for index, character in enumerate(text):
        if quoted:
            quoted = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            quoted = True
        elif character in "{[":
            depth += 1
        elif character in "}]":
            depth -= 1
            if not depth:
                return index + 1
    return None
