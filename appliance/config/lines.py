# SPDX-License-Identifier: Apache-2.0
"""Finds the line of each key in a TOML text, which the parser of the standard library does not tell.

It is not a parser: give it only text that `tomllib` has accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

KeyPath = tuple[str | int, ...]

_PART = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*(\.|)""")
_STRING_OR_MARK = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*|[\[\]{}\n]',
    re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line, from 1, on which each table and key is written.

    Tables of an array have their index in the path. Keys inside a value that spans several lines
    are not listed: look up the longest prefix with `line_of`.
    """
    lines: dict[KeyPath, int] = {}
    tables: dict[KeyPath, int] = {}
    here: KeyPath = ()
    for number, statement in _statements(text):
        if statement.startswith("[["):
            name = _in_last_tables(_key(statement[2:])[0], tables)
            tables[name] = tables.get(name, -1) + 1
            here = (*name, tables[name])
            lines.setdefault(name, number)
            lines[here] = number
        elif statement.startswith("["):
            here = _in_last_tables(_key(statement[1:])[0], tables)
            lines[here] = number
        else:
            key, rest = _key(statement)
            lines[(*here, *key)] = number
            if rest.startswith("{"):
                _inline(lines, (*here, *key), rest, number)
    return lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """Return the line of `path`, or of the nearest table around it."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line, statement): a statement ends at a line break outside brackets and strings."""
    start, depth, number = 0, 0, 1
    for found in _STRING_OR_MARK.finditer(text + "\n"):
        mark = found.group()
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
        elif mark == "\n" and depth == 0:
            statement = text[start : found.start()]
            lead = len(statement) - len(statement.lstrip())
            bare = statement.strip()
            if bare and not bare.startswith("#"):
                yield number + statement[:lead].count("\n"), bare
            number += statement.count("\n") + 1
            start = found.end()


def _key(text: str) -> tuple[tuple[str, ...], str]:
    """Split a dotted key from what follows it; the equals sign is dropped."""
    parts: list[str] = []
    position = 0
    while match := _PART.match(text, position):
        parts.append(next(group for group in match.groups()[:3] if group is not None))
        position = match.end()
        if not match.group(4):
            break
    return tuple(parts), text[position:].lstrip(" \t=")


def _in_last_tables(name: tuple[str, ...], tables: Mapping[KeyPath, int]) -> KeyPath:
    path: KeyPath = ()
    for position, part in enumerate(name):
        path = (*path, part)
        if path in tables and position < len(name) - 1:
            path = (*path, tables[path])
    return path


def _inline(lines: dict[KeyPath, int], path: KeyPath, text: str, number: int) -> None:
    for match in re.finditer(r"[{,]\s*([A-Za-z0-9_-]+)\s*=", text):
        lines.setdefault((*path, match.group(1)), number)
