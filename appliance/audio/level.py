# SPDX-License-Identifier: Apache-2.0
"""How loud audio is, in dB relative to full scale (0 dBFS: a square wave at the largest sample)."""

from __future__ import annotations

import math

import numpy as np

from appliance.audio.types import Pcm

FULL_SCALE = 32768.0
FLOOR_DB = -120.0
"""What silence measures: below the quietest 16 bit signal."""


def rms_dbfs(pcm: Pcm) -> float:
    """Return the RMS level. A full-scale sine measures -3.01, silence `FLOOR_DB`."""
    if not pcm.size:
        return FLOOR_DB
    samples = pcm.astype(np.float64)
    return _dbfs(math.sqrt(float(np.dot(samples, samples)) / pcm.size))


def peak_dbfs(pcm: Pcm) -> float:
    """Return the level of the largest sample."""
    return _dbfs(float(np.abs(pcm.astype(np.int32)).max())) if pcm.size else FLOOR_DB


def _dbfs(amplitude: float) -> float:
    return max(FLOOR_DB, 20 * math.log10(amplitude / FULL_SCALE)) if amplitude else FLOOR_DB
