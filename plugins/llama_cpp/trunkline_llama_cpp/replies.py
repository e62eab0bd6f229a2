# SPDX-License-Identifier: Apache-2.0
"""Takes a reply apart while it is written: what is spoken goes on at once, tool calls never do.

Families of tool calls, by the mark that begins one:

    <tool_call>{"name": ..., "arguments": {...}}</tool_call>       Qwen, Hermes
    [TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]           Mistral
    [TOOL_CALLS]name[ARGS]{...}                                    Mistral, since 2025
    <|python_tag|>{"name": ..., "parameters": {...}}; {...}        Llama 3.1
    {"name": ..., "parameters": {...}}   as the whole reply        Llama 3.2

`<think>...</think>` is dropped: it is not for the caller.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from typing import Any

from appliance.plugin import TextDelta, ToolCall

VISIBLE_MARKS = frozenset(
    {"<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>"}
    | {"<think>", "</think>"}
)
"""Marks that may be control tokens of the vocabulary, and must be rendered to be seen here."""

_CLOSED = {"<tool_call>": "</tool_call>", "<think>": "</think>"}
_OPEN = ("[TOOL_CALLS]", "<|python_tag|>")
_MARKS = (*_CLOSED, *_OPEN)
_ANY_MARK = re.compile("|".join(map(re.escape, _MARKS)))
_NAME = re.compile(r'"name"\s*:\s*"([^"]+)"')
_ARGUMENTS = re.compile(r'"(?:arguments|parameters)"\s*:\s*')
_NEW_MISTRAL = re.compile(r"([A-Za-z0-9_.-]+)(?:\[CALL_ID\][A-Za-z0-9]*)?\[ARGS\]")


class ReplyParser:
    """Reads one reply, piece by piece.

    Args:
        tools: whether the model was offered any: only then can a bare JSON reply be a call.
    """

    def __init__(self, *, tools: bool) -> None:
        self._buffer = ""
        self._mark = ""  # what the buffer stands behind; "" outside of marks
        self._said = False
        self._bare_allowed = tools

    def feed(self, piece: str) -> Iterator[TextDelta | ToolCall]:
        """Take the next piece; yield what is certain now."""
        self._buffer += piece
        while True:
            if not self._mark:
                yield from self._speak()
                if not self._mark:
                    return
            end = _CLOSED.get(self._mark)
            if end is None or end not in self._buffer:
                return
            inside, _, self._buffer = self._buffer.partition(end)
            if self._mark == "<tool_call>":
                yield from _calls(inside)
            self._mark = ""

    def end(self) -> Iterator[TextDelta | ToolCall]:
        """The reply is over; yield the rest."""
        if not self._mark:
            if self._buffer.strip():
                yield TextDelta(self._buffer)
        elif self._mark != "<think>":
            calls = list(_calls(self._buffer))
            if self._mark == "{" and not calls:
                yield TextDelta(self._buffer)
            yield from calls
        self._buffer = ""

    def _speak(self) -> Iterator[TextDelta]:
        """Yield the text in front of the next mark, and keep what may be the beginning of one."""
        start = self._buffer.lstrip()
        if not self._said and self._bare_allowed and start.startswith("{"):
            self._mark = "{"
            return
        found = _ANY_MARK.search(self._buffer)
        if found:
            text, self._buffer = self._buffer[: found.start()], self._buffer[found.end() :]
            self._mark = found.group()
        else:
            held = _held_back(self._buffer)
            text, self._buffer = self._buffer[:held], self._buffer[held:]
        if text.strip() or (text and self._said and not self._mark):
            self._said = True
            yield TextDelta(text)


def _held_back(text: str) -> int:
    """Return where the longest end of `text` begins that a mark could begin with."""
    longest = max(map(len, _MARKS)) - 1
    for start in range(max(0, len(text) - longest), len(text)):
        if any(mark.startswith(text[start:]) for mark in _MARKS):
            return start
    return len(text)


def _calls(text: str) -> Iterator[ToolCall]:
    """Yield the calls in `text`: JSON objects, a list of them, or `name[ARGS]{...}`."""
    new = _NEW_MISTRAL.match(text.strip())
    if new:
        for part in text.split("[TOOL_CALLS]"):
            name = _NEW_MISTRAL.match(part.strip())
            if name:
                yield _call(name.group(1), part.strip()[name.end() :].strip())
        return
    decoder = json.JSONDecoder()
    rest = text.strip()
    while rest:
        try:
            value, end = decoder.raw_decode(rest)
        except ValueError:
            yield from _broken_call(rest)
            return
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict) and isinstance(one.get("name"), str):
                yield _call(one["name"], _arguments(one))
        rest = rest[end:].lstrip(" \n;,")


def _arguments(call: dict[str, Any]) -> str:
    arguments = call.get("arguments", call.get("parameters", {}))
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _broken_call(text: str) -> Iterator[ToolCall]:
    """A call whose JSON is damaged is still a call: the core tells the model what is wrong with it."""
    name = _NAME.search(text)
    if name:
        arguments = _ARGUMENTS.search(text)
        yield _call(name.group(1), text[arguments.end() :] if arguments else "")


def _call(name: str, arguments: str) -> ToolCall:
    """Mistral's templates insist on identifiers of nine letters and digits."""
    return ToolCall(secrets.token_hex(5)[:9], name, arguments)
