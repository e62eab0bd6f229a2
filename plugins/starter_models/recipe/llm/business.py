# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 (phrases are best read on one line)
"""Random businesses: the sentences of their prompt, and the right answer to every question."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from recipe.domain import WEEKDAYS, Clock
from recipe.grammar import expand, tidy
from recipe.llm import corpus, topics, words
from recipe.llm.corpus import Topic
from recipe.llm.hours import Hours, random_hours, spoken_span

_WIDE = 0.7  # share of businesses that tell what the corpus tells

_ROLES = (
    "You are the receptionist of {name}.", "You are the receptionist at {name}, a {noun}.",
    "You are the (friendly |phone |)receptionist of {name}.",
    "You answer the phone (for|at) {name}.", "You are the (voice |phone |)assistant of {name}.",
    "You work at the (front |reception |)desk of {name}.", "This is the front desk of {name}.",
    "You are the front desk of {name}.", "You take calls for {name}[, a {noun}].",
)  # fmt: skip
_MANNERS = (
    "Be brief[ and friendly].", "Answer in short sentences.", "Keep your answers short.",
    "If you do not know something, say so.", "Be polite.", "You speak with callers on the phone.",
    "You can book appointments.", "Help callers and book appointments.", "Never make things up.",
    "Say goodbye and end the call when the caller is done.",
)  # fmt: skip
_PRICES = (
    "{A} costs {p}.", "{A} costs {p}.", "{A} is {p}.", "{S} are {p}.", "{S} cost {p}.", "We charge {p} for {a}.",
    "The price of {a} is {p}.", "For {a} we (charge|ask) {p}.", "{A} is priced at {p}.", "You pay {p} for {a}.",
    "{A} starts at {p}.", "The (price|fee|charge) for {a} is {p}.", "{S} start at {p}.", "{A} will cost {p}.",
)  # fmt: skip


@dataclass
class Business:
    """A made-up company.

    Attributes:
        prompt: the system message.
        today: a weekday.
        facts: topic to the sentences that answer it, word for word in the prompt.
        prices: service to the answer about its price.
        oddments: thing that no topic foresees to the sentence about it.
        near: "today" and "tomorrow" to the sentence of the prompt about that day, where it has one.
        wide: the facts beyond hours, address and prices are of `recipe.llm.corpus`, under "file/topic".
    """

    name: str
    trade: words.Trade
    today: str
    hours: Hours
    prompt: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    prices: dict[str, str] = field(default_factory=dict)
    oddments: dict[str, str] = field(default_factory=dict)
    near: dict[str, str] = field(default_factory=dict)
    wide: bool = False

    def weekday(self, day: str) -> str:
        """The weekday that `today` or `tomorrow` is."""
        offset = {"today": 0, "tomorrow": 1}.get(day)
        if offset is None:
            return day
        return WEEKDAYS[(WEEKDAYS.index(self.today) + offset) % 7]

    def is_open(self, day: str) -> bool:
        """Whether it may open on that day: where the prompt tells no hours, any day may be."""
        return not self.hours.said or self.weekday(day) in self.hours.said

    def day_answer(self, day: str) -> str:
        """When it is open on that day, or "" where the prompt does not tell."""
        if not self.hours.said:
            return ""
        said = self.hours.said.get(self.weekday(day))
        on = day.capitalize() if day in ("today", "tomorrow") else f"On {day}"
        if said is None:
            return f"I'm sorry, we are closed {on[0].lower() + on[1:]}."
        if day in self.near:
            return self.near[day]
        return tidy(f"{on} we are open {said}.")

    def tell_near_days(self) -> str:
        """The sentences about today and tomorrow, as the box writes them; they become the answers."""
        for day in ("today", "tomorrow"):
            span = self.hours.span.get(self.weekday(day))
            open_then = f"open {spoken_span(*span)}" if span else "closed"
            self.near[day] = f"{day.capitalize()} we are {open_then}."
        return " ".join(self.near.values())

    def takes(self, day: str, clock: Clock) -> bool:
        """Whether it is open then; unknown closing times count as open."""
        if not self.hours.said:
            return True
        span = self.hours.span.get(self.weekday(day))
        return span is not None and span[0] <= clock.hour + clock.minute / 60 < span[1]


def article(noun: str) -> str:
    """The noun with "a" or "an"."""
    return ("an " if noun[0].lower() in "aeio" or noun.startswith(("MOT", "X-")) else "a ") + noun


def plural(noun: str) -> str:
    """The plural of a service."""
    if noun.startswith(("pair of", "signature", "pass")) or noun.endswith(("glasses", "s")):
        return noun
    if noun.endswith(("ch", "sh", "x")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def slots(rng: random.Random, trade: words.Trade, currency: str) -> dict[str, str]:
    """Random values for the slots of the topics' sentences."""
    street = words.street(rng)
    place = rng.choice(words.PLACES).replace("_", " ")
    number = words.number(rng, 1, 250) if rng.random() < 0.93 else str(rng.randint(1, 250))
    site = (rng.choice(words.BRAND_WORDS).lower().replace("_", "") + trade.pro).replace(" ", "")
    return {
        "street": street,
        "address": f"{number} {street}",
        "landmark": expand(
            rng.choice(("", "", ", (next to|opposite|behind|near|across from|by|just off) the {place}",
                        ", on the (first|second|ground|top) floor", ", above the {place}",
                        ", five minutes from the {place}", ", in {proper}")), rng,
            {"place": place, "proper": words.made_up(rng)},
        ),
        "place": place, "num": words.number(rng, 2, 60), "cur": currency, "trade": trade.noun,
        "pro": trade.pro, "title": rng.choice(("Doctor", "Mister", "Miss", "Doctor")),
        "surname": rng.choice(words.SURNAMES) if rng.random() < 0.5 else words.made_up(rng),
        "digits": words.spoken_digits(rng), "lang": rng.choice(words.LANGUAGES),
        "mail": f"{rng.choice(('info', 'hello', 'office', 'desk'))} at {site} dot com",
        "web": f"{site} dot com", "hour": rng.choice(["eleven", "twelve", "one", "two", "three"]),
        "weekday": rng.choice(WEEKDAYS), "proper": words.made_up(rng),
    }  # fmt: skip


