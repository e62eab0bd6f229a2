# SPDX-License-Identifier: Apache-2.0
"""A fresh speaker, rate, room, line and noise for a stored utterance, each time it is used.

Everything happens on mel power, where it is cheap: the vocal tract is an interpolation along
frequency, the speaking rate one along time, the telephone a gain curve, noise an addition. The
evaluation goes through real 8 kHz mu-law audio, so these shortcuts are judged by it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter  # type: ignore[import-untyped]

from recipe.asr.features import (
    FILTERS,
    FLOOR_DB,
    HOP,
    MELS,
    N_FFT,
    SAMPLE_RATE,
    STEP_DB,
    mel_power,
    normalise,
)

Array = NDArray[np.float32]

FRAMES_PER_SECOND = SAMPLE_RATE / HOP
_HZ = (FILTERS @ np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1).astype(np.float32)) / np.maximum(
    FILTERS.sum(axis=1), 1e-9
)
_WARPS = np.round(np.linspace(0.88, 1.16, 29), 3)


def _warp_matrix(factor: float) -> Array:
    """Interpolation (80, 80): column k reads the spectrum at `_HZ[k] / factor`."""
    at = np.interp(_HZ / factor, _HZ, np.arange(MELS))
    low = np.minimum(at.astype(int), MELS - 2)
    share = at - low
    matrix = np.zeros((MELS, MELS), np.float32)
    columns = np.arange(MELS)
    matrix[low, columns] = 1 - share
    matrix[low + 1, columns] += share
    return matrix


class Augmenter:
    """Draws random versions of stored utterances. Holds its own generator: one per run."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self._matrices = [_warp_matrix(float(f)) for f in _WARPS]
        white = self.rng.standard_normal(HOP * 12_000).astype(np.float32)
        self._noise = mel_power(white)
        self._noise /= self._noise.mean(axis=0)
        self._octaves = np.log2(np.maximum(_HZ, 60.0) / 1000.0).astype(np.float32)

    def _curve(self, tilt: float, ripple: float) -> Array:
        """A smooth random gain over frequency, in dB, shape (80,)."""
        nodes = self.rng.normal(0, ripple, 6)
        smooth = np.interp(np.arange(MELS), np.linspace(0, MELS - 1, 6), nodes)
        curve = self._octaves * self.rng.normal(0, tilt) + smooth
        return np.asarray(curve, dtype=np.float32)

    def _telephone(self) -> Array:
        """Gain of a telephone line in dB, shape (80,): what a 300-3400 Hz channel lets through."""
        rng = self.rng
        top = rng.uniform(3300, 3950)
        gain = -rng.uniform(45, 100) * np.clip((_HZ - top) / rng.uniform(120, 400), 0, 1)
        if rng.random() < 0.5:
            bottom = rng.uniform(120, 350)
            gain -= rng.uniform(8, 30) * np.clip(np.log2(bottom / np.maximum(_HZ, 20)), 0, 2)
        return np.asarray(gain, dtype=np.float32)

    def _noise_like(self, frames: int) -> Array:
        start = int(self.rng.integers(0, len(self._noise) - frames))
        return self._noise[start : start + frames]

    def _stretched(self, dense: NDArray[np.uint8], rate: float) -> Array:
        """Every 15 ms of speech at another rate and, at times, with its start cut; in dB."""
        rng = self.rng
        start = rng.uniform(0, 2)
        if rng.random() < 0.15:
            start += rng.uniform(0, 6)
        at = np.rint(np.arange(start, len(dense) - 0.5, 2 * rate)).astype(int)
        kept = dense[np.minimum(at, len(dense) - 1)].astype(np.float32)
        return np.asarray(kept * STEP_DB + FLOOR_DB, dtype=np.float32)

    def __call__(self, dense: NDArray[np.uint8], mask: bool = True) -> Array:
        """One random version of an utterance: normalised features, shape (frames, 80)."""
        rng = self.rng
        db = self._stretched(dense, rng.uniform(0.9, 1.12))
        if rng.random() < 0.5:
            db = db @ self._matrices[int(rng.integers(0, len(self._matrices)))]
        line = self._telephone() if rng.random() < 0.85 else np.zeros(MELS, np.float32)
        db = db + self._curve(1.5, 2.0) + rng.uniform(-24, 4)
        power = np.power(np.float32(10), db / 10, dtype=np.float32)
        lead, trail = (int(s * FRAMES_PER_SECOND) for s in rng.uniform(0.03, (0.45, 0.45)))
        if rng.random() < 0.1:
            lead = 0
        power = np.pad(power, ((lead, trail), (0, 0)))
        if rng.random() < 0.2:
            decay = rng.uniform(0.4, 0.85)
            tail = lfilter([0, 1], [1, -decay], power, axis=0).astype(np.float32)
            power = power + np.float32(rng.uniform(0.02, 0.2) * (1 - decay)) * tail
        power = self._with_noise(power) * np.power(np.float32(10), line / 10)
        power = self._coded(power)
        if rng.random() < 0.5:  # a window is filled up with digital silence behind the audio
            power = np.pad(power, ((0, int(rng.uniform(0, 0.6) * FRAMES_PER_SECOND)), (0, 0)))
        out = normalise(power)
        return self._masked(out) if mask else out

    def _with_noise(self, power: Array) -> Array:
        """Background noise of random colour, steady or swelling, 14-48 dB below the speech."""
        rng = self.rng
        if rng.random() < 0.45:
            return power
        level = np.sort(power.sum(axis=1))[-max(1, len(power) // 4) :].mean()
        colour = np.power(10.0, self._curve(3.0, 3.0) / 10)
        below = rng.uniform(14, 48)
        noise = self._noise_like(len(power)) * (
            colour / colour.sum() * max(level, 1e-6) * 10 ** (-below / 10)
        )
        if rng.random() < 0.3:
            swell = np.exp(np.interp(
                np.arange(len(power)), np.linspace(0, len(power), 8), rng.normal(0, 0.8, 8)
            ))  # fmt: skip
            noise = noise * swell[:, None]
        return np.asarray(power + noise, dtype=np.float32)

    def _coded(self, power: Array) -> Array:
        """The noise that companding adds: 38 dB below each frame's own level, up to 4 kHz."""
        rng = self.rng
        if rng.random() < 0.2:
            return power
        audible = (_HZ < 4000).astype(np.float32)
        share = audible * np.float32(10 ** (-rng.uniform(34, 42) / 10) / audible.sum())
        line_noise = rng.random() < 0.4
        floor = audible * np.float32(10 ** rng.uniform(-9.5, -5.5) if line_noise else 0.0)
        noise = self._noise_like(len(power))
        noise = noise * (power.sum(axis=1, keepdims=True) * share + floor)
        return np.asarray(power + noise, dtype=np.float32)

    def _masked(self, features: Array) -> Array:
        rng = self.rng
        frames = len(features)
        if rng.random() < 0.15:
            width = int(rng.integers(1, 6))
            start = int(rng.integers(0, max(1, frames - width)))
            features[start : start + width] = features.mean()
        if rng.random() < 0.15:
            width = int(rng.integers(1, 9))
            start = int(rng.integers(0, MELS - width))
            features[:, start : start + width] = features.mean()
        return features
