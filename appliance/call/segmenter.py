# SPDX-License-Identifier: Apache-2.0
"""Turns voice activity scores into "speech started" and "speech ended". Pure."""

from __future__ import annotations

from appliance.call.inputs import SpeechStarted, SpeechStopped, SpeechSuspected
from appliance.call.timing import TurnTaking


class Segmenter:
    """Hysteresis over the scores of one call.

    Args:
        timing: thresholds and durations.
        window_ms: length of one scored window.
    """

    def __init__(self, timing: TurnTaking, window_ms: int) -> None:
        self._timing = timing
        self._window = window_ms
        self._speaking = False
        self._run_ms = 0  # of speech while silent, of silence while speaking
        self._since_ms = 0
        self._pause_ends_ms = 0  # until then a sound may mean that the turn is not over

    @property
    def speaking(self) -> bool:
        """Whether the caller is in speech."""
        return self._speaking

    def push(
        self, score: float, end_ms: int
    ) -> SpeechStarted | SpeechStopped | SpeechSuspected | None:
        """Take the score of the window that ended at `end_ms` of media time."""
        contrary = (
            score < self._timing.silence_threshold
            if self._speaking
            else score >= self._timing.speech_threshold
        )
        if not contrary:
            self._run_ms = 0
            return None
        if self._run_ms == 0:
            self._since_ms = end_ms - self._window
        self._run_ms += self._window
        need = self._timing.stop_ms if self._speaking else self._timing.start_ms
        if self._run_ms < need:
            begins = not self._speaking and self._run_ms == self._window
            in_pause = begins and end_ms <= self._pause_ends_ms
            return SpeechSuspected(self._since_ms) if in_pause else None
        self._run_ms = 0
        self._speaking = not self._speaking
        if self._speaking:
            return SpeechStarted(self._since_ms)
        longest = max(self._timing.end_of_turn_ms, self._timing.unsure_end_of_turn_ms)
        self._pause_ends_ms = self._since_ms + longest + self._window
        return SpeechStopped(self._since_ms)
