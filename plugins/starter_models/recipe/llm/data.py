# SPDX-License-Identifier: Apache-2.0
"""Batches: fresh random dialogues of like length together, and repeated random patterns."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from recipe.llm import tokenizer as bpe
from recipe.llm.chat import rendered
from recipe.llm.conversation import random_dialogue
from recipe.llm.dialogue import Dialogue

LONGEST = 1024
_POOL = 96  # dialogues sorted by length at a time


@dataclass
class Batch:
    """Token ids (rows, length) and which of them are to be predicted, same shape."""

    ids: Tensor
    learn: Tensor


def encoded(dialogue: Dialogue, tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    """The dialogue's tokens, and which of them the model is to learn."""
    ids: list[int] = []
    learn: list[bool] = []
    for text, wanted in rendered(dialogue):
        piece = tokenizer.encode(text, add_special_tokens=False).ids
        ids += piece
        learn += [wanted] * len(piece)
    return ids[:LONGEST], learn[:LONGEST]


def _stacked(rows: list[tuple[list[int], list[bool]]]) -> Batch:
    length = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), length), bpe.END)
    learn = torch.zeros((len(rows), length), dtype=torch.bool)
    for i, (row, wanted) in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        learn[i, : len(row)] = torch.tensor(wanted)
    return Batch(ids, learn)


def dialogues(tokenizer: Tokenizer, seed: int, tokens: int) -> Iterator[Batch]:
    """Endless batches of random dialogues, of about so many tokens."""
    return batches(random_dialogue, tokenizer, seed, tokens)


def batches(
    make: Callable[[random.Random], Dialogue], tokenizer: Tokenizer, seed: int, tokens: int
) -> Iterator[Batch]:
    """Endless batches of the dialogues that `make` makes, of about so many tokens."""
    rng = random.Random(seed)
    while True:
        pool = [encoded(make(rng), tokenizer) for _ in range(_POOL)]
        pool.sort(key=lambda row: len(row[0]))
        full: list[Batch] = []
        rows: list[tuple[list[int], list[bool]]] = []
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

    Most rows go round in short circles, of 2 to 10 tokens at first and up to 30 in time; in the
    others, stretches come again out of order. A stretch is learned from its second time on.
    """
    rng = random.Random(seed)
    length, made = 96, 0
    while True:
        rows = []
        for _ in range(tokens // length):
            circle = rng.random() < 0.7
            rows.append((_circles if circle else _stretches)(rng, vocabulary, length, made))
            made += 1
        yield _stacked(rows)


def _circles(
    rng: random.Random, vocabulary: int, length: int, made: int
) -> tuple[list[int], list[bool]]:
    ids: list[int] = []
    learn: list[bool] = []
    while len(ids) < length:
        size = rng.randint(2, 10 if made < 4000 else 30)
        circle = [rng.randrange(3, vocabulary) for _ in range(size)]
        rounds = rng.randint(3, 8)
        ids += circle * rounds
        learn += [False] * (size + 1) + [True] * (size * (rounds - 1) - 1)
    return ids[:length], learn[:length]


def _stretches(
    rng: random.Random, vocabulary: int, length: int, made: int
) -> tuple[list[int], list[bool]]:
    ids: list[int] = []
    learn: list[bool] = []
    stretches: list[list[int]] = []
    longest = rng.choice((6, 12) if made < 4000 else (6, 12, 30))
    while len(ids) < length:
        if stretches and rng.random() < 0.6:
            stretch = rng.choice(stretches)
            learn += [False] + [True] * (len(stretch) - 1)
        else:
            stretch = [rng.randrange(3, vocabulary) for _ in range(rng.randint(3, longest))]
            stretches.append(stretch)
            learn += [False] * len(stretch)
        ids += stretch
    return ids[:length], learn[:length]
