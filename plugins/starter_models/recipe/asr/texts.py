# SPDX-License-Identifier: Apache-2.0
"""The sentences to be spoken: drawn from the domain, split into trained and never trained."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator

from recipe.domain import caller_texts

_HELD_OUT_SHARE = 0.08
_MAX_WORDS = 24


def normalised(text: str) -> str:
    """Lower case, words only: the form in which errors are counted."""
    text = text.lower().replace("’", "'").replace("a.m.", "am").replace("p.m.", "pm")
    return " ".join(re.sub(r"[^a-z0-9' ]+", " ", text).split())


def is_held_out(text: str) -> bool:
    """Whether this wording is kept for testing: decided by its words alone, so for good."""
    digest = hashlib.sha256(normalised(text).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < _HELD_OUT_SHARE


def _fragment(text: str, rng: random.Random) -> str:
    words = text.split()
    if len(words) < 3:
        return text
    count = rng.randint(1, min(6, len(words) - 1))
    start = 0 if rng.random() < 0.4 else rng.randint(0, len(words) - count)
    piece = " ".join(words[start : start + count]).strip(",.?! ")
    if not normalised(piece):
        return text
    return piece[0].upper() + piece[1:] + "."


def utterances(seed: int) -> Iterator[str]:
    """Endless texts of what a caller says in one breath: sentences, pairs of them, fragments."""
    rng = random.Random(seed)
    source = caller_texts(random.Random(seed + 1))
    for sentence in source:
        draw = rng.random()
        text = sentence
        if draw < 0.22:
            text = _fragment(sentence, rng)
        elif draw < 0.32:
            text = f"{sentence} {next(source)}"
        if 0 < len(normalised(text).split()) <= _MAX_WORDS:
            yield text


def training_texts(seed: int, count: int) -> list[str]:
    """`count` texts, none of them held out; frequent short ones may come again."""
    out: list[str] = []
    seen: dict[str, int] = {}
    for text in utterances(seed):
        key = normalised(text)
        if is_held_out(text) or seen.get(key, 0) >= 12:
            continue
        seen[key] = seen.get(key, 0) + 1
        out.append(text)
        if len(out) == count:
            break
    return out


def test_texts(seed: int, count: int) -> list[str]:
    """`count` distinct texts whose wording is never trained, as whole sentences a caller says."""
    out: dict[str, str] = {}
    for text in caller_texts(random.Random(seed)):
        if is_held_out(text) and len(normalised(text).split()) <= _MAX_WORDS:
            out.setdefault(normalised(text), text)
        if len(out) == count:
            break
    return list(out.values())
