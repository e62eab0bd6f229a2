# SPDX-License-Identifier: Apache-2.0
"""Opening hours of a day as they are said: what a prompt tells, so that no model must work out a date."""

from __future__ import annotations

from datetime import time

_HOURS = (
    "twelve", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
)  # fmt: skip
_QUARTERS = {15: "quarter past", 30: "half past", 45: "quarter to"}
_MINUTES = {
    5: "oh five", 10: "ten", 20: "twenty", 25: "twenty-five", 35: "thirty-five", 40: "forty", 50: "fifty",
    55: "fifty-five",
}  # fmt: skip


def spoken_hours(opens: time, closes: time, language: str) -> str:
    """Return "from nine to half past five"; in languages other than English "09:00 - 17:30"."""
    if language.split("-", maxsplit=1)[0].lower() != "en":
        return f"{opens:%H:%M} - {closes:%H:%M}"
    return f"from {_spoken(opens)} to {_spoken(closes)}"


def _spoken(at: time) -> str:
    """Return the time on a twelve-hour dial; minutes that are no multiple of five as digits."""
    hour = _HOURS[at.hour % 12]
    if at.minute == 0:
        return hour
    if at.minute in _QUARTERS:
        return f"{_QUARTERS[at.minute]} {_HOURS[(at.hour + (at.minute > 30)) % 12]}"
    return f"{hour} {_MINUTES.get(at.minute, f'{at.minute:02d}')}"
