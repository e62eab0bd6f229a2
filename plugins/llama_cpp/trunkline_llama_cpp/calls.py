# SPDX-License-Identifier: Apache-2.0
"""Reads tool calls in the notations that models use."""

from __future__ import annotations

import ast
import json
import re
import secrets
from collections.abc import Iterator
from typing import Any

from appliance.plugin import ToolCall

_NAME = re.compile(r'"name"\s*:\s*"([^"]+)"')
_ARGUMENTS = re.compile(r'"(?:arguments|parameters)"\s*:\s*')
_NAMED = re.compile(r"([A-Za-z0-9_.-]+)(?:\[CALL_ID\][A-Za-z0-9]*)?\[ARGS\]")


class _NoCallError(Exception):
    """A piece of Python is something else than calls."""


def marked_calls(text: str) -> Iterator[ToolCall]:
    """Yield the calls in `text`, which a mark says to be calls.

    Understands JSON objects and lists of them, `name[ARGS]{...}`, and Python's `name(key="value")`.
    """
    text = text.strip()
    if _NAMED.match(text):
        for part in text.split("[TOOL_CALLS]"):
            name = _NAMED.match(part.strip())
            if name:
                yield _call(name.group(1), part.strip()[name.end() :].strip())
    elif text.startswith(("{", "[{")) or not (calls := _python_calls(text)):
        yield from _json_calls(text, sure=True)
    else:
        yield from calls


def unmarked_calls(text: str) -> list[ToolCall]:
    """Return the calls in `text`, which may be something else: JSON without arguments is none."""
    return list(_json_calls(text.strip(), sure=False)) or _python_calls(text)


def _json_calls(rest: str, *, sure: bool) -> Iterator[ToolCall]:
    """Read one object after the other: of a list that was cut off, the whole ones count."""
    decoder = json.JSONDecoder()
    while rest := rest.lstrip(" \n;,[]"):
        try:
            value, end = decoder.raw_decode(rest)
        except (ValueError, RecursionError):
            yield from _broken_call(rest)
            return
        named = isinstance(value, dict) and isinstance(value.get("name"), str)
        if named and (sure or value.keys() & {"arguments", "parameters"}):
            yield _call(value["name"], _arguments(value))
        rest = rest[end:]


def _arguments(call: dict[str, Any]) -> str:
    arguments = call.get("arguments", call.get("parameters", {}))
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _broken_call(text: str) -> Iterator[ToolCall]:
    """A call whose JSON is damaged is still a call: the core tells the model what is wrong with it."""
    name = _NAME.search(text)
    if name:
        arguments = _ARGUMENTS.search(text)
        yield _call(name.group(1), text[arguments.end() :] if arguments else "")


def _python_calls(text: str) -> list[ToolCall]:
    """Return the calls in Python code that consists of nothing else, each with literal keyword arguments."""
    try:
        body = ast.parse(text.strip()).body
        return [_python_call(node) for statement in body for node in _expressions(statement)]
    except (_NoCallError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _expressions(statement: ast.stmt) -> list[ast.expr]:
    if not isinstance(statement, ast.Expr):
        raise _NoCallError
    value = statement.value
    if isinstance(value, ast.List):
        return value.elts
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "print":
        return value.args
    return [value]


def _python_call(node: ast.expr) -> ToolCall:
    if not isinstance(node, ast.Call) or node.args or any(not key.arg for key in node.keywords):
        raise _NoCallError
    name = ast.unparse(node.func).removesuffix(".call")
    arguments = {str(key.arg): ast.literal_eval(key.value) for key in node.keywords}
    try:
        return _call(name, json.dumps(arguments, ensure_ascii=False))
    except TypeError as error:  # a literal that JSON has not, as bytes
        raise _NoCallError from error


def _call(name: str, arguments: str) -> ToolCall:
    """Mistral's templates insist on identifiers of nine letters and digits."""
    return ToolCall(secrets.token_hex(5)[:9], name, arguments)
