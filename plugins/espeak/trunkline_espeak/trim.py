# SPDX-License-Identifier: Apache-2.0
"""Cuts the silence around a stretch of speech while it streams. Pure."""

from __future__ import annotations

import numpy as np

from appliance.plugin import Pcm

THRESHOLD = 104
"""Samples up to this magnitude are silence: -50 dBFS of int16."""


class SilenceTrimmer:
    """Passes audio on without the silence before its first and after its last sound.

    Silence inside is held back until sound follows it, so nothing that was passed on need ever be
    taken back.

    Args:
        lead: samples of silence to keep before the first sound.
        tail: samples of silence to keep after the last one.
    """

    def __init__(self, lead: int, tail: int) -> None:
        self._lead = lead
        self._tail = tail
        self._held = np.zeros(0, np.int16)
        self._started = False
        self.skipped = 0
        """Samples cut from the beginning so far."""

    def push(self, pcm: Pcm) -> Pcm:
        """Add audio; return what can be passed on now."""
        sound = np.flatnonzero(np.abs(pcm.astype(np.int32)) > THRESHOLD)
        audio = np.concatenate([self._held, pcm])
        if not sound.size:
            if not self._started and audio.size > self._lead:
                self.skipped += audio.size - self._lead
                audio = audio[audio.size - self._lead :]
            self._held = audio
            return pcm[:0]
        if not self._started:
            self._started = True
            cut = max(0, self._held.size + int(sound[0]) - self._lead)
            self.skipped += cut
            audio = audio[cut:]
        end = audio.size - (pcm.size - int(sound[-1]) - 1)
        self._held = audio[end:]
        return audio[:end]

    def finish(self) -> Pcm:
        """Return the silence that is kept after the last sound."""
        return self._held[: self._tail] if self._started else self._held[:0]