def _price(rng: random.Random, currency: str) -> str:
    draw = rng.random()
    if draw < 0.04:
        return "free"
    if draw < 0.08:
        return (
            f"${rng.randint(5, 300)}"
            if currency == "dollars"
            else f"{rng.randint(5, 300)} {currency}"
        )
    if draw < 0.14:
        return f"{words.number(rng, 3, 99)} {currency} fifty"
    return f"{words.number(rng, 5, 300)} {currency}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def priced(rng: random.Random, business: Business, currency: str, count: int | None = None) -> str:
    """Sentences with the prices of so many services, or of up to four; they become the business's."""
    count = rng.choice((0, 1, 2, 2, 3, 3, 3, 4)) if count is None else count
    chosen = rng.sample(business.trade.services, min(count, len(business.trade.services)))
    if rng.random() < 0.15 and chosen:
        chosen[-1] = words.made_up(rng).lower() + rng.choice((" test", " check", " treatment", ""))
    if len(chosen) > 1 and rng.random() < 0.2:
        return _price_list(rng, business, chosen, currency)
    pattern = rng.choice(_PRICES)
    lines = []
    for service in chosen:
        pattern = rng.choice(_PRICES) if rng.random() < 0.25 else pattern
        price = _price(rng, currency)
        own = pattern if price != "free" else rng.choice(("{A} is {p}.", "{S} are {p}."))
        names = {"a": article(service), "A": _capital(article(service)),
                 "S": _capital(plural(service)), "p": price}  # fmt: skip
        line = expand(own, rng, names)
        business.prices[service] = line
        lines.append(line)
    return " ".join(lines)


def _price_list(rng: random.Random, business: Business, chosen: list[str], currency: str) -> str:
    """All prices in one sentence; the answer about one of them is a sentence of its own."""
    values = [words.number(rng, 5, 200) for _ in chosen]
    many = rng.random() < 0.5
    verb = rng.choice(("are", "cost") if many else ("is", "costs"))
    nouns = [plural(s) if many else article(s) for s in chosen]
    short = rng.random() < 0.5
    parts = []
    for i, (noun, value) in enumerate(zip(nouns, values, strict=True)):
        said_verb = "" if short and i else f" {verb}"
        unit = "" if short and i else f" {currency}"
        parts.append(f"{noun}{said_verb} {value}{unit}")
        business.prices[chosen[i]] = f"{_capital(noun)} {verb} {value} {currency}."
    return _capital(", ".join(parts[:-1]) + rng.choice((" and ", ", and ")) + parts[-1] + ".")


def _oddment(rng: random.Random) -> tuple[str, str]:
    """A fact about a thing that no topic foresees: it is found by its word alone."""
    thing = rng.choice(words.NOUNS) if rng.random() < 0.7 else words.made_up(rng).lower()
    line = expand(
        rng.choice(
            ("The {t} is (closed|open|free|new|on the {o} floor|for guests only|behind the house|next to the {p}) [on {d}|in the evening|at the moment|].",
             "We (have|sell|offer|lend) (a|the|no|our own) {t}[ for {n} dollars| for guests| on {d}].",
             "You can (use|borrow|rent|buy|try|bring) (the|a|our|your own) {t}[ for free| for {n} dollars| on {d}].",
             "(Our|The) {t} (costs {n} dollars|starts at {h}|ends at {h}|is on {d}|takes {n} minutes|is included).",
             "Ask for (the|our) {t}[ at the desk].", "There is (a|no) {t}[ on the {o} floor| in the yard| behind the desk].")
        ),
        rng,
        {"t": thing, "o": rng.choice(("first", "second", "third", "top")), "d": rng.choice(WEEKDAYS),
         "p": rng.choice(words.PLACES).replace("_", " "), "n": words.number(rng, 2, 60),
         "h": rng.choice(["nine", "ten", "eleven", "noon", "six", "seven", "eight"])},
    )  # fmt: skip
    return thing, tidy(line)


