# SPDX-License-Identifier: Apache-2.0
"""The one shape of audio in the box."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pcm: TypeAlias = NDArray[np.int16]
"""Mono signed 16 bit samples, shape (samples,)."""

SAMPLE_RATE = 16_000
"""Hz, of all audio between transport and providers."""


def silence(samples: int) -> Pcm:
    """Return `samples` zeros."""
    return np.zeros(samples, np.int16)
