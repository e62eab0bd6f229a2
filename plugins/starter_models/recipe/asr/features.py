# SPDX-License-Identifier: Apache-2.0
"""Log-mel features: exactly what faster-whisper computes, and the dense form kept for training.

The recognizer sees 80 Slaney mel bins (0-8 kHz) of 25 ms windows every 15 ms. Training keeps
each utterance once, as log-mel power every 7.5 ms in one byte a value, so that a fresh speaker,
rate, line and noise can be drawn from it by interpolation each time it is used (`augment.py`).
"""

from __future__ import annotations

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor  # type: ignore[import-untyped]
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
N_FFT = 400
HOP = 240
DENSE_HOP = 120
MELS = 80
FLOOR_DB = -100.0
STEP_DB = 0.5  # one byte spans -100 dB..+27.5 dB

FILTERS: NDArray[np.float32] = FeatureExtractor.get_mel_filters(
    SAMPLE_RATE, N_FFT, n_mels=MELS
).astype(np.float32)
_WINDOW = np.hanning(N_FFT + 1)[:-1].astype(np.float32)


def mel_power(wave: NDArray[np.float32], hop: int = HOP) -> NDArray[np.float32]:
    """Mel power, shape (frames, 80), of a 16 kHz wave; frames = len(wave) // hop."""
    padded = np.pad(wave, N_FFT // 2, mode="reflect" if len(wave) > N_FFT else "constant")
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::hop]
    spectrum = np.fft.rfft(frames * _WINDOW, axis=1)[: len(wave) // hop]
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    return np.asarray(power @ FILTERS.T, dtype=np.float32)


def pack(wave: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The dense stored form, shape (frames, 80)."""
    db = 10 * np.log10(np.maximum(mel_power(wave, DENSE_HOP), 1e-10))
    return np.clip(np.rint((db - FLOOR_DB) / STEP_DB), 0, 255).astype(np.uint8)


def normalise(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Whisper's log compression of one clip's mel power: same shape, roughly -1..1."""
    log = np.log10(np.maximum(power, 1e-10))
    return np.asarray((np.maximum(log, log.max() - 8.0) + 4.0) / 4.0, dtype=np.float32)


def features(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the shipped model is fed for a 16 kHz wave: shape (80, frames)."""
    extractor = FeatureExtractor(feature_size=MELS, hop_length=HOP)
    return np.asarray(extractor(wave), dtype=np.float32)
