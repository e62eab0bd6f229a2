# SPDX-License-Identifier: Apache-2.0
"""The reception desk as both starter models know it: names, days, times, and what callers say.

`caller_texts` feeds the recognizer's training; the language model's dialogues draw on the same
phrasings (`recipe/phrases.py`) and add wider ones of their own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from recipe import phrases
from recipe.grammar import choose, expand, listed, tidy

NAMES = listed(
    "Oliver Emma Jack Olivia Harry Sophie Thomas Emily James Grace William Lucy George Anna "
    "Daniel Maria David Sarah Michael Laura Robert Alice Peter Julia Paul Helen Mark Kate "
    "Simon Jane Adam Rachel Ben Hannah Sam Chloe Max Amy Leo Zoe Noah Mia Liam Ella Lucas "
    "Ruby Ethan Nora Henry Clara Oscar Rosa Felix Eva Hugo Naomi Martin Ruth Victor Diana "
    "Frank Carol Kevin Susan Brian Linda Steven Karen Edward Nicole Richard Megan Alex "
    "Charlotte Isaac Fiona Colin Teresa Gordon Irene"
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SERVICES = listed(
    "check-up cleaning filling whitening crown haircut massage vaccination consultation "
    "facial manicure service"
)

_HOURS = listed("twelve one two three four five six seven eight nine ten eleven")
_MINUTES = {
    5: "five", 10: "ten", 15: "quarter", 20: "twenty", 25: "twenty-five",
}  # fmt: skip
_AFTER = {
    5: "oh five", 10: "ten", 15: "fifteen", 20: "twenty", 25: "twenty-five", 30: "thirty",
    35: "thirty-five", 40: "forty", 45: "forty-five", 50: "fifty", 55: "fifty-five",
}  # fmt: skip


_CLOCK = " o'clock"


@dataclass(frozen=True)
class Clock:
    """A time of day, in business hours."""

    hour: int
    minute: int

    @property
    def argument(self) -> str:
        """As a tool takes it: HH:MM, 24 hours."""
        return f"{self.hour:02d}:{self.minute:02d}"

    @property
    def word(self) -> str:
        """The hour in words, on a twelve-hour dial."""
        return _HOURS[self.hour % 12]

    @property
    def canonical(self) -> str:
        """As the agent says it."""
        if self.minute == 0:
            return f"{self.word} o'clock"
        if self.minute == 30:
            return f"half past {self.word}"
        if self.minute < 30:
            return f"{_MINUTES[self.minute]} past {self.word}"
        return f"{_MINUTES[60 - self.minute]} to {_HOURS[(self.hour + 1) % 12]}"

    def day_part(self) -> str:
        """The part of the day it falls in."""
        if self.hour < 12:
            return "morning"
        return "afternoon" if self.hour < 17 else "evening"

    def spoken(self, rng: random.Random) -> str:
        """One of the ways a caller says it. A bare seven is the morning's, six the evening's."""
        bare = 7 <= self.hour < 19
        if self.minute == 0:
            forms = [self.word, self.word, self.word + _CLOCK]
            if self.hour == 12:
                forms += ["noon", "midday"]
        else:
            forms = [f"{self.word} {_AFTER[self.minute]}"]
            if self.minute == 30:
                forms += [self.canonical, f"half {self.word}"]
            elif self.minute in (15, 45):
                forms += [self.canonical, "a " + self.canonical]
            else:
                forms += [self.canonical]
        text = rng.choice(forms)
        if text in ("noon", "midday"):
            return text
        draw = rng.random()
        suffix = "a.m." if self.hour < 12 else "p.m."
        on_the_dial = "past" in text or "half" in text or "to " in text
        if not on_the_dial and draw < (0.16 if bare else 0.5):
            return f"{text.removesuffix(_CLOCK)} {suffix}"
        if draw < (0.28 if bare else 2):
            part = "at night" if self.hour > 19 else f"in the {self.day_part()}"
            return f"{text} {part}"
        return text


def random_clock(rng: random.Random) -> Clock:
    """A time an appointment may have; full and half hours are the most frequent."""
    odd = rng.choice(tuple(_AFTER))
    minute = rng.choice((0, 0, 0, 0, 30, 30, 30, 15, 45, 15, 45, odd, odd))
    hour = rng.randint(7, 18) if rng.random() < 0.04 else rng.choice((*range(8, 19), 14, 10, 11))
    if rng.random() < 0.03:
        hour = rng.randint(19, 20)
    return Clock(hour, minute)


def random_day(rng: random.Random) -> str:
    """A day as a tool takes it: a weekday, today or tomorrow."""
    return rng.choice(("today", "tomorrow", "tomorrow", *WEEKDAYS, *WEEKDAYS[:6]))


def day_phrase(rng: random.Random, day: str, clock: Clock | None = None) -> str:
    """The day as said, without a preposition; the part of day only where the time agrees."""
    part = clock.day_part() if clock else rng.choice(("morning", "afternoon"))
    said_part = f" {part}" if rng.random() < 0.12 else ""
    if day == "today":
        return (
            f"this {part}" if said_part else rng.choice(("today", "today", "today", "later today"))
        )
    if day == "tomorrow":
        return f"tomorrow{said_part}"
    return rng.choice(("", "", "", "", "this ", "next ", "this coming ")) + day + said_part


def when_phrase(rng: random.Random, day: str | None, clock: Clock | None) -> str:
    """Day and time as a part of a sentence, in either order; either may be absent."""
    day_said = ""
    if day:
        day_said = day_phrase(rng, day, clock)
        if day_said[0].isupper():
            day_said = rng.choice(("on ", "on ", "for ", "")) + day_said
        else:
            day_said = rng.choice(("", "", "for ")) + day_said
    time_said = ""
    if clock:
        lead = rng.choice(("at ", "at ", "at ", "around ", "for ", "at about ", "say ", ""))
        time_said = lead + clock.spoken(rng)
    if not (day and clock):
        return day_said or time_said
    if rng.random() < 0.75:
        return day_said + rng.choice((" ", " ", ", ")) + time_said
    return time_said + rng.choice((" ", ", ")) + day_said


def said(
    rng: random.Random, templates: tuple[str, ...], *, test: bool | None = None, **slots: str
) -> str:
    """A sentence of an intent: its template expanded, at times with an opener or a filler."""
    text = expand(choose(templates, rng, test=test), rng, slots)
    if rng.random() < 0.3:
        text = expand(rng.choice(phrases.OPENERS), rng) + small_start(text)
    return tidy(text)


def small_start(text: str) -> str:
    """The first letter small, unless the word is a name, a day or "I"."""
    first = text.split(maxsplit=1)[0].rstrip(".,?!") if text else ""
    proper = first in WEEKDAYS or first in NAMES or first.split("'")[0] == "I"
    known = first.lower() in phrases.SMALL_STARTS
    return text if proper or not known else text[0].lower() + text[1:]


def booking_text(
    rng: random.Random,
    *,
    day: str | None,
    clock: Clock | None,
    name: str | None,
    service: str | None = None,
    test: bool | None = None,
) -> str:
    """A caller asks for an appointment and gives what is not None, in one breath."""
    thing = expand(choose(phrases.THINGS, rng), rng)
    if service:
        thing = rng.choice(
            (f"a {service}", f"a {service} appointment", f"an appointment for a {service}")
        )
    when = when_phrase(rng, day, clock)
    templates = phrases.BOOK if when or not name else phrases.BOOK + phrases.BOOK_NAMED
    text = said(rng, templates, test=test, thing=thing, when=when)
    if name:
        intro = expand(choose(phrases.NAME_WITH, rng, test=test), rng, {"name": name})
        text = f"{text} {intro}" if rng.random() < 0.8 else f"{intro} {text}"
    return tidy(text)


def caller_texts(rng: random.Random) -> Iterator[str]:
    """Endless sentences that callers of a reception desk say, cased and punctuated."""
    plain = tuple(phrases.CALLER.items())
    weights = [phrases.WEIGHTS.get(name, 1.0) for name, _ in plain]
    while True:
        day, clock, name = random_day(rng), random_clock(rng), rng.choice(NAMES)
        if rng.random() < 0.22:
            yield booking_text(
                rng,
                day=day if rng.random() < 0.6 else None,
                clock=clock if rng.random() < 0.5 else None,
                name=name if rng.random() < 0.35 else None,
                service=rng.choice(SERVICES) if rng.random() < 0.25 else None,
            )
            continue
        _, templates = rng.choices(plain, weights)[0]
        yield said(
            rng,
            templates,
            day=day_phrase(rng, day, clock),
            on_day=when_phrase(rng, day, None),
            time=clock.spoken(rng),
            when=when_phrase(rng, day, clock),
            name=name,
            service=rng.choice(SERVICES[:5] if rng.random() < 0.6 else SERVICES),
        )