def random_business(
    rng: random.Random, rich: float | None = None, *, days: bool = True, wide: bool | None = None
) -> Business:
    """A business with some of all possible facts in its prompt.

    Args:
        rng: all chance.
        rich: how many facts, 0 to 1; by default any number.
        days: the prompt tells opening hours and today's weekday.
        wide: the facts are of the corpus; by default of most.
    """
    trade = rng.choice(words.TRADES)
    brand = (
        rng.choice(words.BRAND_WORDS).replace("_", " ")
        if rng.random() < 0.5
        else words.made_up(rng)
    )
    name = f"{brand} {rng.choice(trade.name_words)}"
    if rng.random() < 0.1:
        name = rng.choice((f"The {brand}", f"{brand} and {words.made_up(rng)}", f"{brand}'s"))
    hours = random_hours(rng) if days else Hours()
    business = Business(name, trade, rng.choice(WEEKDAYS), hours)
    currency = rng.choice(words.CURRENCIES)
    values = slots(rng, trade, currency)
    told: list[str] = []
    if rich is None:
        rich = rng.choice((0.4, 0.9, 1.0, 1.0))  # short prompts make room for more answers
    if business.hours.text:
        business.facts["hours"] = business.hours.text
        told.append(business.hours.text)
    business.wide = rng.random() < _WIDE if wide is None else wide
    wanted = {"address": topics.ADDRESS} if rng.random() < 0.95 * rich else {}
    wanted |= _wide_topics(rng, rich) if business.wide else _usual_topics(rng, rich)
    for key, topic in wanted.items():
        values |= {"num": words.number(rng, 2, 60), "lang": rng.choice(words.LANGUAGES)}
        business.facts[key] = tidy(expand(rng.choice(topic.facts), rng, values))
        told.append(business.facts[key])
    prices = priced(rng, business, currency) if rng.random() < rich + 0.2 else ""
    if prices:
        business.facts["prices"] = prices
        told.append(prices)
    services = _services_line(rng, business)
    if services:
        business.facts["services"] = services
        told.append(services)
    for _ in range(rng.choice((0, 0, 0, 0, 1)) if rich > 0.5 else 0):
        thing, line = _oddment(rng)
        if thing not in business.oddments:
            business.oddments[thing] = line
            told.append(line)
    business.prompt = prompt_of(rng, business, told, days=days)
    return business


def _usual_topics(rng: random.Random, rich: float) -> dict[str, Topic]:
    """Topics as of `recipe.llm.topics`."""
    shares = {"parking": 0.8, "payment": 0.8}
    return {
        key: topic
        for key, topic in topics.EXTRA.items()
        if rng.random() < shares.get(key, 0.045) * rich
    }


def _wide_topics(rng: random.Random, rich: float) -> dict[str, Topic]:
    """Topics of the corpus, two thirds of them of one file, none likely to be about the same."""
    files = corpus.topics()
    own = rng.choice(list(files))
    chosen: dict[str, Topic] = {}
    for _ in range(round(rng.choice((3, 6, 9, 12, 15)) * rich)):
        file = own if rng.random() < 0.66 else rng.choice(list(files))
        name = rng.choice(list(files[file]))
        if not clashes(file, name, chosen):
            chosen[f"{file}/{name}"] = files[file][name]
    return chosen


def clashes(file: str, name: str, held: Iterable[str]) -> bool:
    """Whether a topic is, or may be about the same as, one of those under "file/topic"."""
    for key in held:
        other_file, _, other = key.partition("/")
        if other and (other == name if other_file == file else corpus.near(name, other)):
            return True
    return False


def _services_line(rng: random.Random, business: Business) -> str:
    if rng.random() > 0.25:
        return ""
    chosen = list(business.prices)[:4] or rng.sample(business.trade.services, 3)
    nouns = [plural(service) for service in chosen]
    listed = ", ".join(nouns[:-1]) + " and " + nouns[-1] if len(nouns) > 1 else nouns[0]
    return expand(
        rng.choice(("We (offer|do|provide) {l}.", "Our services are {l}.")), rng, {"l": listed}
    )


def prompt_of(rng: random.Random, business: Business, told: list[str], *, days: bool = True) -> str:
    """The system message that tells these sentences, and today's weekday where `days`."""
    role = expand(rng.choice(_ROLES), rng, {"name": business.name, "noun": business.trade.noun})
    date = expand(
        rng.choice(("Today is {d}.", "Today is {d}.", "Today is {d}.", "It is {d} today.", "Today is {d}, the (first|third|tenth|twelfth|twentieth) of (May|June|March).")),
        rng, {"d": business.today},
    )  # fmt: skip
    if rng.random() < 0.5:
        rng.shuffle(told)
    dated = [date] if days else []
    whole = [role, *dated, *told] if rng.random() < 0.85 else [role, *told, *dated]
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        whole.insert(rng.choice((1, len(whole))), expand(rng.choice(_MANNERS), rng))
    return (" " if rng.random() < 0.12 else "\n").join(whole)
