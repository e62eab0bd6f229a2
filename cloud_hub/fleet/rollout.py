# SPDX-License-Identifier: Apache-2.0
"""A rollout in stages, as pure functions: whom to offer a version now, when to go on, when to halt.

    stage 0 offered ──all applied──▶ stage 1 offered ──...──▶ done
          └─failures >= halt_after──▶ halted: nobody else is offered anything

A box that is offline holds its stage open but not the rollout: it has its offer when it comes back, and
`patience` says what share of a stage may still be out when the next one begins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator

FAILED = frozenset({"refused", "rolled_back"})


class Plan(BaseModel):
    """How a deployment goes to its boxes.

    Attributes:
        stages: share of the boxes that have it after each stage, in percent, rising to 100.
        halt_after: boxes that refused it or went back, at which nobody else gets it.
        patience: share of a stage's boxes that may still be without an answer when the next stage begins,
            in percent.
        await_calls: a box counts once its first calls with the new version went well, not at once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stages: tuple[int, ...] = (100,)
    halt_after: int = Field(1, ge=1)
    patience: int = Field(0, ge=0, le=99)
    await_calls: bool = False

    @field_validator("stages")
    @classmethod
    def _rise(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or value[-1] != 100 or list(value) != sorted(set(value)) or value[0] < 1:
            raise ValueError("stages are percentages that rise to 100, such as [10, 50, 100]")
        return value


@dataclass(frozen=True, slots=True)
class Target:
    """One box of a rollout, and how far it has come."""

    box_id: UUID
    stage: int
    status: str


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now.

    Attributes:
        status: what the deployment becomes.
        offer: boxes that get the version now.
        reason: why it halted.
    """

    status: Literal["rolling_out", "done", "halted"]
    offer: tuple[UUID, ...] = ()
    reason: str = ""


def staged(boxes: Sequence[UUID], plan: Plan) -> Mapping[UUID, int]:
    """Return the stage in which each box gets its offer; every stage has at least one while there are any."""
    result: dict[UUID, int] = {}
    for number, percent in enumerate(plan.stages):
        upto = max(math.ceil(len(boxes) * percent / 100), number + 1)
        for box in boxes[len(result) : upto]:
            result[box] = number
    return result


def step(targets: Sequence[Target], plan: Plan) -> Step:
    """Return what to do, from how all boxes stand."""
    failed = [target for target in targets if target.status in FAILED]
    if len(failed) >= plan.halt_after:
        many = "box" if len(failed) == 1 else "boxes"
        return Step("halted", reason=f"{len(failed)} {many} refused it or went back")
    for number in sorted({target.stage for target in targets}):
        stage = [target for target in targets if target.stage == number]
        waiting = tuple(target.box_id for target in stage if target.status == "waiting")
        if waiting:
            return Step("rolling_out", offer=waiting)
        out = sum(target.status == "offered" for target in stage)
        if out * 100 > plan.patience * len(stage):
            return Step("rolling_out")
    out = sum(target.status == "offered" for target in targets)
    return Step("rolling_out" if out else "done")
