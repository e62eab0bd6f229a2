# SPDX-License-Identifier: Apache-2.0
"""Streaming sample rate conversion, by libsoxr.

libsoxr has two engines. Its fixed-rate one works in blocks: fed in real time it withholds up to
45 ms at 22.05 kHz and 118 ms at 8 kHz. Its variable-rate one, run here at a constant rate, is
equally clean (86 dB signal to noise) and withholds a constant 10 ms to 30 ms, so that is used.
Cost: 15 us to 20 us for 10 ms of audio.
"""

from __future__ import annotations

import numpy as np
import soxr

from appliance.audio.types import Pcm


class Resampler:
    """Converts one mono stream, chunk by chunk. Where chunks end does not change a bit of the output.

    Over a whole stream, `flush` included, the output has `round(samples in * to_rate / from_rate)`
    samples, give or take two, and is aligned with the input within 0.25 ms.

    Args:
        from_rate: Hz of what is fed.
        to_rate: Hz of what comes out.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        self.from_rate = from_rate
        self.to_rate = to_rate
        self._stream = None if from_rate == to_rate else self._new_stream()

    def _new_stream(self) -> soxr.ResampleStream:
        return soxr.ResampleStream(self.from_rate, self.to_rate, 1, "float32", "HQ", vr=True)

    def process(self, pcm: Pcm) -> Pcm:
        """Feed a chunk of any length; return what is ready, possibly nothing."""
        if self._stream is None:
            return pcm
        return self._run(self._stream, pcm, last=False)

    def flush(self) -> Pcm:
        """Return what was withheld. The next `process` begins a new stream."""
        if self._stream is None:
            return np.zeros(0, np.int16)
        tail = self._run(self._stream, np.zeros(0, np.int16), last=True)
        self._stream = self._new_stream()
        return tail

    @staticmethod
    def _run(stream: soxr.ResampleStream, pcm: Pcm, *, last: bool) -> Pcm:
        # in floats, since libsoxr dithers 16 bit output at random: the same in shall give the same out
        out = stream.resample_chunk(pcm.astype(np.float32), last=last)
        rounded: Pcm = np.rint(out).clip(-32768, 32767).astype(np.int16)
        return rounded


def resample(pcm: Pcm, from_rate: int, to_rate: int) -> Pcm:
    """Convert a whole recording at once."""
    resampler = Resampler(from_rate, to_rate)
    return np.concatenate([resampler.process(pcm), resampler.flush()])
