# SPDX-License-Identifier: Apache-2.0
"""What a check of the doctor says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How bad it is. `FAIL`: calls do not work; `WARN`: they may not work well."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        check: what was looked at (`disk`, `sip port`).
        status: how bad it is.
        what: what was found, with numbers.
        remedy: what a person can do; "" when nothing needs doing.
    """

    check: str
    status: Status
    what: str
    remedy: str = ""


def ok(check: str, what: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(check, Status.OK, what)


def warn(check: str, what: str, remedy: str) -> Finding:
    """Return a finding that may spoil calls."""
    return Finding(check, Status.WARN, what, remedy)


def fail(check: str, what: str, remedy: str) -> Finding:
    """Return a finding that keeps calls from working."""
    return Finding(check, Status.FAIL, what, remedy)
