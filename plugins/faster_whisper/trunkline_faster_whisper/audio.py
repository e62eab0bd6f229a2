# SPDX-License-Identifier: Apache-2.0
"""What is done to samples before the model sees them: level, and where to cut long audio."""

from __future__ import annotations

import math

import numpy as np

from appliance.plugin import Pcm

_BLOCK = 480  # 30 ms at 16 kHz: shorter than a syllable, longer than a pitch period


def loudest_dbfs(pcm: Pcm) -> float:
    """Return the level of the loudest 30 ms of `pcm`, in dB relative to a full-scale square wave."""
    power = _block_power(pcm)
    peak = float(power.max()) if power.size else 0.0
    return 10 * math.log10(peak / 32768**2) if peak > 0 else -math.inf


def quietest_point(pcm: Pcm, earliest: int, latest: int) -> int:
    """Return the sample between `earliest` and `latest` around which 210 ms are the quietest.

    Args:
        pcm: shape (samples,).
        earliest: first sample where a cut is allowed.
        latest: last such sample.
    """
    power = _block_power(pcm[earliest:latest])
    if power.size < 8:
        return latest
    smooth = np.convolve(power, np.ones(7), mode="valid")
    return earliest + (int(np.argmin(smooth)) + 3) * _BLOCK + _BLOCK // 2


def _block_power(pcm: Pcm) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    whole = pcm[: len(pcm) // _BLOCK * _BLOCK].astype(np.float64).reshape(-1, _BLOCK)
    if not whole.size and len(pcm):
        whole = pcm.astype(np.float64).reshape(1, -1)
    return np.asarray((whole**2).mean(axis=1) if whole.size else np.zeros(0))
