# SPDX-License-Identifier: Apache-2.0
"""Checks of a voice activity detector. See `appliance.plugin.speech.VoiceActivityDetector`."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.plugin.conformance import sound
from appliance.plugin.conformance.findings import Check, ViolationError, check, require
from appliance.plugin.conformance.subject import Subject
from appliance.plugin.speech import Pcm, VoiceActivityDetector

BATCH = 16
BUDGET_S = 0.002
ROUNDS = 10
PAUSE_S = 0.2
"""A busy machine spoils a round; it does not spoil ten over two seconds."""

SAME = 1e-3


def windows(pcm: Pcm, vad: VoiceActivityDetector) -> list[Pcm]:
    """Cut audio into the detector's windows; a rest is left out."""
    size = vad.capabilities.window
    return [pcm[at : at + size] for at in range(0, len(pcm) - size + 1, size)]


def scores(vad: VoiceActivityDetector, *calls: Pcm) -> NDArray[np.float32]:
    """Score several calls of equal length in batches; return shape (windows, calls)."""
    states = [vad.open() for _ in calls]
    ticks = zip(*(windows(pcm, vad) for pcm in calls), strict=True)
    rows = [score(vad, states, np.stack(tick)) for tick in ticks]
    return np.stack(rows)


def score(vad: VoiceActivityDetector, states: list[Any], batch: Pcm) -> NDArray[np.float32]:
    """Score one tick and see that the answer's form is right."""
    found = vad.score(states, batch)
    require(
        isinstance(found, np.ndarray) and found.dtype == np.float32,
        f"scores are {getattr(found, 'dtype', type(found).__name__)}, not float32",
    )
    require(found.shape == (len(states),), f"{len(states)} calls got shape {found.shape}")
    outside = found[~((found >= 0) & (found <= 1))]  # NaN included
    require(not len(outside), f"a score is not within 0..1: {outside[:1]}")
    return found


async def use(vad: VoiceActivityDetector, subject: Subject) -> None:
    """Score a second of silence."""
    scores(vad, sound.silence(1.0, vad.capabilities.sample_rate))


@check("scores are float32 within 0..1, one for each call")
async def scores_have_the_right_form(subject: Subject) -> str:
    """Also for no call at all: the box ticks before the first one."""
    vad: VoiceActivityDetector = subject.provider
    rate = vad.capabilities.sample_rate
    found = scores(vad, *(sound.babble(1.0, rate, seed=seed) for seed in range(3)))
    score(vad, [], np.zeros((0, vad.capabilities.window), np.int16))
    return f"windows of {vad.capabilities.window} at {rate} Hz, {len(found)} ticks"


@check("silence and a quiet line are not speech")
async def silence_is_not_speech(subject: Subject) -> str:
    """Otherwise no caller's turn would ever end."""
    vad: VoiceActivityDetector = subject.provider
    rate = vad.capabilities.sample_rate
    found = scores(vad, sound.silence(3.0, rate), sound.faint_noise(3.0, rate))
    worst = float(found[5:].max())
    require(worst < 0.5, f"it scored {worst:.2f}")
    return f"{worst:.2f} at most"


@check("speech scores higher than silence")
async def speech_stands_out(subject: Subject) -> str:
    """With a real sample it must be taken for speech; babble need only stand out."""
    vad: VoiceActivityDetector = subject.provider
    rate = vad.capabilities.sample_rate
    real = subject.speech(rate)
    spoken = sound.babble(3.0, rate) if real is None else real
    quiet = sound.silence(len(spoken) / rate, rate)[: len(spoken)]
    found = scores(vad, spoken, quiet)
    loud, still = float(found[:, 0].max()), float(found[:, 1].max())
    require(loud > still, f"speech scored {loud:.3f}, silence {still:.3f}")
    require(real is None or loud > 0.5, f"a sample of speech scored {loud:.2f} at most")
    return f"{loud:.2f} against {still:.2f}"


@check("a call scores the same alone and in a batch")
async def a_batch_changes_nothing(subject: Subject) -> str:
    """Calls share the model, never the state."""
    vad: VoiceActivityDetector = subject.provider
    rate = vad.capabilities.sample_rate
    calls = [sound.babble(1.5, rate, seed=seed) for seed in range(3)] + [sound.silence(1.5, rate)]
    together = scores(vad, *calls)
    for number, pcm in enumerate(calls):
        off = float(np.abs(scores(vad, pcm)[:, 0] - together[:, number]).max())
        require(off <= SAME, f"alone and beside others its scores differ by {off:.4f}")
    return ""


@check("a batch of 16 calls is scored in under 2 ms")
async def it_keeps_the_budget(subject: Subject) -> str:
    """It runs in the media tick of all calls."""
    vad: VoiceActivityDetector = subject.provider
    size, rate = vad.capabilities.window, vad.capabilities.sample_rate
    states = [vad.open() for _ in range(BATCH)]
    batch = np.tile(sound.babble(size / rate, rate)[:size], (BATCH, 1))
    best = float("inf")
    for _ in range(ROUNDS):
        best = min(best, _median_s(vad, states, batch))
        if best <= BUDGET_S:
            return f"{best * 1000:.2f} ms"
        await asyncio.sleep(PAUSE_S)
    raise ViolationError(f"{best * 1000:.2f} ms")


def _median_s(vad: VoiceActivityDetector, states: list[Any], batch: Pcm) -> float:
    taken = []
    for _ in range(20):
        start = time.perf_counter()
        vad.score(states, batch)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


CHECKS: tuple[Check, ...] = (
    scores_have_the_right_form,
    silence_is_not_speech,
    speech_stands_out,
    a_batch_changes_nothing,
    it_keeps_the_budget,
)
