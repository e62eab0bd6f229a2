# SPDX-License-Identifier: Apache-2.0
"""Which stage of an answer grows with the load: the one that binds. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

STAGES: Mapping[str, tuple[str, ...]] = {
    "recognition": ("recognition_wait",),
    "model": ("first_text", "first_clause"),
    "synthesis": ("synthesis",),
    "media": ("playout",),
}
"""Stage to the parts of the box's `latency` event. The end-of-turn silence is no stage: it is a setting."""

GROWN_MS = 20.0
"""Less growth than this is noise."""


@dataclass(frozen=True, slots=True)
class StageTimes:
    """95th percentile of each stage at one load, in ms; empty when nothing was answered."""

    p95_ms: Mapping[str, float]


def stage_times(parts: Sequence[Mapping[str, float]], on_the_wire_ms: float = 0.0) -> StageTimes:
    """Return the stages' times from the parts of every answer.

    Args:
        parts: `parts` of the `latency` events.
        on_the_wire_ms: what the caller measured beyond the box's own total: it is the media's.
    """
    if not parts:
        return StageTimes({})
    times = {
        stage: float(np.percentile([sum(one.get(key, 0) for key in keys) for one in parts], 95))
        for stage, keys in STAGES.items()
    }
    times["media"] += max(0.0, on_the_wire_ms)
    return StageTimes({stage: round(value, 1) for stage, value in times.items()})


def binding(light: StageTimes, heavy: StageTimes) -> str:
    """Return the stage that grew most between two loads, or "" when none did."""
    growth = {stage: value - light.p95_ms.get(stage, 0.0) for stage, value in heavy.p95_ms.items()}
    worst = max(growth, key=lambda stage: growth[stage], default="")
    return worst if worst and growth[worst] >= GROWN_MS else ""
