# SPDX-License-Identifier: Apache-2.0
"""RIFF WAVE files of 16 bit PCM: the header, and reading a file as telephone audio."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np

from appliance.audio.resample import resample
from appliance.audio.types import SAMPLE_RATE, Pcm

HEADER_BYTES = 44
MAX_DATA_BYTES = 2**32 - 1 - HEADER_BYTES
"""The format counts bytes in 32 bits: 18 hours in stereo at 16 kHz."""


def header(channels: int, rate: int, data_bytes: int) -> bytes:
    """Return the 44 bytes that stand before `data_bytes` of interleaved 16 bit samples."""
    block = channels * 2
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        HEADER_BYTES - 8 + data_bytes,
        b"WAVE",
        b"fmt ",
        16,
        1,  # integer PCM
        channels,
        rate,
        rate * block,
        block,
        16,
        b"data",
        data_bytes,
    )


def read_mono(path: Path, rate: int = SAMPLE_RATE) -> Pcm:
    """Return a 16 bit WAV file as mono at `rate` Hz; channels are averaged.

    Raises:
        ValueError: the file is no WAV, or not 16 bit PCM.
        OSError: it cannot be read.
    """
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2:
                bits = 8 * file.getsampwidth()
                raise ValueError(f"{path} has {bits} bit samples; convert it to 16")
            channels, own_rate = file.getnchannels(), file.getframerate()
            raw = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path} is not a PCM WAV file: {error}") from error
    mono: Pcm = raw.reshape(-1, channels).mean(axis=1).round().astype(np.int16)
    return resample(mono, own_rate, rate)


def write(path: Path, pcm: Pcm, rate: int = SAMPLE_RATE) -> None:
    """Write samples of shape (n,) or (n, channels).

    Raises:
        OSError: it cannot be written.
    """
    channels = 1 if pcm.ndim == 1 else pcm.shape[1]
    data = pcm.astype("<i2").tobytes()
    path.write_bytes(header(channels, rate, len(data)) + data)
