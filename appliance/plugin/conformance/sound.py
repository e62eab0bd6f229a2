# SPDX-License-Identifier: Apache-2.0
"""Audio to feed a provider with: silence, faint noise, and something that resembles speech.

The babble is no language: it has the pitch, formants and rhythm of speech, which is enough to see in
which order a recognizer answers, whoever trained it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from appliance.plugin.speech import Pcm

FRAME_S = 0.02


def silence(seconds: float, rate: int) -> Pcm:
    """Return digital silence."""
    return np.zeros(round(seconds * rate), np.int16)


def faint_noise(seconds: float, rate: int, *, seed: int = 1) -> Pcm:
    """Return white noise at -60 dBFS: a quiet line."""
    samples = np.random.default_rng(seed).normal(0.0, 32.768, round(seconds * rate))
    return samples.astype(np.int16)


def babble(seconds: float, rate: int, *, seed: int = 1) -> Pcm:
    """Return syllables of random vowels, about four a second, at -15 dBFS."""
    rng = np.random.default_rng(seed)
    total = round(seconds * rate)
    out = np.zeros(total)
    at = 0
    while at < total:
        length = min(round(rng.uniform(0.14, 0.26) * rate), total - at)
        out[at : at + length] = _vowel(length, rate, rng)
        at += length + round(rng.uniform(0.02, 0.08) * rate)
    peak = max(float(np.abs(out).max(initial=0.0)), 1e-9)
    return (out / peak * 8000).astype(np.int16)


def _vowel(
    length: int, rate: int, rng: np.random.Generator
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return harmonics of a falling pitch, weighted by three formants, with soft edges."""
    seconds = np.arange(length) / rate
    pitch = rng.uniform(100, 180) * (1 - 0.25 * seconds / max(float(seconds[-1]), 1e-6))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    formants = rng.uniform((300, 900, 2200), (800, 2100, 3000))
    wave = np.zeros(length)
    for harmonic in range(1, 30):
        hertz = harmonic * float(pitch.mean())
        if hertz > rate / 2.2:
            break
        weight = sum(float(np.exp(-(((hertz - f) / 160) ** 2))) for f in formants) + 0.02
        wave += weight * np.sin(harmonic * phase)
    return wave * np.sin(np.pi * np.linspace(0, 1, length)) ** 0.5


def frames(pcm: Pcm, rate: int) -> Iterator[Pcm]:
    """Cut audio into the 20 ms pieces in which it arrives."""
    step = round(FRAME_S * rate)
    for start in range(0, len(pcm), step):
        yield pcm[start : start + step]
