# SPDX-License-Identifier: Apache-2.0
"""Measure the exported model end to end: sentence, voice, real 8 kHz mu-law, int8 model, words.

Word error rates are pooled over a set; their 95 % interval comes from resampling utterances.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctranslate2  # type: ignore[import-untyped]
import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor  # type: ignore[import-untyped]
from numpy.typing import NDArray
from scipy.signal import resample_poly  # type: ignore[import-untyped]
from tokenizers import Tokenizer

from recipe.asr import nospeech
from recipe.asr.speakers import (
    FAVOURITES,
    HELD_OUT_ACCENTS,
    HELD_OUT_FLITE,
    SAMPLE_RATE,
    TRAIN_ACCENTS,
    TRAIN_FLITE,
    Speakers,
    Speech,
    variants,
)
from recipe.asr.synthesize import SHARD_SIZE, SHARDS, corpus, levelled, trimmed
from recipe.asr.texts import normalised, test_texts

Wave = NDArray[np.float32]
SEED = 99


def _mu_law_levels() -> NDArray[np.float64]:
    """The values that G.711 mu-law (ITU-T G.711, table 2) can express, in order, full scale 1."""
    half = [((2 * m + 33) << s) - 33 for s in range(8) for m in range(16)]
    return np.array([-v for v in half[:0:-1]] + half) / 8159


_LEVELS = _mu_law_levels()
_THRESHOLDS = (_LEVELS[1:] + _LEVELS[:-1]) / 2


def mu_law(wave: Wave) -> Wave:
    """16 kHz audio after a G.711 mu-law line: to 8 kHz, to 8 bits, and back."""
    narrow = np.clip(resample_poly(wave, 1, 2), -1, 1)
    coded = _LEVELS[np.searchsorted(_THRESHOLDS, narrow)]
    return np.asarray(resample_poly(coded, 2, 1), dtype=np.float32)


def noisy(wave: Wave, rng: np.random.Generator, below_db: float = 20.0) -> Wave:
    """The wave with white noise that many decibels below it, then a mu-law line."""
    level = float(np.sqrt(np.mean(wave**2))) * 10 ** (-below_db / 20)
    return mu_law((wave + rng.normal(0, level, len(wave))).astype(np.float32))


class Model:
    """The shipped model on windows as short as the clip, one thread, greedy."""

    def __init__(self, folder: Path) -> None:
        self.whisper = ctranslate2.models.Whisper(str(folder), intra_threads=1, inter_threads=1)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        settings = json.loads((folder / "preprocessor_config.json").read_text())
        self.extractor = FeatureExtractor(
            feature_size=settings["feature_size"], hop_length=settings["hop_length"]
        )
        names = ("<|startoftranscript|>", "<|notimestamps|>")
        self.prompt = [self.tokenizer.token_to_id(name) for name in names]

    def transcribe(self, wave: Wave) -> str:
        """The words in a 16 kHz clip."""
        features = np.ascontiguousarray(self.extractor(wave)[None, :, :3000], dtype=np.float32)
        result = self.whisper.generate(
            ctranslate2.StorageView.from_array(features), [self.prompt], beam_size=1, max_length=96
        )
        return str(self.tokenizer.decode(result[0].sequences_ids[0])).strip()


def word_errors(truth: str, heard: str) -> int:
    """Substitutions, deletions and insertions between two texts, on normalised words."""
    a, b = normalised(truth).split(), normalised(heard).split()
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1]


@dataclass
class Utterance:
    """A test sentence as a padded 16 kHz wave."""

    text: str
    voice: str
    wave: Wave


def _seen_voice(rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.3:
        return f"flite:{rng.choice(TRAIN_FLITE)}"
    if draw < 0.45:
        return f"espeak:{rng.choice(FAVOURITES)}"
    return f"espeak:{rng.choice(TRAIN_ACCENTS)}+{rng.choice(variants(held_out=False))}"


def _unseen_espeak(rng: random.Random) -> str:
    accent = rng.choice(HELD_OUT_ACCENTS if rng.random() < 0.5 else TRAIN_ACCENTS)
    return f"espeak:{accent}+{rng.choice(variants(held_out=True))}"


VOICES: dict[str, Callable[[random.Random], str]] = {
    "training_voices": _seen_voice,
    "demo_voice_en-us+f3": lambda rng: "espeak:en-us+f3",
    "demo_voice_flite_slt": lambda rng: "flite:slt",
    "unseen_espeak": _unseen_espeak,
    "unseen_flite_rms": lambda rng: f"flite:{rng.choice(HELD_OUT_FLITE)}",
}


def speak_set(
    speakers: Speakers, texts: list[str], choose: Callable[[random.Random], str], seed: int
) -> list[Utterance]:
    """One utterance a text, at moderate random rates, pitches and levels."""
    rng = random.Random(seed)
    out: list[Utterance] = []
    for text in texts:
        voice = choose(rng)
        flite = voice.startswith("flite:")
        rate = rng.uniform(0.85, 1.2) if flite else rng.uniform(135, 200)
        request = Speech(voice, text, rate, rng.randint(30, 70), rng.randint(30, 70))
        wave = levelled(trimmed(speakers.speak(request)), rng.uniform(0.1, 0.9))
        before, after = (int(rng.uniform(*span) * SAMPLE_RATE) for span in ((0.1, 0.3), (0.2, 0.5)))
        out.append(Utterance(text, voice, np.pad(wave, (before, after))))
    return out


def score(utterances: list[Utterance], hear: Callable[[Wave], str]) -> dict[str, Any]:
    """WER with its interval, the share of exact sentences, and seconds of work a clip."""
    errors, words, exact, spent = [], [], 0, []
    for utterance in utterances:
        began = time.perf_counter()
        heard = hear(utterance.wave)
        spent.append(time.perf_counter() - began)
        errors.append(word_errors(utterance.text, heard))
        words.append(len(normalised(utterance.text).split()))
        exact += errors[-1] == 0
    e, w = np.array(errors), np.array(words)
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(e), (2000, len(e)))
    low, high = np.percentile(e[picks].sum(axis=1) / w[picks].sum(axis=1), (2.5, 97.5))
    return {
        "n": len(e),
        "wer_percent": round(100 * float(e.sum() / w.sum()), 2),
        "ci95_percent": [round(100 * float(low), 2), round(100 * float(high), 2)],
        "sentences_exact_percent": round(100 * exact / len(e), 1),
        "p50_ms": round(1000 * float(np.median(spent)), 1),
    }


def hallucinations(model: Model, count: int) -> dict[str, Any]:
    """For each kind of sound without speech, the share of clips that got any word."""
    rng = np.random.default_rng(SEED)
    out: dict[str, Any] = {}
    for kind in nospeech.KINDS:
        heard = [
            model.transcribe(mu_law(nospeech.sound(kind, float(rng.uniform(0.3, 6)), rng)))
            for _ in range(count)
        ]
        wrong = [h for h in heard if normalised(h)]
        out[kind] = {"n": count, "with_words": len(wrong), "examples": wrong[:3]}
    return out


def unheard(candidates: list[str], trained: list[str], count: int) -> list[str]:
    """`count` of the candidates whose words stand in no trained utterance, not even as a part."""
    everything = " | ".join(f" {normalised(text)} " for text in trained)
    kept = [text for text in candidates if f" {normalised(text)} " not in everything]
    random.Random(SEED).shuffle(kept)
    return kept[:count]


def evaluate(folder: Path, work: Path, count: int) -> dict[str, Any]:
    """Everything the model card states."""
    model = Model(folder)
    speakers = Speakers(work / "espeak-ng-data" if (work / "espeak-ng-data").exists() else None)
    trained_texts = corpus(work)[: SHARDS * SHARD_SIZE]
    novel = unheard(test_texts(SEED, 2 * count), trained_texts, count)
    noise = np.random.default_rng(SEED)
    report: dict[str, Any] = {}
    for name, choose in VOICES.items():
        spoken = speak_set(speakers, novel, choose, SEED)
        report[name] = {
            "clean_16k": score(spoken, model.transcribe),
            "mu_law_8k": score(spoken, lambda w: model.transcribe(mu_law(w))),
            "mu_law_8k_noise_20db": score(spoken, lambda w: model.transcribe(noisy(w, noise))),
        }
        print(name, json.dumps(report[name]), flush=True)
    trained = random.Random(SEED).sample([t for t in trained_texts if " " in t], count)
    spoken = speak_set(speakers, trained, _seen_voice, SEED + 1)
    report["trained_sentences_training_voices"] = {
        "mu_law_8k": score(spoken, lambda w: model.transcribe(mu_law(w)))
    }
    report["no_speech_mu_law_8k"] = hallucinations(model, max(20, count // 6))
    return report


def main(argv: list[str] | None = None) -> None:
    """Evaluate a model folder and write `eval.json` into it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args(argv)
    report = evaluate(args.target, args.work, args.count)
    size = sum(f.stat().st_size for f in args.target.iterdir() if f.suffix in (".bin", ".json"))
    report["bytes"] = size
    (args.output or args.target / "eval.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
