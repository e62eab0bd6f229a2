# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 (phrases are best read on one line)
"""Opening hours: which days, in which words, and what to answer about a single day."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from recipe.domain import WEEKDAYS
from recipe.grammar import expand, listed, tidy

_WORDS = listed("twelve one two three four five six seven eight nine ten eleven")


@dataclass
class Hours:
    """Attributes:
    text: the sentences of the prompt, or "" where it does not tell.
    said: open weekdays, each with its hours in the prompt's own words.
    span: open weekdays, each with opening and closing time in hours.
    """

    text: str = ""
    said: dict[str, str] = field(default_factory=dict)
    span: dict[str, tuple[float, float]] = field(default_factory=dict)


def _time(rng: random.Random, at: float, style: str) -> str:
    hour, half = int(at), at % 1
    word = _WORDS[hour % 12]
    if style == "digits":
        return f"{hour % 12 or 12}:{'30' if half else '00'}" if half else f"{hour % 12 or 12}"
    if half:
        return f"half past {word}" if style != "thirty" else f"{word} thirty"
    if hour == 12 and rng.random() < 0.6:
        return rng.choice(("noon", "twelve"))
    if style == "ampm":
        return f"{word} {'a.m.' if hour < 12 else 'p.m.'}"
    if style == "part":
        part = "morning" if hour < 12 else "afternoon" if hour < 17 else "evening"
        return f"{word} in the {part}"
    return word


def _range(rng: random.Random, opens: float, closes: float, style: str, link: str) -> str:
    return link.format(_time(rng, opens, style), _time(rng, closes, style))


def spoken_span(opens: float, closes: float) -> str:
    """Opening and closing time as the box says them."""
    said = (("half past " if at % 1 else "") + _WORDS[int(at) % 12] for at in (opens, closes))
    return "from {} to {}".format(*said)


def _is_run(days: tuple[str, ...]) -> bool:
    first = WEEKDAYS.index(days[0])
    return tuple(WEEKDAYS[first : first + len(days)]) == days


def _days(rng: random.Random, days: tuple[str, ...], *, on: bool) -> str:
    """A group of days in words; `on` where a preposition may stand."""
    if days == WEEKDAYS:
        return rng.choice(("every day", "seven days a week", "daily", "every day of the week"))
    if days == WEEKDAYS[:5] and rng.random() < 0.3:
        return rng.choice(("on weekdays", "during the week")) if on else "weekdays"
    if days == WEEKDAYS[5:] and rng.random() < 0.35:
        return rng.choice(("at the weekend", "on weekends", "at weekends")) if on else "weekends"
    if len(days) == 6 and rng.random() < 0.3:
        missing = next(d for d in WEEKDAYS if d not in days)
        return f"every day except {missing}" + rng.choice(("", "s"))
    if len(days) >= 3 and _is_run(days):
        text = f"{days[0]} {rng.choice(('to', 'to', 'to', 'through', 'till'))} {days[-1]}"
        return rng.choice(("", "", "from ") if on else ("",)) + text
    plural = rng.choice(("", "s"))
    names = [day + plural for day in days]
    text = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
    return ("on " if on else "") + text


def _groups(rng: random.Random) -> list[tuple[str, ...]]:
    week = WEEKDAYS
    draw = rng.random()
    if draw < 0.42:
        return rng.choice(
            ([week[:5], week[5:6]], [week[:5], week[5:6]], [week[:5]], [week[:5], week[5:]])
        )
    if draw < 0.6:
        return rng.choice(
            (
                [week[1:6]],
                [week[1:5], week[5:6]],
                [week[:6]],
                [week[:6], week[6:]],
                [week],
                [week[2:]],
                [week[1:]],
            )
        )
    if draw < 0.8:
        return rng.choice(
            (
                [week[:4], week[4:5]],
                [week[:4], week[4:6]],
                [week[:4], week[4:5], week[5:6]],
                [week[:3], week[3:5]],
                [week[:4]],
            )
        )
    days = sorted(rng.sample(range(7), rng.randint(2, 6)))
    cut = rng.randint(1, len(days))
    chosen = [tuple(week[i] for i in days[:cut]), tuple(week[i] for i in days[cut:])]
    return [group for group in chosen if group]


_ONE = (
    "We are open {g} {t}.", "We're open {g} {t}.", "Our (opening |)hours are {g} {t}.", "We are open {t} {g}.", "Opening hours: {G} {t}.",
    "The opening hours are {G} {t}.", "You can come {g} {t}.", "We open {g} {t}.", "We work {g} {t}.", "Open {g} {t}.",
)  # fmt: skip
_MORE = (", and {g} {t}", " and {g} {t}", ", {g} {t}", ", {g} {t}")
_CLOSED = (
    "We are closed {g}.", "We are closed {g}.", "We're closed {g}.", "{Gc} we are closed.", "Closed {g}.", "We do not open {g}.", "We stay closed {g}.", "{Gc} closed.",
)  # fmt: skip


def random_hours(rng: random.Random) -> Hours:
    """Hours of a random business; one in twenty does not tell them."""
    if rng.random() < 0.05:
        return Hours("", {}, {})
    hours = Hours()
    style = rng.choice(
        (
            "word",
            "word",
            "word",
            "word",
            "thirty",
            "thirty",
            "ampm",
            "part",
            "digits" if rng.random() < 0.4 else "word",
        )
    )
    link = rng.choice(
        (
            "from {} to {}",
            "from {} to {}",
            "from {} to {}",
            "{} to {}",
            "from {} until {}",
            "{} until {}",
            "between {} and {}",
            "from {} till {}",
        )
    )
    groups = _groups(rng)
    spoken: list[tuple[str, str, str]] = []
    for i, days in enumerate(groups):
        opens = rng.choice((7, 7.5, 8, 8, 8.5, 9, 9, 9, 9.5, 10, 10, 11))
        closes = (
            rng.choice((16, 17, 17, 17.5, 18, 18, 18.5, 19, 20))
            if i == 0
            else rng.choice((12, 13, 13, 14, 15, 16, 17, 20))
        )
        said = _range(rng, opens, closes, style, link)
        for day in days:
            hours.said[day] = said
            hours.span[day] = (opens, closes)
        spoken.append((_days(rng, days, on=True), _days(rng, days, on=False), said))
    text = _open_text(rng, spoken)
    closed = tuple(day for day in WEEKDAYS if day not in hours.said)
    if closed and rng.random() < 0.62:
        on = _days(rng, closed, on=True)
        text += " " + expand(rng.choice(_CLOSED), rng, {"g": on, "Gc": on[0].upper() + on[1:]})
    hours.text = tidy(text)
    return hours


def _open_text(rng: random.Random, spoken: list[tuple[str, str, str]]) -> str:
    draw = rng.random()
    if draw < 0.12:  # a list: "Monday to Friday: nine to five."
        return " ".join(
            f"{bare[0].upper() + bare[1:]}{rng.choice((': ', ', '))}{t}." for _, bare, t in spoken
        )
    if draw < 0.3:  # a sentence for each group
        return " ".join(
            expand(rng.choice(("We are open {g} {t}.", "{Gc} we are open {t}.", "{Gc} we open {t}." if t.startswith("from") else "We open {g} {t}.")), rng,
                   {"g": g, "t": t, "Gc": g[0].upper() + g[1:]}) for g, _, t in spoken
        )  # fmt: skip
    g, bare, t = spoken[0]
    text = expand(rng.choice(_ONE), rng, {"g": g, "G": bare, "t": t}).removesuffix(".")
    more = rng.choice(_MORE)
    for on, bare, t in spoken[1:]:
        text += more.replace("{g}", on if rng.random() < 0.8 else bare).replace("{t}", t)
    return text + "."
