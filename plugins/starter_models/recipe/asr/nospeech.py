# SPDX-License-Identifier: Apache-2.0
"""Sounds that are not speech: what a recognizer must answer with nothing at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt  # type: ignore[import-untyped]

RATE = 16_000
KINDS = ("silence", "noise", "tone", "keys", "ring", "music", "breath", "clicks", "hum")

Array = NDArray[np.float32]
_Rng = np.random.Generator
_DTMF = ((697, 770, 852, 941), (1209, 1336, 1477, 1633))


def _envelope(count: int, rng: _Rng, points: int, low: float = 0.0) -> Array:
    nodes = rng.uniform(low, 1, points)
    return np.interp(np.arange(count), np.linspace(0, count, points), nodes).astype(np.float32)


def _coloured(count: int, rng: _Rng) -> Array:
    spectrum = np.fft.rfft(rng.standard_normal(count))
    hz = np.maximum(np.fft.rfftfreq(count, 1 / RATE), 50)
    return np.fft.irfft(spectrum * (hz / 1000) ** -rng.uniform(-0.3, 1.2), count).astype(np.float32)


def _band(wave: Array, low: float, high: float) -> Array:
    out = sosfilt(butter(2, (low, high), "bandpass", fs=RATE, output="sos"), wave)
    return np.asarray(out, dtype=np.float32)


def _time(count: int) -> NDArray[np.float64]:
    return np.arange(count) / RATE


def _note(hz: float, count: int, rng: _Rng) -> NDArray[np.float64]:
    t = _time(count)
    wave = sum(np.sin(2 * np.pi * hz * k * t) * rng.uniform(0.2, 1) / k for k in range(1, 6))
    return np.asarray(wave * np.exp(-t * rng.uniform(0.3, 5)))


def _music(count: int, rng: _Rng) -> Array:
    out = np.zeros(count)
    beat = int(RATE * rng.uniform(0.12, 0.6))
    root = rng.uniform(110, 330)
    scale = (0, 2, 4, 5, 7, 9, 11, 12, 16, 19)
    for start in range(0, count, beat):
        for _ in range(int(rng.integers(1, 4))):
            length = min(count - start, int(beat * rng.uniform(0.8, 3)))
            hz = root * 2 ** (scale[int(rng.integers(0, len(scale)))] / 12)
            out[start : start + length] += _note(hz, length, rng)
    return out.astype(np.float32)


def _gated(wave: NDArray[np.float64], rng: _Rng, on: float, off: float) -> Array:
    t = (_time(len(wave)) + rng.uniform(0, on + off)) % (on + off)
    return (wave * (t < on)).astype(np.float32)


def _keys(count: int, rng: _Rng) -> Array:
    t = _time(count)
    length = int(RATE * rng.uniform(0.08, 0.4))
    out = np.zeros(count, np.float32)
    for start in range(0, count, 2 * length):
        low, high = (rng.choice(side) for side in _DTMF)
        pair = np.sin(2 * np.pi * low * t) + np.sin(2 * np.pi * high * t)
        out[start : start + length] = pair[start : start + length]
    return out


def _clicks(count: int, rng: _Rng) -> Array:
    out = np.zeros(count, np.float32)
    for start in rng.integers(0, count - 400, int(rng.integers(1, 8))):
        length = int(rng.integers(20, 400))
        out[start : start + length] += rng.standard_normal(length) * np.exp(
            -np.arange(length) / (length / 4)
        )
    return out


def _breath(count: int, rng: _Rng) -> Array:
    out = np.zeros(count, np.float32)
    low = rng.uniform(200, 900)
    noise = _band(_coloured(count, rng), low, low + rng.uniform(800, 4000))
    length = min(count, int(RATE * rng.uniform(0.15, 1.0)))
    start = int(rng.integers(0, count - length + 1))
    window = np.hanning(length) ** rng.uniform(0.3, 1.5)
    out[start : start + length] = noise[start : start + length] * window
    return out


def sound(kind: str, seconds: float, rng: _Rng) -> Array:
    """A 16 kHz clip of one of `KINDS`, peak at most 0.9."""
    count = int(RATE * seconds)
    t = _time(count)
    if kind == "silence":
        wave = np.zeros(count, np.float32)
        return (
            wave if rng.random() < 0.5 else (wave + rng.normal(0, 1e-4, count)).astype(np.float32)
        )
    if kind == "noise":
        wave = _coloured(count, rng) * _envelope(count, rng, int(rng.integers(2, 12)), 0.1)
    elif kind == "tone":
        sweep = rng.uniform(-200, 200) if rng.random() < 0.4 else 0.0
        wave = np.sin(2 * np.pi * (rng.uniform(150, 2500) * t + sweep * t**2)).astype(np.float32)
    elif kind == "keys":
        wave = _keys(count, rng)
    elif kind == "ring":
        low, high = ((400, 450), (440, 480), (480, 620), (350, 440), (425, 425))[rng.integers(0, 5)]
        pair = np.sin(2 * np.pi * low * t) + np.sin(2 * np.pi * high * t)
        wave = _gated(pair, rng, rng.uniform(0.2, 2), rng.uniform(0.2, 2))
    elif kind == "music":
        wave = _music(count, rng)
    elif kind == "breath":
        wave = _breath(count, rng)
    elif kind == "clicks":
        wave = _clicks(count, rng)
    elif kind == "hum":
        hz = rng.choice((50.0, 60.0, 100.0, 120.0))
        wave = sum(
            (np.sin(2 * np.pi * hz * k * t) * rng.uniform(0, 1) for k in range(1, 9)),
            start=rng.normal(0, 0.05, count),
        ).astype(np.float32)
    else:
        raise ValueError(f"unknown kind of sound {kind!r}; one of {', '.join(KINDS)}")
    peak = float(np.abs(wave).max())
    return np.asarray(wave / max(peak, 1e-6) * rng.uniform(0.02, 0.9), dtype=np.float32)
