# SPDX-License-Identifier: Apache-2.0
"""Telephone tones: keypad digits, ringback, busy, a hold beep, comfort noise.

Levels are RMS dBFS of one frequency; lengths are milliseconds; everything comes at 16 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.audio.level import FULL_SCALE
from appliance.audio.types import SAMPLE_RATE, Pcm, silence

_ROWS = (697, 770, 852, 941)
_COLUMNS = (1209, 1336, 1477, 1633)
DTMF = {
    digit: (row, column)
    for row, digits in zip(_ROWS, ("123A", "456B", "789C", "*0#D"), strict=True)
    for column, digit in zip(_COLUMNS, digits, strict=True)
}
"""Digit to its two frequencies in Hz (ITU-T Q.23)."""

_FADE_MS = 5  # a tone that starts at once clicks


@dataclass(frozen=True, slots=True)
class Cadence:
    """A call progress tone: frequencies in Hz, and how long it sounds and pauses."""

    frequencies: tuple[int, ...]
    on_ms: int
    off_ms: int


RINGBACK_EUROPE = Cadence((425,), 1000, 4000)
"""ETSI TR 101 041-2."""
RINGBACK_US = Cadence((440, 480), 2000, 4000)
"""ITU-T E.180 supplement 2, North America."""
BUSY_EUROPE = Cadence((425,), 500, 500)
BUSY_US = Cadence((480, 620), 500, 500)
HOLD = Cadence((425,), 200, 10_000)
"""A short beep now and then tells a waiting caller that the line is up."""


def tone(frequencies: tuple[int, ...], ms: int, level_db: float = -19.0) -> Pcm:
    """Return sines added up, faded in and out over 5 ms."""
    at = np.arange(_samples(ms)) / SAMPLE_RATE
    amplitude = FULL_SCALE * np.sqrt(2) * 10 ** (level_db / 20)
    wave = amplitude * sum((np.sin(2 * np.pi * f * at) for f in frequencies), np.zeros(at.size))
    fade = min(_samples(_FADE_MS), at.size // 2)
    slope = np.linspace(0, 1, fade, endpoint=False)
    wave[:fade] *= slope
    wave[at.size - fade :] *= slope[::-1]
    return _pcm(wave)


def dtmf(digits: str, *, on_ms: int = 100, off_ms: int = 100, level_db: float = -13.0) -> Pcm:
    """Return keypad tones, each followed by a pause (ITU-T Q.24 wants 40 ms of each at least).

    Raises:
        ValueError: a character is no key (`0-9*#A-D`).
    """
    unknown = sorted(set(digits.upper()) - DTMF.keys())
    if unknown:
        raise ValueError(f"no such key: {', '.join(unknown)}; keys are 0-9 * # A-D")
    parts = [
        part
        for digit in digits.upper()
        for part in (tone(DTMF[digit], on_ms, level_db), silence(_samples(off_ms)))
    ]
    return np.concatenate(parts) if parts else silence(0)


def cadence(kind: Cadence, ms: int, level_db: float = -19.0) -> Pcm:
    """Return `ms` of a call progress tone with its pauses."""
    on = tone(kind.frequencies, kind.on_ms, level_db)
    period = np.concatenate([on, silence(_samples(kind.off_ms))])
    return np.resize(period, _samples(ms))


def comfort_noise(ms: int, level_db: float = -60.0, *, seed: int = 0) -> Pcm:
    """Return quiet noise, so that a silent line does not sound dead."""
    noise = np.random.default_rng(seed).standard_normal(_samples(ms))
    return _pcm(noise * FULL_SCALE * 10 ** (level_db / 20))


def _samples(ms: int) -> int:
    return ms * SAMPLE_RATE // 1000


def _pcm(wave: NDArray[np.float64]) -> Pcm:
    rounded: Pcm = np.rint(wave).clip(-32768, 32767).astype(np.int16)
    return rounded
