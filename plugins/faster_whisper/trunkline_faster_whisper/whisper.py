# SPDX-License-Identifier: Apache-2.0
"""The model: samples in, text out, in a batch. Synchronous; knows nothing of calls or streams.

faster-whisper's own `transcribe` pads every window to 30 s. CTranslate2 takes any length, and the time
of the encoder grows faster than the window, so a 3 s utterance in its own window costs a small part.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctranslate2  # type: ignore[import-untyped]
import numpy as np
from faster_whisper import WhisperModel  # type: ignore[import-untyped]
from faster_whisper.tokenizer import Tokenizer  # type: ignore[import-untyped]
from numpy.typing import NDArray

from appliance.plugin import (
    SAMPLE_RATE,
    ConfigurationError,
    InvalidRequestError,
    ModelNotFoundError,
    Pcm,
    UnavailableError,
)
from trunkline_faster_whisper.audio import loudest_dbfs
from trunkline_faster_whisper.settings import FasterWhisperSettings

_PUBLISHED_VOCABULARY = 51_864
"""Tokens of the smallest vocabulary of the Whisper models that OpenAI published."""

_WINDOW_STEP_S = 0.5
"""Windows are multiples of it where several utterances are computed together."""

_TOKENS_PER_S = 20
"""Bound of the text for a second of audio: twice the rate of fast speech in a small vocabulary."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """What to recognize: `pcm` at 16 kHz, at most 30 s; `language` a Whisper code, None to detect."""

    pcm: Pcm
    language: str | None = None
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recognized:
    """Text ("" when there are no words), its confidence 0..1, and the language where detected."""

    text: str
    confidence: float | None = None
    language: str | None = None


_NOTHING = Recognized("")


class Whisper:
    """A loaded model.

    Args:
        folder: model.bin, config.json, tokenizer.json, and preprocessor_config.json where the hop length or
            the number of mel bands is not the usual one.
        settings: see there.
        threads: utterances that may be computed at once on a CPU.
    """

    def __init__(self, folder: Path, settings: FasterWhisperSettings, threads: int) -> None:
        for name in ("model.bin", "config.json", "tokenizer.json"):
            if not (folder / name).is_file():
                raise ModelNotFoundError(
                    f"{folder} is not a Whisper model in CTranslate2 format: {name} is missing",
                    remedy="`trunkline models list` shows the models that are here",
                )
        try:
            self._model = WhisperModel(
                str(folder),
                device=settings.device,
                compute_type=settings.compute_type,
                cpu_threads=1,
                num_workers=threads,
                local_files_only=True,
            )
        except (ValueError, RuntimeError) as error:
            raise ConfigurationError(f"cannot load {folder}: {error}") from error
        except Exception as error:  # tokenizers raises a bare Exception for a damaged file
            raise ModelNotFoundError(f"{folder} is damaged: {error}") from error
        self._settings = settings
        self._suppressed = _suppressed_tokens(folder)
        vocabulary = self._model.hf_tokenizer.get_vocab_size()
        self._published = vocabulary >= _PUBLISHED_VOCABULARY
        self.multilingual: bool = self._model.model.is_multilingual
        self.uses_hints = (
            self._published if settings.use_hints is None else settings.use_hints
        ) and self._model.hf_tokenizer.token_to_id("<|startofprev|>") is not None
        window = settings.min_window_s or (5.0 if self._published else 1.0)
        self._min_samples = round(window * SAMPLE_RATE)
        on_gpu = self._model.model.device == "cuda"
        self.batch_size = settings.batch_size or (16 if on_gpu else 1)
        self._step = round(_WINDOW_STEP_S * SAMPLE_RATE) if self.batch_size > 1 else 1

    @property
    def languages(self) -> frozenset[str]:
        """Language codes that the model knows."""
        return frozenset(self._model.supported_languages)

    def language_code(self, tag: str | None) -> str | None:
        """Return Whisper's code for a BCP 47 tag; None means "detect".

        Raises:
            InvalidRequestError: the model does not know the language.
        """
        wanted = tag or self._settings.language
        if not wanted:
            return None if self.multilingual else "en"
        code = wanted.replace("_", "-").split("-")[0].lower()
        if code not in self.languages:
            raise InvalidRequestError(
                f"the model does not know the language {wanted!r}",
                remedy="name another language in the agent, or another model in the settings",
            )
        return code

    def shape(self, utterance: Utterance) -> tuple[int, tuple[str, ...]]:
        """Return what utterances need to have in common to be computed together: window and hints.

        The window, in samples, is as long as the speech and its padding, and no shorter than the minimum.
        """
        extractor = self._model.feature_extractor
        padding = round(self._settings.padding_s * SAMPLE_RATE)
        samples = max(len(utterance.pcm) + padding, self._min_samples)
        samples = -(-samples // self._step) * self._step
        window = min(samples, extractor.nb_max_frames * extractor.hop_length)
        return window, utterance.hints if self.uses_hints else ()

    def recognize(self, utterances: Sequence[Utterance]) -> list[Recognized]:
        """Recognize a batch of one shape; the results stand in the order of the arguments.

        Raises:
            UnavailableError: the engine failed.
        """
        results = [_NOTHING] * len(utterances)
        audible = [
            index
            for index, utterance in enumerate(utterances)
            if loudest_dbfs(utterance.pcm) >= self._settings.silence_dbfs
        ]
        if not audible:
            return results
        try:
            found = self._generate([utterances[index] for index in audible])
        except (RuntimeError, ValueError) as error:
            raise UnavailableError(f"the recognizer failed: {error}") from error
        for index, result in zip(audible, found, strict=True):
            results[index] = result
        return results

    def _generate(self, utterances: Sequence[Utterance]) -> list[Recognized]:
        window, hints = self._common_shape(utterances)
        encoded = self._model.model.encode(self._features(utterances, window))
        languages = [utterance.language for utterance in utterances]
        if None in languages:
            detected = self._model.model.detect_language(encoded)
            languages = [
                known or found[0][0].strip("<|>")
                for known, found in zip(languages, detected, strict=True)
            ]
        tokenizers = [
            Tokenizer(self._model.hf_tokenizer, self.multilingual, "transcribe", language)
            for language in languages
        ]
        window_s = window / SAMPLE_RATE
        bound = min(self._model.max_length // 2, 16 + round(_TOKENS_PER_S * window_s))
        outcomes = self._model.model.generate(
            encoded,
            self._prompts(tokenizers, hints),
            beam_size=1,
            max_length=2 * bound,  # CTranslate2 generates half of it
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=self._suppressed,
        )
        return [
            self._judge(outcome, tokenizer, language if utterance.language is None else None)
            for outcome, tokenizer, language, utterance in zip(
                outcomes, tokenizers, languages, utterances, strict=True
            )
        ]

    def _common_shape(self, utterances: Sequence[Utterance]) -> tuple[int, tuple[str, ...]]:
        shapes = {self.shape(utterance) for utterance in utterances}
        if len(shapes) > 1:
            raise ValueError(f"utterances of different shapes: {sorted(shapes)}")
        return shapes.pop()

    def _features(self, utterances: Sequence[Utterance], samples: int) -> ctranslate2.StorageView:
        extractor = self._model.feature_extractor
        mels: list[NDArray[np.float32]] = []
        for utterance in utterances:
            waveform = np.zeros(samples, np.float32)
            count = min(len(utterance.pcm), samples)
            np.multiply(utterance.pcm[:count], np.float32(1 / 32768), out=waveform[:count])
            mels.append(extractor(waveform, padding=extractor.hop_length))
        batch = np.ascontiguousarray(np.stack(mels)[..., : extractor.nb_max_frames], np.float32)
        return ctranslate2.StorageView.from_array(batch)

    def _prompts(self, tokenizers: Sequence[Tokenizer], hints: tuple[str, ...]) -> list[list[int]]:
        """Return the prompts; in all of them `<|startoftranscript|>` stands at the same index."""
        words = " " + ", ".join(hints)
        limit = self._model.max_length // 4
        return [
            ([tokenizer.sot_prev, *tokenizer.encode(words)[:limit]] if hints else [])
            + [*tokenizer.sot_sequence, tokenizer.no_timestamps]
            for tokenizer in tokenizers
        ]

    def _judge(self, outcome: Any, tokenizer: Tokenizer, language: str | None) -> Recognized:
        """Drop what the model invented: it was trained to write something about any sound."""
        settings = self._settings
        tokens = outcome.sequences_ids[0]
        mean_log_prob = outcome.scores[0] * len(tokens) / (len(tokens) + 1)
        text = tokenizer.decode(tokens).strip()
        unsure = (
            outcome.no_speech_prob >= settings.no_speech_threshold
            and mean_log_prob < settings.no_speech_log_prob
        )
        invented = mean_log_prob < settings.log_prob_threshold
        if (
            not text
            or unsure
            or invented
            or _compression(text) > settings.compression_ratio_threshold
        ):
            return _NOTHING
        return Recognized(text, min(1.0, math.exp(mean_log_prob)), language)

    def close(self) -> None:
        """Free the model's memory."""
        self._model.model.unload_model()


def _compression(text: str) -> float:
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def _suppressed_tokens(folder: Path) -> list[int]:
    """Return what the model's own config.json suppresses ([-1] stands for that in CTranslate2)."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    return [-1] if config.get("suppress_ids") else []
