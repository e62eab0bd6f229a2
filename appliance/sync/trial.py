# SPDX-License-Identifier: Apache-2.0
"""Which release of the hub's configuration takes calls, as a pure state machine: no files, no clock.

    offered ──refuse──▶ refused            what ran goes on
       └─switch──▶ on trial ──CALLS end well──▶ proven, the release to go back to
                      └─FAILURES fail──▶ rolled back to the proven one

Each function takes a state and returns the next. A state is written to disk before it is acted upon, so a
box that is killed anywhere comes up in the state before or in the state after.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

CALLS = 3
"""Calls of a new release that must end before it is proven."""

FAILURES = 2
"""Failed calls among those that bring the former release back. One can have any reason."""


class Release(BaseModel):
    """A bundle as it was received; `sha256` is of its bytes."""

    model_config = ConfigDict(frozen=True)

    version: int
    sha256: str


class Trial(BaseModel):
    """The first calls of a release."""

    model_config = ConfigDict(frozen=True)

    ended: int = 0
    failed: int = 0


class State(BaseModel):
    """What the box runs, and how it came to that.

    Attributes:
        box_id: whose versions these are; another identity counts anew.
        running: takes new calls; None is the box's own agents alone.
        good: the last that was proven.
        trial: of `running`; None once it is proven, or went back.
        seen: the newest version that was decided upon: no older one is ever taken up again.
        status: how `seen` fares.
        errors: why it was refused or rolled back.
    """

    model_config = ConfigDict(frozen=True)

    box_id: str = ""
    running: Release | None = None
    good: Release | None = None
    trial: Trial | None = None
    seen: int = 0
    status: Literal["applied", "refused", "rolled_back"] = "applied"
    errors: tuple[str, ...] = ()


def owned(state: State, box_id: str) -> State:
    """The state for this identity. What runs goes on running until the new hub says otherwise."""
    if state.box_id in {"", box_id}:
        return state.model_copy(update={"box_id": box_id})
    return State(box_id=box_id, running=state.running, good=state.good, trial=state.trial)


def is_new(state: State, version: int) -> bool:
    """Whether an offered version is to be looked at."""
    return version > state.seen


def refused(state: State, version: int, errors: tuple[str, ...]) -> State:
    """The version cannot be used; what runs goes on."""
    return state.model_copy(update={"seen": version, "status": "refused", "errors": errors})


def switched(state: State, release: Release) -> State:
    """New calls go to `release` from here on; what was not proven is not gone back to."""
    return state.model_copy(
        update={
            "running": release,
            "good": state.running if state.trial is None else state.good,
            "trial": Trial(),
            "seen": release.version,
            "status": "applied",
            "errors": (),
        }
    )


def call_ended(state: State, release: Release, *, failed: bool) -> State:
    """A call of `release` ended. Calls of another release than the one on trial prove nothing."""
    if state.trial is None or release != state.running:
        return state
    trial = Trial(ended=state.trial.ended + 1, failed=state.trial.failed + failed)
    if trial.failed >= FAILURES:
        return rolled_back(state, f"{trial.failed} of its first {trial.ended} calls failed")
    if trial.ended >= CALLS:
        return state.model_copy(update={"trial": None, "good": state.running})
    return state.model_copy(update={"trial": trial})


def rolled_back(state: State, why: str) -> State:
    """The running release is given up; the proven one takes new calls, or the box's own agents."""
    good = state.good if state.good != state.running else None
    return state.model_copy(
        update={
            "running": good,
            "good": good,
            "trial": None,
            "status": "rolled_back",
            "errors": (why,),
        }
    )
