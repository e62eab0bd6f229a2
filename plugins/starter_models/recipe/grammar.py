# SPDX-License-Identifier: Apache-2.0
"""A tiny phrase grammar: `(a|b)` chooses, `[a]` is said half the time, `{slot}` is filled in."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Mapping, Sequence
from functools import cache

_HELD_OUT_EVERY = 12

Node = str | tuple[str, tuple["Node", ...]]


@cache
def _parse(template: str) -> Node:
    node, end = _sequence(template, 0, "")
    if end != len(template):
        raise ValueError(f"unbalanced brackets in phrase: {template!r}")
    return node


def _sequence(text: str, at: int, closers: str) -> tuple[Node, int]:
    """Parse up to one of `closers`, or the end; returns the node and where it stopped."""
    parts: list[Node] = []
    plain = at
    while at < len(text) and text[at] not in closers:
        if text[at] not in "([":
            at += 1
            continue
        if at > plain:
            parts.append(text[plain:at])
        close = ")" if text[at] == "(" else "]"
        choices: list[Node] = [""] if close == "]" else []
        while True:
            choice, at = _sequence(text, at + 1, "|" + close)
            choices.append(choice)
            if at >= len(text):
                raise ValueError(f"unbalanced brackets in phrase: {text!r}")
            if text[at] == close:
                break
        parts.append(("choose", tuple(choices)))
        at += 1
        plain = at
    if at > plain:
        parts.append(text[plain:at])
    return ("join", tuple(parts)), at


def _say(node: Node, rng: random.Random) -> str:
    if isinstance(node, str):
        return node
    kind, parts = node
    if kind == "choose":
        return _say(parts[int(rng.random() * len(parts))], rng)
    return "".join(_say(part, rng) for part in parts)


def expand(template: str, rng: random.Random, slots: Mapping[str, str] | None = None) -> str:
    """One of the sayings of a template, with its slots filled in, not yet tidied."""
    text = _say(_parse(template), rng)
    for name, value in (slots or {}).items():
        text = text.replace("{" + name + "}", value)
    return text


def tidy(text: str) -> str:
    """Single spaces, none before punctuation, no comma at an edge, a capital first."""
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s+([,.?!])", r"\1", text)
    text = re.sub(r"^[\s,.]+", "", text)
    text = re.sub(r",(?=[.?!,])", "", text).strip().rstrip(",")
    text = re.sub(r"([.?!])[.]+", r"\1", text)
    text = re.sub(r"\b(for|on|at) (for|on|at|around)\b", r"\2", text)
    return re.sub(r"(^|(?<!\b[ap]\.m)[.?!] )([a-z])", lambda m: m[1] + m[2].upper(), text)


def listed(text: str, separator: str | None = None) -> list[str]:
    """The words of a table, or what stands between separators."""
    return text.split(separator)


def held_out(template: str) -> bool:
    """Whether a template is kept for testing, decided by its own text, so for good."""
    return zlib.crc32(template.encode()) % _HELD_OUT_EVERY == 0


def choose(templates: Sequence[str], rng: random.Random, *, test: bool | None = None) -> str:
    """One template: of all (None), of those for training (False), or of those held out (True).

    An intent with nothing held out is tested on its training templates.
    """
    if test is not None:
        templates = [t for t in templates if held_out(t) == test] or templates
    return templates[int(rng.random() * len(templates))]
