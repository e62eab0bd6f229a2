# SPDX-License-Identifier: Apache-2.0
"""Batches: fresh random dialogues of like length together, and repeated random patterns."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from tokenizers import Tokenizer
from torch import Tensor

from recipe.llm import tokenizer as bpe
from recipe.llm.chat import ARGUMENTS, rendered
from recipe.llm.dialogue import Dialogue

LONGEST = 1024
_POOL = 96  # dialogues sorted by length at a time
_ARGUMENT, _FIRST, _ASIDE = 5.0, 4.0, 0.05  # weights of tokens; others of an answer count 1
_VALUE = re.compile(r'": "([^"]*)"')

Row: TypeAlias = tuple[list[int], list[float]]


@dataclass
class Batch:
    """Token ids (rows, length) and how much the prediction of each counts, same shape."""

    ids: Tensor
    weight: Tensor


def encoded(dialogue: Dialogue, tokenizer: Tokenizer) -> Row:
    """The dialogue's tokens, and how much each counts.

    The first token of an answer decides what it will be, and the values in a call must all be right: they
    count more. What is given at run time counts a little: predicting it teaches what the words are.
    """
    ids: list[int] = []
    weights: list[float] = []
    for text, wanted in rendered(dialogue):
        piece = tokenizer.encode(text, add_special_tokens=False)
        counts = [1.0 if wanted else _ASIDE] * len(piece.ids)
        if wanted:
            counts[0] = _FIRST
            at = text.find(ARGUMENTS)
            for value in _VALUE.finditer(text, at + len(ARGUMENTS)) if at >= 0 else ():
                for i, (start, end) in enumerate(piece.offsets):
                    if start < value.end(1) and end > value.start(1):
                        counts[i] = _ARGUMENT
        ids += piece.ids
        weights += counts
    return ids[:LONGEST], weights[:LONGEST]


def _stacked(rows: list[Row]) -> Batch:
    length = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), length), bpe.END)
    weight = torch.zeros((len(rows), length))
    for i, (row, weights) in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        weight[i, : len(row)] = torch.tensor(weights)
    return Batch(ids, weight)


def batches(
    make: Callable[[random.Random], Dialogue], tokenizer: Tokenizer, seed: int, tokens: int
) -> Iterator[Batch]:
    """Endless batches of the dialogues that `make` makes, of about so many tokens."""
    rng = random.Random(seed)
    while True:
        pool = [encoded(make(rng), tokenizer) for _ in range(_POOL)]
        pool.sort(key=lambda row: len(row[0]))
        full: list[Batch] = []
        rows: list[Row] = []
        for row in pool:
            if rows and len(row[0]) * (len(rows) + 1) > tokens:
                full.append(_stacked(rows))
                rows = []
            rows.append(row)
        full.append(_stacked(rows))
        rng.shuffle(full)
        yield from full


def patterns(vocabulary: int, seed: int, tokens: int) -> Iterator[Batch]:
    """Endless batches of random tokens that come again: copying is all there is to learn.

    Half of the rows repeat one stretch of up to 64 tokens; in the others, stretches of several lengths come
    again out of order, so that only what they hold tells what follows. A stretch counts from its
    second time on.
    """
    rng = random.Random(seed)
    while True:
        length = rng.choice((96, 192, 384, 768))
        rows = []
        for _ in range(tokens // length):
            if rng.random() < 0.5:
                rows.append(_circle(rng, vocabulary, length, rng.randint(4, 64)))
            else:
                rows.append(_stretches(rng, vocabulary, length, rng.choice((6, 12, 32))))
        yield _stacked(rows)


def _circle(rng: random.Random, vocabulary: int, length: int, size: int) -> Row:
    circle = [rng.randrange(3, vocabulary) for _ in range(size)]
    ids = (circle * (length // size + 1))[:length]
    return ids, [float(i > size) for i in range(length)]


def _stretches(rng: random.Random, vocabulary: int, length: int, longest: int) -> Row:
    ids: list[int] = []
    weights: list[float] = []
    stretches: list[list[int]] = []
    while len(ids) < length:
        if stretches and rng.random() < 0.6:
            stretch = rng.choice(stretches)
            weights += [0.0] + [1.0] * (len(stretch) - 1)
        else:
            stretch = [rng.randrange(3, vocabulary) for _ in range(rng.randint(3, longest))]
            stretches.append(stretch)
            weights += [0.0] * len(stretch)
        ids += stretch
    return ids[:length], weights[:length]
