# SPDX-License-Identifier: Apache-2.0
"""What a check is, and what it found."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance.plugin.conformance.subject import Subject

CHECK_DEADLINE_S = 120.0
"""A check that takes longer has failed. Generous: a large model on a small machine is slow, not wrong."""


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_CHECKED = "not checked"
    NOT_APPLICABLE = "not applicable"


class ViolationError(Exception):
    """The provider breaks its contract; the message says how, for its author."""


class NotCheckedError(Exception):
    """The check could not be made here; the message says what is missing."""


class NotApplicableError(Exception):
    """The contract asks nothing of this provider here; the message says why."""


VERDICTS: dict[type[Exception], Outcome] = {
    ViolationError: Outcome.FAILED,
    NotCheckedError: Outcome.NOT_CHECKED,
    NotApplicableError: Outcome.NOT_APPLICABLE,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        name: the check as a sentence.
        outcome: how it ended.
        detail: what was measured, what is wrong, or why it was not checked.
        subject: `kind/id` of the offer, or the plugin's id.
    """

    name: str
    outcome: Outcome
    detail: str = ""
    subject: str = ""

    @property
    def passed(self) -> bool | None:
        """True or False where it was checked, else None."""
        return {Outcome.PASSED: True, Outcome.FAILED: False}.get(self.outcome)


Body = Callable[["Subject"], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Check:
    """One rule of the contract. Call it with a subject to get the finding.

    Attributes:
        name: the rule as a sentence.
        body: returns what it measured; raises one of the errors above.
        needs_provider: it talks to a built provider.
    """

    name: str
    body: Body
    needs_provider: bool = True

    async def __call__(self, subject: Subject) -> Finding:
        """Make the check; whatever the provider does becomes a finding."""
        outcome, detail = await self._judge(subject)
        return Finding(self.name, outcome, detail, subject.name)

    async def _judge(self, subject: Subject) -> tuple[Outcome, str]:
        if self.needs_provider and (subject.missing or subject.trouble):
            return Outcome.NOT_CHECKED, subject.missing or "it could not be built"
        try:
            async with asyncio.timeout(CHECK_DEADLINE_S) as deadline:
                return Outcome.PASSED, await self.body(subject)
        except tuple(VERDICTS) as error:
            return VERDICTS[type(error)], str(error)
        except Exception as error:  # whatever it raises is the finding
            if deadline.expired():
                return Outcome.FAILED, f"it did not finish within {CHECK_DEADLINE_S:g} s"
            return Outcome.FAILED, f"it raised {type(error).__name__}: {error}"


def check(name: str, *, needs_provider: bool = True) -> Callable[[Body], Check]:
    """Make a check of an async function; `name` is the rule as a sentence."""

    def wrap(body: Body) -> Check:
        return Check(name, body, needs_provider)

    return wrap


def require(condition: bool, violation: str) -> None:
    """Raise `ViolationError` unless `condition` holds."""
    if not condition:
        raise ViolationError(violation)
