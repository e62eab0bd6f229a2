# SPDX-License-Identifier: GPL-3.0-or-later
"""One Piper voice: text to phoneme ids by `piper-tts`, ids to audio by our own ONNX sessions.

Blocking; the provider calls it in its worker thread.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]
from numpy.typing import NDArray
from piper import PiperConfig, PiperVoice

from appliance.plugin import ModelNotFoundError, Pcm
from trunkline_piper.graph import Feed, VoiceGraph, load

_CALIBRATION = "Good morning, how can I help you today?"
_SILENCE = 98
"""-50 dBFS of int16."""


@dataclass(frozen=True, slots=True)
class Scales:
    """The three numbers a Piper graph takes."""

    noise: float
    length: float
    noise_w: float


class PiperEngine:
    """A loaded voice.

    Args:
        path: the `.onnx` file, with `NAME.onnx.json` beside it, or a folder with one such pair.
        threads: compute threads of the session.
        peak: the loudest sample of ordinary speech, as a part of full scale.

    Raises:
        ModelNotFoundError: missing or damaged.
    """

    def __init__(self, path: Path, threads: int, peak: float) -> None:
        model = _find(path)
        config_path = model.with_name(model.name + ".json")
        try:
            self.config = PiperConfig.from_dict(json.loads(config_path.read_text(encoding="utf-8")))
            # Of PiperVoice only the way from text to ids is used, which needs no session.
            self._voice = PiperVoice(session=None, config=self.config)
            said = self.sentences(_CALIBRATION)
            probe = said[0] if said else self._voice.phonemes_to_ids([])
            feed = self._feed(probe, self.default_scales(), None)
            self.graph: VoiceGraph = load(model, threads, self.config.sample_rate, feed)
            loudest = max((self._loudness(ids) for ids in said), default=1.0)
        except Exception as error:
            message = f"the Piper voice {model} cannot be loaded: {error}"
            raise ModelNotFoundError(message, remedy="run: trunkline models verify") from error
        self._gain = peak / (loudest or 1.0)

    def sentences(self, text: str) -> list[list[int]]:
        """Return the phoneme ids of each sentence of `text` that has something to say."""
        if not any(character.isalnum() for character in text):
            return []  # espeak would read the punctuation aloud
        phonemes = self._voice.phonemize(text)
        return [
            self._voice.phonemes_to_ids(sentence)
            for sentence in phonemes
            if any(phoneme.isalnum() for phoneme in sentence)
        ]

    def default_scales(self) -> Scales:
        """Return the voice's own scales."""
        return Scales(self.config.noise_scale, self.config.length_scale, self.config.noise_w_scale)

    def render(
        self, ids: list[int], scales: Scales, speaker: int | None, options: ort.RunOptions
    ) -> Iterator[Pcm]:
        """Synthesize one sentence, in as many pieces as the graph can give: a whole graph gives one.

        Raises:
            UnavailableError: the run failed, or `options.terminate` ended it.
        """
        scale = self._gain * 32_767
        audio = self.graph.run(self._feed(ids, scales, speaker), options)
        return trimmed(
            (np.clip(piece * scale, -32_767, 32_767).astype(np.int16) for piece in audio),
            lead=self.config.sample_rate // 100,
            tail=self.config.sample_rate // 50,
        )

    def _feed(self, ids: list[int], scales: Scales, speaker: int | None) -> Feed:
        feed: dict[str, NDArray[Any]] = {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array([scales.noise, scales.length, scales.noise_w], np.float32),
        }
        if self.config.num_speakers > 1:
            chosen = self.config.default_speaker_id if speaker is None else speaker
            feed["sid"] = np.array([chosen], np.int64)
        return feed

    def _loudness(self, ids: list[int]) -> float:
        """Return the peak of a sentence; it warms the sessions up as well."""
        feed = self._feed(ids, self.default_scales(), None)
        return max(
            float(np.abs(piece).max(initial=0)) for piece in self.graph.run(feed, ort.RunOptions())
        )


def _find(path: Path) -> Path:
    if path.is_dir():
        found = sorted(path.glob("*.onnx"))
        if len(found) != 1:
            message = f"{path} holds {len(found)} .onnx files; a voice folder holds one"
            raise ModelNotFoundError(message, remedy="name the file itself in `model`")
        path = found[0]
    for file in (path, path.with_name(path.name + ".json")):
        if not file.is_file():
            message = f"the Piper voice file {file} is missing"
            raise ModelNotFoundError(message, remedy="run: trunkline models pull standard")
    return path


def trimmed(audio: Iterable[Pcm], lead: int, tail: int) -> Iterator[Pcm]:
    """Pass pieces on without the silence around them; silence inside waits for the sound after it.

    Args:
        audio: pieces of one sentence.
        lead: samples of silence to keep before the first sound.
        tail: samples of silence to keep after the last one.
    """
    held = np.zeros(0, np.int16)  # silence that is not passed on yet
    kept = -1  # samples of silence that were, since the last sound; -1 before the first
    for piece in audio:
        joined = np.concatenate([held, piece])
        sound = np.flatnonzero(np.abs(joined.astype(np.int32)) > _SILENCE)
        if not sound.size:
            held = joined if kept >= 0 else joined[max(0, joined.size - lead) :]
            continue
        start = 0 if kept >= 0 else max(0, int(sound[0]) - lead)
        last = int(sound[-1]) + 1
        end = min(joined.size, last + tail)
        held, kept = joined[end:], end - last
        yield joined[start:end]
    if 0 <= kept < tail and held.size:
        yield held[: tail - kept]
