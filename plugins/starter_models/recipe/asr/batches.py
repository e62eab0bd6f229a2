# SPDX-License-Identifier: Apache-2.0
"""Shards in, training batches out: fresh augmentation, similar lengths together."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from recipe.asr.augment import Augmenter
from recipe.asr.synthesize import shard_path
from recipe.asr.tokenizer import EOT, NO_SPEECH, NO_TIMESTAMPS, SOT, encode, token_id

FRAME_BUDGET = 24 * 192  # padded feature frames in a batch
_ROUND = 16  # few distinct shapes keep the kernels' caches warm
_POOL = 64  # batches drawn together and sorted by length
WHISPER_FRAMES = 3000


@dataclass
class Batch:
    """Tensors of one step. `labels` and `phonemes` are padded with -100 and 0."""

    features: torch.Tensor  # (batch, 80, frames) float32
    tokens: torch.Tensor  # (batch, length) int64
    labels: torch.Tensor  # (batch, length) int64
    phonemes: torch.Tensor  # (batch, length) int64
    phoneme_counts: torch.Tensor  # (batch,) int64; 0 for clips without speech
    spoken: torch.Tensor  # (batch,) int64: encoder frames up to the end of the clip


class Corpus:
    """The utterances of the shards opened so far."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.shards = 0
        self.frames: list[NDArray[np.uint8]] = []
        self.texts: list[str] = []
        self.phonemes: list[list[str]] = []
        self.voices: list[str] = []

    def open_up_to(self, count: int) -> None:
        """Read shards until `count` are open, waiting for those still being made."""
        while self.shards < count:
            path = shard_path(self.work, self.shards)
            while not path.exists():
                print(f"waiting for {path.name}", flush=True)
                time.sleep(5)
            with np.load(path) as shard:
                frames, starts = shard["frames"], shard["starts"]
                self.frames += [frames[a:b] for a, b in itertools.pairwise(starts)]
                self.texts += [str(t) for t in shard["texts"]]
                self.phonemes += [str(p).split() for p in shard["phonemes"]]
                self.voices += [str(v) for v in shard["voices"]]
            self.shards += 1


class Batcher:
    """Draws utterances by shuffled epochs over what is open."""

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, symbols: list[str], seed: int) -> None:
        self.corpus = corpus
        self.tokenizer = tokenizer
        self.symbol_ids = {symbol: n + 1 for n, symbol in enumerate(symbols)}  # 0 is the blank
        self.augment = Augmenter(seed)
        self.rng = np.random.default_rng(seed)
        self.order: list[int] = []
        self.eot, self.sot, self.no_speech, self.no_timestamps = (
            token_id(tokenizer, t) for t in (EOT, SOT, NO_SPEECH, NO_TIMESTAMPS)
        )

    def _draw(self, longest: int) -> int:
        while True:
            if not self.order:
                self.order = self.rng.permutation(len(self.corpus.frames)).tolist()
            index = self.order.pop()
            if len(self.corpus.frames[index]) <= longest:
                return index

    def pool(self, longest: int) -> Iterator[Batch]:
        """About `_POOL` batches of utterances of at most `longest` dense frames."""
        samples: list[tuple[NDArray[np.float32], int]] = []
        budget = _POOL * FRAME_BUDGET * 0.9
        while budget > 0:
            index = self._draw(longest)
            features = self.augment(self.corpus.frames[index])
            samples.append((features, index))
            budget -= len(features)
        samples.sort(key=lambda s: len(s[0]))
        groups: list[list[tuple[NDArray[np.float32], int]]] = []
        group: list[tuple[NDArray[np.float32], int]] = []
        for sample in samples:
            frames = self._padded(len(sample[0]))
            if group and frames * (len(group) + 1) > FRAME_BUDGET:
                groups.append(group)
                group = []
            group.append(sample)
        groups.append(group)
        self.rng.shuffle(groups)
        for group in groups:
            longest_here = max(len(s[0]) for s in group)
            yield self.batch(group, self._padded(longest_here + int(self.rng.integers(0, 24))))

    def whisper_batch(self, count: int, longest: int) -> Batch:
        """A few utterances padded to Whisper's own 3000 frames."""
        drawn = [self._draw(longest) for _ in range(count)]
        return self.batch([(self.augment(self.corpus.frames[i]), i) for i in drawn], WHISPER_FRAMES)

    @staticmethod
    def _padded(frames: int) -> int:
        return -(-frames // _ROUND) * _ROUND

    def batch(self, samples: list[tuple[NDArray[np.float32], int]], frames: int) -> Batch:
        """Put samples together; like faster-whisper's, the padding is zeros."""
        features = np.zeros((len(samples), frames, 80), np.float32)
        targets: list[list[int]] = []
        phonemes: list[list[int]] = []
        for row, (sample, index) in enumerate(samples):
            features[row, : len(sample)] = sample
            ids = encode(self.tokenizer, self.corpus.texts[index])
            first = self.no_timestamps if ids else self.no_speech
            targets.append([first, *ids, self.eot])
            spelled = self.corpus.phonemes[index]
            phonemes.append([self.symbol_ids[p] for p in spelled if p in self.symbol_ids])
        length = -(-max(map(len, targets)) // 4) * 4
        labels = torch.full((len(samples), length), -100)
        tokens = torch.full((len(samples), length), self.eot)
        symbols = torch.zeros((len(samples), max(1, *map(len, phonemes))), dtype=torch.long)
        for row, (target, symbol_row) in enumerate(zip(targets, phonemes, strict=True)):
            labels[row, : len(target)] = torch.tensor(target)
            prompt = [self.sot, self.no_timestamps, *target[1:-1]]
            tokens[row, : len(prompt)] = torch.tensor(prompt)
            symbols[row, : len(symbol_row)] = torch.tensor(symbol_row, dtype=torch.long)
        return Batch(
            torch.from_numpy(features).transpose(1, 2),
            tokens,
            labels,
            symbols,
            torch.tensor([len(p) for p in phonemes]),
            torch.tensor([-(-len(s[0]) // 2) for s in samples]),
        )
