# SPDX-License-Identifier: GPL-3.0-or-later
"""One Piper voice: text to phoneme ids by `piper-tts`, ids to audio by our own ONNX session.

Blocking; the provider calls it in its worker thread.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]
from numpy.typing import NDArray
from piper import PiperConfig, PiperVoice

from appliance.plugin import ModelNotFoundError, Pcm, UnavailableError

_CALIBRATION = "Good morning, how can I help you today?"
_SILENCE = 0.003
"""-50 dBFS."""


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
            self._session = _session(model, threads)
        except Exception as error:
            message = f"the Piper voice {model} cannot be loaded: {error}"
            raise ModelNotFoundError(message, remedy="run: trunkline models verify") from error
        self._voice = PiperVoice(session=self._session, config=self.config)
        self._gain = 1.0
        self._gain = peak / self._loudness()

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
        audio = self._run(ids, scales, speaker, options) * (self._gain * 32_767)
        yield _trimmed(np.clip(audio, -32_767, 32_767).astype(np.int16), self.config.sample_rate)

    def _run(
        self, ids: list[int], scales: Scales, speaker: int | None, options: ort.RunOptions
    ) -> NDArray[np.float32]:
        feed = {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array([scales.noise, scales.length, scales.noise_w], np.float32),
        }
        if self.config.num_speakers > 1:
            chosen = self.config.default_speaker_id if speaker is None else speaker
            feed["sid"] = np.array([chosen], np.int64)
        try:
            (audio,) = self._session.run([self._session.get_outputs()[0].name], feed, options)
        except Exception as error:  # ONNX Runtime raises classes of its own without a common base
            raise UnavailableError(f"the Piper voice failed: {error}") from error
        return np.asarray(audio, np.float32).reshape(-1)

    def _loudness(self) -> float:
        """Return the peak of a calibration sentence; it warms the session up as well."""
        loudest = 0.0
        for ids in self.sentences(_CALIBRATION):
            audio = self._run(ids, self.default_scales(), None, ort.RunOptions())
            loudest = max(loudest, float(np.abs(audio).max(initial=0.0)))
        return loudest or 1.0


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


def _session(model: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _trimmed(pcm: Pcm, rate: int) -> Pcm:
    """Cut the silence around a sentence to 10 ms before and 20 ms after."""
    sound = np.flatnonzero(np.abs(pcm.astype(np.int32)) > _SILENCE * 32_768)
    if not sound.size:
        return pcm[:0]
    return pcm[max(0, int(sound[0]) - rate // 100) : int(sound[-1]) + 1 + rate // 50]
