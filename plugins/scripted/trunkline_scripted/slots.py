# SPDX-License-Identifier: Apache-2.0
"""Finds a day, a time of day or a name in what a caller said, in English. Pure."""

from __future__ import annotations

import re
from enum import StrEnum

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class SlotType(StrEnum):
    """What a slot of a form holds."""

    DAY = "day"
    TIME = "time"
    NAME = "name"


_HOURS = (
    "twelve", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
)  # fmt: skip
_MINUTES = {
    "five": 5, "oh five": 5, "ten": 10, "fifteen": 15, "twenty": 20, "twenty five": 25, "thirty": 30,
    "thirty five": 35, "forty": 40, "forty five": 45, "fifty": 50, "fifty five": 55,
}  # fmt: skip
_PAST = {**_MINUTES, "a quarter": 15, "quarter": 15, "half": 30}

_HOUR = rf"(?P<hour>{'|'.join(_HOURS)}|[01]?\d|2[0-3])"
_MINUTE_WORDS = "|".join(sorted(_MINUTES, key=len, reverse=True)).replace(" ", "[ -]")
_MINUTE = rf"(?:[:.](?P<digits>[0-5]\d)|[ ](?P<words>{_MINUTE_WORDS}))"
_HALF_DAY = r"(?:\s*(?P<half>[ap])\.?\s?m\b\.?|\s+in the (?P<part>morning|afternoon|evening))"
_RELATIVE = (
    rf"\b(?P<amount>{'|'.join(sorted(_PAST, key=len, reverse=True)).replace(' ', '[ -]')})"
    rf"\s(?P<side>past|after|to|before)\s{_HOUR}\b{_HALF_DAY}?"
)
_CLOCK = (
    rf"\b{_HOUR}{_MINUTE}\b{_HALF_DAY}?",
    rf"\b{_HOUR}\s?o'?clock\b{_HALF_DAY}?",
    rf"\b{_HOUR}{_HALF_DAY}",
    rf"\b(?:at|around|about|by)\s{_HOUR}\b",
)
_BARE = rf"\b{_HOUR}\b"
_NAME = r"(?P<name>[A-Z][\w'’-]+(?:\s[A-Z][\w'’-]+)?)"
_INTRODUCED = re.compile(rf"\b(?i:my name is|name's|this is|i am|i'm|it's|it is|call me)\s{_NAME}")
_SPOKEN_FOR = re.compile(rf"\b(?i:for)\s{_NAME}")
_NOT_NAMES = frozenset({*DAYS, "Today", "Tomorrow", "Yes", "No", "Okay", "Please", "Thanks", "I"})


def find(kind: SlotType, text: str, *, expected: bool = False) -> str | None:
    """Return the last value of a kind in `text`, or None.

    A day is a capitalised weekday, `today` or `tomorrow`; a time is `HH:MM` (hours from one to seven
    without a.m. or p.m. are taken as afternoon); a name is as it was written.

    Args:
        kind: what to look for.
        text: what the caller said, with its capital letters.
        expected: it was just asked for, so that a bare number or word may be meant.
    """
    if kind is SlotType.DAY:
        return find_day(text)
    if kind is SlotType.TIME:
        return find_time(text, expected=expected)
    return find_name(text, expected=expected)


def find_day(text: str) -> str | None:
    """Return the last weekday (capitalised), `today` or `tomorrow`."""
    found = re.findall(rf"\b({'|'.join(DAYS)}|today|tomorrow)\b", text, re.IGNORECASE)
    if not found:
        return None
    word = str(found[-1])
    return word.lower() if word.lower() in {"today", "tomorrow"} else word.capitalize()


def find_time(text: str, *, expected: bool = False) -> str | None:
    """Return the last time of day as `HH:MM`."""
    relative = list(re.finditer(_RELATIVE, text, re.IGNORECASE))
    if relative:
        return _relative(relative[-1])
    best: re.Match[str] | None = None
    for pattern in _CLOCK:
        for match in re.finditer(pattern, text, re.IGNORECASE):
            if best is None or match.start("hour") > best.start("hour"):
                best = match
    if best is None and expected:
        best = next(iter(re.finditer(_BARE, text, re.IGNORECASE)), None)
    if best is None:
        return None
    groups = best.groupdict()
    minute = int(groups.get("digits") or 0)
    if words := groups.get("words"):
        minute = _MINUTES[_plain(words)]
    return _clock(_hour(best), minute, best)


def _relative(match: re.Match[str]) -> str:
    amount = _PAST[_plain(match["amount"])]
    minutes = _hour(match) * 60 + (
        amount if match["side"].lower() in {"past", "after"} else -amount
    )
    return _clock(minutes // 60 % 24, minutes % 60, match)


def _hour(match: re.Match[str]) -> int:
    word = match["hour"].lower()
    return (_HOURS.index(word) or 12) if word in _HOURS else int(word)


def _clock(hour: int, minute: int, match: re.Match[str]) -> str:
    groups = match.groupdict()
    half = (groups.get("half") or "").lower()
    part = (groups.get("part") or "").lower()
    if half == "a" or part == "morning":
        hour %= 12
    elif half == "p" or part in {"afternoon", "evening"} or 1 <= hour <= 7:
        hour = hour % 12 + 12 if hour <= 12 else hour
    return f"{hour:02}:{minute:02}"


def _plain(words: str) -> str:
    return re.sub(r"[\s-]+", " ", words.lower())


def find_name(text: str, *, expected: bool = False) -> str | None:
    """Return the name a caller gave: introduced (`my name is ...`), or alone where it was asked for."""
    candidates = [match["name"] for match in _INTRODUCED.finditer(text)]
    candidates += [match["name"] for match in _SPOKEN_FOR.finditer(text)]
    if expected and len(text.split()) <= 4:
        candidates += re.findall(r"\b[A-Z][\w'’-]+", text)[-1:]
    for candidate in candidates:
        words = [word for word in candidate.split() if word not in _NOT_NAMES]
        if words:
            return " ".join(words)
    return None


def spoken_time(clock: str) -> str:
    """Return `HH:MM` as a person says it: `half past two`, `nine fifteen`, `ten o'clock`."""
    hour, minute = (int(part) for part in clock.split(":"))
    name = _HOURS[hour % 12]
    if minute == 0:
        return f"{name} o'clock"
    if minute == 30:
        return f"half past {name}"
    if minute == 15:
        return f"quarter past {name}"
    if minute == 45:
        return f"quarter to {_HOURS[(hour + 1) % 12]}"
    if minute < 10:
        return f"{name} oh {_HOURS[minute]}"
    words = {value: word for word, value in _MINUTES.items()}
    return f"{name} {words.get(minute, minute)}"
