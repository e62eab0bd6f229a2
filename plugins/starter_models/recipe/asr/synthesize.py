# SPDX-License-Identifier: Apache-2.0
"""Speak the training sentences once, in many voices, and keep them as shards of features.

A shard is an uncompressed `.npz`: `frames` (all utterances' packed mel frames end to end),
`starts` (where each begins), `texts`, `phonemes` and `voices`. Shards are numbered and each is
made from its number alone, so they can be made while training already reads the first ones.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recipe.asr import nospeech, voicebank
from recipe.asr.features import pack
from recipe.asr.speakers import (
    FAVOURITES,
    SAMPLE_RATE,
    TRAIN_ACCENTS,
    Speakers,
    Speech,
    data_path,
    variants,
)
from recipe.asr.texts import normalised, training_texts

SHARDS = 22
SHARD_SIZE = 2000
TEXTS = 72_000
NO_SPEECH_SHARE = 0.05
MADE_UP_SPEAKERS = 220  # espeak lists at most 350 voices, a hundred of which are its own
SEED = 20261
_MAX_SECONDS = 8.5

# (share, voices): what part of the training utterances each kind of voice speaks.
_FLITE_SHARES = {"slt": 0.12, "awb": 0.09, "kal16": 0.05, "kal": 0.04}
_FAVOURITE_SHARE = 0.12
_MADE_UP_SHARE = 0.30


def draw_voice(rng: random.Random, shipped: list[str], made_up: list[str]) -> str:
    """A training voice, by the shares above; the rest are espeak's shipped variants."""
    draw = rng.random()
    for name, share in _FLITE_SHARES.items():
        draw -= share
        if draw < 0:
            return f"flite:{name}"
    if draw < _FAVOURITE_SHARE:
        return f"espeak:{rng.choice(FAVOURITES)}"
    if draw < _FAVOURITE_SHARE + _MADE_UP_SHARE:
        return f"espeak:{rng.choice(TRAIN_ACCENTS)}+{rng.choice(made_up)}"
    return f"espeak:{rng.choice(TRAIN_ACCENTS)}+{rng.choice(shipped)}"


def request(voice: str, text: str, rng: random.Random) -> Speech:
    """The sentence in that voice at a random rate, pitch and liveliness."""
    if voice.startswith("flite:"):
        return Speech(voice, text, rng.uniform(0.8, 1.25), rng.randint(10, 90), rng.randint(10, 99))
    rate = min(230.0, max(120.0, rng.gauss(170, 22)))
    return Speech(voice, text, rate, rng.randint(20, 80), rng.randint(20, 85))


def trimmed(wave: NDArray[np.float32], margin: float = 0.02) -> NDArray[np.float32]:
    """The wave without the near-silence around the speech, keeping `margin` seconds."""
    block = SAMPLE_RATE // 100
    count = len(wave) // block
    if count == 0:
        return wave
    level = np.abs(wave[: count * block]).reshape(count, block).max(axis=1)
    loud = np.flatnonzero(level > 0.01 * level.max())
    if level.max() == 0 or len(loud) == 0:
        return wave[:0]
    pad = int(margin * SAMPLE_RATE)
    return wave[max(0, loud[0] * block - pad) : (loud[-1] + 1) * block + pad]


def levelled(wave: NDArray[np.float32], peak: float = 0.7) -> NDArray[np.float32]:
    """The wave scaled to a peak."""
    return np.asarray(wave * (peak / max(float(np.abs(wave).max()), 1e-6)), dtype=np.float32)


def make_shard(path: Path, number: int, texts: list[str], speakers: Speakers,
               made_up: list[str]) -> None:  # fmt: skip
    """Synthesize one shard and write it in one piece."""
    rng = random.Random(SEED * 1000 + number)
    numeric = np.random.default_rng(SEED * 1000 + number)
    shipped = variants(held_out=False)
    jobs = [(draw_voice(rng, shipped, made_up), text) for text in texts]
    jobs.sort(key=lambda job: job[0])  # changing the voice costs more than speaking
    rows: list[tuple[NDArray[np.uint8], str, str, str]] = []
    for voice, text in jobs:
        wave = trimmed(speakers.speak(request(voice, text, rng)))
        if 0.15 * SAMPLE_RATE < len(wave) < _MAX_SECONDS * SAMPLE_RATE:
            phonemes = " ".join(speakers.espeak.phonemes(text))
            rows.append((pack(levelled(wave)), text, phonemes, voice))
    for _ in range(int(NO_SPEECH_SHARE * len(texts))):
        kind = rng.choice(nospeech.KINDS)
        wave = nospeech.sound(kind, rng.uniform(0.3, 5), numeric)
        rows.append((pack(wave), "", "", f"nospeech:{kind}"))
    rng.shuffle(rows)
    lengths = [len(row[0]) for row in rows]
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez(
            file,
            frames=np.concatenate([row[0] for row in rows]),
            starts=np.concatenate([[0], np.cumsum(lengths)]),
            texts=np.array([row[1] for row in rows]),
            phonemes=np.array([row[2] for row in rows]),
            voices=np.array([row[3] for row in rows]),
        )
    partial.rename(path)


def shard_path(work: Path, number: int) -> Path:
    """Where a shard lies."""
    return work / "shards" / f"{number:03d}.npz"


def corpus(work: Path) -> list[str]:
    """The training texts in order, made on first use and kept in the work folder."""
    path = work / "texts.txt"
    if not path.exists():
        texts = training_texts(SEED, TEXTS)
        partial = path.with_suffix(".part")
        partial.write_text("\n".join(texts) + "\n")
        partial.rename(path)
    return path.read_text().splitlines()


def main(argv: list[str] | None = None) -> None:
    """Make the shards that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=SHARDS)
    args = parser.parse_args(argv)
    (args.work / "shards").mkdir(parents=True, exist_ok=True)
    texts = corpus(args.work)
    data = args.work / "espeak-ng-data"
    made_up = voicebank.build(data, data_path(), MADE_UP_SPEAKERS, SEED)
    speakers = Speakers(data)
    words = {word for text in texts for word in normalised(text).split()}
    print(f"{len(texts)} texts, {len(set(texts))} distinct, {len(words)} words", flush=True)
    for number in range(args.shards):
        path = shard_path(args.work, number)
        if not path.exists():
            part = texts[number * SHARD_SIZE : (number + 1) * SHARD_SIZE]
            make_shard(path, number, part, speakers, made_up)
            print(f"shard {number} written", flush=True)


if __name__ == "__main__":
    main()
