# SPDX-License-Identifier: Apache-2.0
"""When somebody speaks, and how long it took to answer or to stop: exact to the sample. Pure.

Both directions of a call are cut at the same media ticks, so a position in one is the same moment
in the other:

    caller   ....####own####.............................####own##....
    agent    ###...............#####reply########....####stop#........
                    own.end ^--^ answer latency          ^---^ barge-in stop
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from appliance.audio.level import FULL_SCALE
from appliance.audio.types import SAMPLE_RATE, Pcm

SENT_DB = -40.0
"""dBFS of the quietest sample that counts as the caller's speech."""
HEARD_DB = -45.0
"""dBFS of the quietest sample that counts as the agent's speech: above the noise of any codec."""
GAP_S = 0.4
"""Silence that ends a stretch of speech: longer than the pauses within a sentence."""
CLICK_S = 0.01
"""What is shorter is a click, no speech."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of speech: its first sample, and the one after its last."""

    start: int
    end: int


class SpeechTrack:
    """Finds the stretches of speech in one direction of a call, as it goes on. Keeps no audio.

    Args:
        threshold_db: dBFS that a sample must exceed to be sound.
        gap_s: silence that parts two stretches.
    """

    def __init__(self, threshold_db: float, gap_s: float = GAP_S) -> None:
        self._limit = FULL_SCALE * 10 ** (threshold_db / 20)
        self._gap = round(gap_s * SAMPLE_RATE)
        self._least = round(CLICK_S * SAMPLE_RATE)
        self._spans: list[Span] = []
        self._apart = False
        self.position = 0
        """Samples given so far."""

    def push(self, pcm: Pcm) -> None:
        """Append audio (16 kHz)."""
        loud = np.flatnonzero((pcm > self._limit) | (pcm < -self._limit))
        if loud.size:
            cuts = np.flatnonzero(np.diff(loud) > self._gap)
            starts = loud[np.concatenate([[0], cuts + 1])] + self.position
            ends = loud[np.concatenate([cuts, [-1]])] + self.position + 1
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
                self._add(Span(start, end))
        self.position += pcm.size

    def cut(self) -> None:
        """Let the next sound begin a new stretch, however soon it comes."""
        self._apart = True

    def spans(self, since: int = 0) -> list[Span]:
        """Return the stretches that begin at `since` or later, the last one as far as it has come."""
        found = []
        for span in reversed(self._spans):
            if span.start < since:
                break
            if span.end - span.start >= self._least:
                found.append(span)
        return found[::-1]

    def at(self, position: int) -> Span | None:
        """Return the stretch that was running at a position, or None."""
        for span in reversed(self._spans):
            if span.start < position:
                inside = position < span.end and span.end - span.start >= self._least
                return span if inside else None
        return None

    def silence(self) -> int:
        """Return how many samples ago the last sound was; all of them when there was none."""
        for span in reversed(self._spans):
            if span.end - span.start >= self._least:
                return self.position - span.end
        return self.position

    def _add(self, span: Span) -> None:
        last = self._spans[-1] if self._spans else None
        if last is not None and span.start - last.end < self._gap and not self._apart:
            self._spans[-1] = Span(last.start, span.end)
        else:
            self._spans.append(span)
        self._apart = False


def reply_to(own: Span, agent: Sequence[Span]) -> Span | None:
    """Return the agent's answer to what the caller said in `own`.

    It is the first stretch that begins after the caller began and lasts beyond the caller's end: what the
    agent was saying before, or dropped while the caller spoke on, is no answer.
    """
    return next((span for span in agent if span.start > own.start and span.end > own.end), None)


def answer_latency(own: Span, reply: Span) -> float | None:
    """Return seconds from the caller's last sample to the agent's first; None if the agent was early."""
    wait = reply.start - (own.end - 1)
    return wait / SAMPLE_RATE if wait > 0 else None


def barge_in_stop(own: Span, interrupted: Span | None) -> float | None:
    """Return seconds from the caller's first sample to the last one of the speech it interrupted."""
    return None if interrupted is None else (interrupted.end - own.start) / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Stats:
    """A distribution, in the words of the benchmark files."""

    unit: str
    n: int
    p50: float
    p95: float
    p99: float
    mean: float


def stats(values: Sequence[float], unit: str) -> Stats:
    """Return percentiles (interpolated between neighbours) and the mean.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values")
    p50, p95, p99 = (float(v) for v in np.percentile(values, (50, 95, 99)))
    return Stats(unit, len(values), p50, p95, p99, float(np.mean(values)))
