# SPDX-License-Identifier: Apache-2.0
"""G.711 companding (ITU-T G.711, 1988) by tables: one byte a sample, whole arrays at once.

    wire = g711.encode_ulaw(pcm)            # uint8, one octet a sample
    pcm = g711.decode_ulaw(wire)            # int16

The rate is the caller's matter (8 kHz on a telephone line). Negative samples are encoded by their
one's complement, as the reference code of ITU-T G.191 does, so that every code survives a round trip.
"""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from appliance.audio.types import Pcm

Octets: TypeAlias = NDArray[np.uint8]

_ULAW_BIAS = 33
_ALAW_TOGGLE = 0x55  # even bits are inverted on the line (G.711, note to table 1a)


def encode_ulaw(pcm: Pcm) -> Octets:
    """Return the mu-law octets of 16 bit samples."""
    return _encoder("ulaw")[pcm.view(np.uint16)]


def encode_alaw(pcm: Pcm) -> Octets:
    """Return the A-law octets of 16 bit samples."""
    return _encoder("alaw")[pcm.view(np.uint16)]


def decode_ulaw(octets: Octets | bytes) -> Pcm:
    """Return the 16 bit samples of mu-law octets."""
    return _decoder("ulaw")[_as_octets(octets)]


def decode_alaw(octets: Octets | bytes) -> Pcm:
    """Return the 16 bit samples of A-law octets."""
    return _decoder("alaw")[_as_octets(octets)]


def _as_octets(octets: Octets | bytes) -> Octets:
    return octets if isinstance(octets, np.ndarray) else np.frombuffer(octets, np.uint8)


@cache
def _encoder(law: str) -> Octets:
    """Return the octet of each sample, indexed by the sample's bits as uint16."""
    sample = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)
    magnitude = np.where(sample < 0, ~sample, sample)
    if law == "ulaw":
        biased = np.minimum((magnitude >> 2) + _ULAW_BIAS, 0x1FFF)  # 14 bit law, 8 segments
        segment = np.log2(biased).astype(np.int32) - 5
        code = segment << 4 | (biased >> (segment + 1)) & 15
        octet = ~np.where(sample < 0, code | 0x80, code) & 0xFF
    else:
        level = magnitude >> 4  # 13 bit law: 12 bits of magnitude
        segment = np.maximum(np.log2(np.maximum(level, 1)).astype(np.int32) - 3, 0)
        code = segment << 4 | (level >> np.maximum(segment - 1, 0)) & 15
        octet = np.where(sample < 0, code, code | 0x80) ^ _ALAW_TOGGLE
    table: Octets = octet.astype(np.uint8)
    return table


@cache
def _decoder(law: str) -> Pcm:
    """Return the sample of each octet."""
    octet = np.arange(256, dtype=np.int32)
    code = ~octet & 0xFF if law == "ulaw" else octet ^ _ALAW_TOGGLE
    segment, step = code >> 4 & 7, code & 15
    if law == "ulaw":
        magnitude = (((2 * step + _ULAW_BIAS) << segment) - _ULAW_BIAS) << 2
        negative = code >= 0x80
    else:
        inner = 2 * step + 1 + np.where(segment > 0, 32, 0)
        magnitude = (inner << np.maximum(segment - 1, 0)) << 3
        negative = code < 0x80
    return np.where(negative, -magnitude, magnitude).astype(np.int16)
