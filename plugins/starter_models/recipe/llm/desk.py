# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 (phrases are best read on one line)
"""The domain the starter model is for: the reception desk of a dental practice.

Its prompt tells opening hours, an address, parking, ways of payment and prices, in any words; callers ask for
these in all the ways of the corpus, and for much that the prompt does not tell.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from recipe import domain, phrases
from recipe.domain import WEEKDAYS
from recipe.grammar import expand, tidy
from recipe.llm import corpus, replies, topics, words
from recipe.llm.business import Business, priced, prompt_of, slots
from recipe.llm.conversation import Conversation, Question, offered_tools
from recipe.llm.dialogue import Dialogue
from recipe.llm.hours import random_hours

DENTIST = next(trade for trade in words.TRADES if trade.pro == "dentist")
_THREE = ("check-up", "cleaning", "filling")
_OWN_WORDS = {"check-up": "price_checkup", "cleaning": "price_cleaning", "filling": "price_filling"}
"""Services for which callers have other words, and the intents that hold them."""
_ASKED = {
    "day": 24, "today": 6, "time": 5, "hours": 12, "price": 20, "prices": 3, "address": 13, "parking": 13,
    "payment": 13, "unknown": 15, "again": 14,
}  # fmt: skip
"""What callers ask for, and how often."""
_GUESSED = 0.14  # share of questions that say what the caller believes
_WRITTEN = {
    "address": topics.ADDRESS.questions,
    "parking": topics.PARKING.questions,
    "payment": topics.PAYMENT.questions,
    "hours": phrases.CALLER["hours"],
    "prices": phrases.CALLER["prices"],
}
_BARE = (
    "[(And|What about|How about)] [(a|the)] {service}?", "{service}?", "{service}, (how much|price|cost)?",
)  # fmt: skip
_MORE = {
    "address": (
        "(It is|That is|You find us) (next to|opposite|behind|above) the {place}.", "Look for the (green|red|blue|white) door.",
        "The entrance is (at the back|on {street}|next to the {place}).", "Take the (lift|stairs) to the (first|second|third) floor.",
        "The (bus|tram) stops (outside|at the {place}).", "We moved there from {street}.",
    ),
    "parking": (
        "(It|Parking) is free[ for patients].", "It costs {num} {cur} (an hour|a day).", "The (car park|garage) (on {street}|behind the {place}) costs {num} {cur} an hour.",
        "You can stay for (an hour|two hours|three hours).", "There is more on {street}.", "We have no parking of our own.",
    ),
    "payment": (
        "We (do not|don't) take (cards|cash|cheques).", "You pay (at the desk|after the visit|on the day).", "(Cheques|Phones) are (fine|welcome) too.",
        "We do not send bills.",
    ),
}  # fmt: skip
"""What may follow the sentence about a thing; both are the answer."""
_LATE = ("Friday", "Saturday", "Saturday", "Sunday")
"""Days of the week of which today or tomorrow is likely to be closed, or shorter."""
_TOPICS = {"parking": ("premises", "car parking where"), "payment": ("money", "cards and cash")}
"""Topics of the wider corpus with sentences about the same, by file and name."""


def dental_business(rng: random.Random) -> Business:
    """A dental practice whose prompt tells the five things, each in random words."""
    name = rng.choice(words.BRAND_WORDS) if rng.random() < 0.6 else words.made_up(rng)
    name = f"{name.replace('_', ' ')} {rng.choice(DENTIST.name_words)}"
    trade = DENTIST if rng.random() < 0.3 else replace(DENTIST, services=_THREE)
    hours = random_hours(rng)
    while not hours.text:
        hours = random_hours(rng)
    business = Business(name, trade, any_today(rng), hours)
    currency = rng.choice(words.CURRENCIES)
    told = [business.hours.text]
    if rng.random() < 0.85:
        told[0] += "\n" + business.tell_near_days()
    business.facts["hours"] = business.hours.text
    for key, topic in (
        ("address", topics.ADDRESS), ("parking", topics.PARKING), ("payment", topics.PAYMENT),
    ):  # fmt: skip
        sentences = topic.facts
        if key in _TOPICS and rng.random() < 0.5:
            file, wide = _TOPICS[key]
            sentences = corpus.topics()[file][wide].facts
        if rng.random() < 0.94:
            said = rng.choice(sentences)
            if rng.random() < 0.2:
                said += " " + rng.choice(_MORE[key])
            business.facts[key] = tidy(expand(said, rng, slots(rng, trade, currency)))
            told.append(business.facts[key])
    prices = priced(rng, business, currency, 3 if rng.random() < 0.8 else None)
    if prices:
        business.facts["prices"] = prices
        told.append(prices)
    business.prompt = prompt_of(rng, business, told)
    return business


def any_today(rng: random.Random) -> str:
    """A weekday, rather one on which "today" and "tomorrow" must be worked out."""
    return rng.choice(_LATE if rng.random() < 0.35 else WEEKDAYS)


@dataclass(frozen=True)
class _Asked:
    """What was asked last: under "again", the same answer is right."""

    again: str
    answer: str


class Desk(Conversation):
    """A conversation with a dental practice."""

    asked: _Asked | None = None
    told_at = 0  # messages there were when the last question had been answered

    def ask(self, tries: int = 1) -> None:
        """One question, or two in one breath."""
        super().ask(tries)
        self.told_at = len(self.dialogue.messages)

    def question(self) -> Question:
        """A question about the practice."""
        rng = self.rng
        kind = rng.choices(list(_ASKED), list(_ASKED.values()))[0]
        before, self.asked = self.asked, None
        if kind == "again":
            if before is None or self.told_at != len(self.dialogue.messages):
                return self.question()
            self.asked = before
            return Question(self._of(before.again), before.answer, "fact")
        if kind in ("day", "time", "today"):
            return self._hours_of_a_day(kind)
        if kind == "price":
            return self._price()
        if kind == "unknown":
            return self._unknown()
        return self._told(kind)

    def _of(self, intent: str, own: tuple[str, ...] = (), **values: str) -> str:
        """A sentence of the corpus, or at times of the recognizer's grammar."""
        wide = corpus.callers(intent)
        templates = own if own and (not wide or self.rng.random() < 0.25) else wide
        return domain.said(self.rng, templates, test=self.test, **values)

    def _hours_of_a_day(self, kind: str) -> Question:
        rng, business = self.rng, self.business
        day = "today" if kind == "today" else domain.random_day(rng)
        if kind == "today":
            text = self._of("hours_today")
        elif kind == "time":
            text = self._of(
                "hours_time", when=domain.when_phrase(rng, day, domain.random_clock(rng))
            )
        else:
            named, on_day = domain.day_phrase(rng, day), domain.when_phrase(rng, day, None)
            if day in WEEKDAYS and rng.random() < 0.2:
                named = rng.choice((f"{day}s", f"a {day}"))
                on_day = f"on {named}"
            if rng.random() < _GUESSED:
                text = self._of("day_guess", day=named, on_day=on_day)
            else:
                text = self._of("hours_day", phrases.CALLER["hours_day"], day=named, on_day=on_day)
            small = text.lower()
            if self.booking and small.startswith(("what about ", "how about ", "and ", "open")):
                text = f"Are you open {on_day}?"
        answer = business.day_answer(day)
        if not answer:
            return Question(text, replies.UNKNOWN, "unknown")
        self.asked = _Asked("day_again", answer)
        return Question(text, answer, "day")

    def _price(self) -> Question:
        rng, business = self.rng, self.business
        known = list(business.prices)
        service = rng.choice(known) if known and rng.random() < 0.85 else rng.choice(_THREE)
        own = _OWN_WORDS.get(service)
        if own and rng.random() < 0.6:
            text = self._of(own)
        elif rng.random() < 0.12:
            text = tidy(expand(rng.choice(_BARE), rng, {"service": service}))
        elif rng.random() < _GUESSED:
            text = self._of("price_guess", service=service)
        else:
            intent = "offered" if rng.random() < 0.12 else "price"
            text = self._of(intent, phrases.CALLER.get(intent, ()), service=service)
        answer = business.prices.get(service)
        if not answer:
            return Question(text, replies.UNKNOWN, "unknown")
        self.asked = _Asked("price_again", answer)
        return Question(text, answer, "fact")

    def _unknown(self) -> Question:
        if any(service not in _THREE for service in self.business.prices):
            return self._told("address")
        return Question(self._of("unknown_dental"), replies.UNKNOWN, "unknown")

    def _told(self, key: str) -> Question:
        own = _WRITTEN[key]
        if key in _TOPICS and self.rng.random() < 0.2:
            file, name = _TOPICS[key]
            own = corpus.topics()[file][name].questions
        if self.rng.random() < _GUESSED and (guesses := corpus.callers(f"{key}_guess")):
            text = domain.said(self.rng, guesses, test=self.test)
        else:
            text = self._of(key, own, **slots(self.rng, self.business.trade, "dollars"))
        answer = self.business.facts.get(key)
        if answer and corpus.callers(f"{key}_again"):
            self.asked = _Asked(f"{key}_again", answer)
        return Question(text, answer or replies.UNKNOWN, "fact" if answer else "unknown")


def desk_dialogue(
    rng: random.Random,
    business: Business,
    tools: list[dict[str, Any]] | None = None,
    *,
    test: bool = False,
    greeting: str = "",
) -> Dialogue:
    """A conversation of 4 to 14 turns; bookings are more frequent than elsewhere."""
    tools = tools or offered_tools(rng)
    talk = Desk(rng, tools, test=test, business=business, greeting=greeting)
    return talk.run(rng.randint(4, 14), {"start_booking": 40, "ask": 44, "small": 14})


def dental_dialogue(rng: random.Random, *, test: bool = False) -> Dialogue:
    """A conversation with any dental practice."""
    return desk_dialogue(rng, dental_business(rng), test=test)


def desk_quiz(rng: random.Random, business: Business) -> Dialogue:
    """Questions alone."""
    talk = Desk(rng, offered_tools(rng), business=business)
    for _ in range(rng.randint(4, 9)):
        talk.ask(rng.choice((1, 2)))
    return talk.dialogue
