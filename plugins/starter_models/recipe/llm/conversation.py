# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 (phrases are best read on one line)
"""Whole conversations: questions, small talk, bookings and goodbyes in a random order."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from recipe import domain, phrases
from recipe.grammar import expand, tidy
from recipe.llm import corpus, noise, replies, topics, words
from recipe.llm.business import article, clashes, plural, random_business, slots
from recipe.llm.dialogue import Dialogue, Writer

# What a caller does next, and how often: while an appointment is being made, and else.
_IN_BOOKING = {
    "give_slots": 66, "change": 8, "ask": 9, "small": 10, "vague": 3, "elsewhere": 2, "nonsense": 2,
}  # fmt: skip
_IDLE = {
    "ask": 46, "start_booking": 16, "ask_and_book": 3, "change": 4, "elsewhere": 5, "nonsense": 3, "small": 23,
}  # fmt: skip
_CORE = {"hours": 18, "address": 17, "parking": 13, "payment": 12, "prices": 6, "services": 4}
"""What most callers ask for, and how often."""
_ALSO = {
    "parking": ("premises", "car parking where"),
    "payment": ("money", "cards and cash"),
    "phone": ("company", "phone number"),
    "email": ("company", "email address"),
}
"""Topics of the corpus (file and name) whose questions topics beside it answer too."""
_OPEN_QUESTIONS = (
    "(do you have|is there|have you got) (a|any|the) {t}[ there]?", "(what about|how about|and|tell me about) the {t}[?]",
    "(where|when|how much|what) is the {t}?", "(can|could|may) I (use|get|have|buy|rent|try|see|bring|borrow) (a|the|my) {t}?",
    "(I|I'd like to) (want|ask about|know about|need) the {t}[, please].", "how does the {t} work?", "what does the {t} cost?", "is the {t} (open|free|included|available)?",
    "(do you|can you) (sell|offer|have|do) {t}s?", "I heard (you have|there is|about) a {t}[, is that right].",
)  # fmt: skip
_ASK_PRICE_TOO = (
    "(what about|and|how about) (a|the) {s}?",
    "and {s}s?",
    "{s}?",
    "and what does the {s} cost?",
)


@dataclass(frozen=True)
class Question:
    """A question about the business, with its answer.

    Attributes:
        kind: what sort of answer it is; "unknown" where the prompt has none.
    """

    text: str
    answer: str
    kind: str


class Conversation(Writer):
    """Adds to the booking all else that a caller says."""

    def question(self) -> Question:
        """A question about the business."""
        draw = self.rng.random()
        if draw < (0.18 if self.business.wide else 0.3):
            return self._day_question()
        if draw < (0.3 if self.business.wide else 0.48):
            return self._price_question()
        if draw < 0.94:
            return self._topic_question()
        return self._thing_question()

    def _day_question(self) -> Question:
        rng = self.rng
        day = domain.random_day(rng)
        on_day = domain.when_phrase(rng, day, None)
        if rng.random() < 0.25:
            when = domain.when_phrase(rng, day, domain.random_clock(rng))
            text = domain.said(rng, corpus.callers("hours_time"), test=self.test, when=when)
        else:
            text = self.said("hours_day", day=domain.day_phrase(rng, day), on_day=on_day)
        if self.booking and any(
            text.lower().startswith(s) for s in ("what about", "how about", "and ", "open")
        ):
            text = f"Are you open {on_day}?"
        answer = self.business.day_answer(day)
        if not answer:
            return Question(text, replies.UNKNOWN, "unknown")
        return Question(text, answer, "day")

    def _price_question(self) -> Question:
        rng, business = self.rng, self.business
        known = list(business.prices)
        service = (
            rng.choice(known)
            if known and rng.random() < 0.8
            else rng.choice(business.trade.services)
        )
        short = service.split()[-1]
        if (
            service in known
            and " " in service
            and sum(k.endswith(short) for k in known) == 1
            and rng.random() < 0.15
        ):
            said = short
        else:
            said = service
        intent = "offered" if rng.random() < 0.12 else "price"
        text = self.said(intent, service=said)
        if rng.random() < 0.1:
            many = expand(
                rng.choice(
                    (
                        "how much are {p}?",
                        "what do {p} cost?",
                        "{p}, how much?",
                        "what are your prices for {p}?",
                        "do you do {p}?",
                        "and {p}?",
                    )
                ),
                rng,
                {"p": plural(said)},
            )
            text = tidy(many)
        for wrong, right in ((f"a {said}", article(said)), (f"a the {said}", f"the {said}")):
            text = text.replace(wrong, right)
        answer = business.prices.get(service)
        if not answer:
            return Question(text, replies.UNKNOWN, "unknown")
        return Question(text, answer, "fact")

    def _wide_question(self) -> Question:
        """Of the corpus: mostly one that the prompt answers."""
        rng, facts = self.rng, self.business.facts
        files = corpus.topics()
        held = [key for key in facts if "/" in key]
        if held and rng.random() < 0.78:
            key = rng.choice(held)
            file, _, name = key.partition("/")
        else:
            file = rng.choice(held).partition("/")[0] if held and rng.random() < 0.5 else ""
            file = file or rng.choice(list(files))
            name = rng.choice([n for n in files[file] if not clashes(file, n, facts)])
            key = f"{file}/{name}"
        values = slots(rng, self.business.trade, "dollars")
        text = domain.said(rng, files[file][name].questions, test=self.test, **values)
        answer = facts.get(key)
        return Question(text, answer or replies.UNKNOWN, "fact" if answer else "unknown")

    def _topic_question(self) -> Question:
        rng, business = self.rng, self.business
        if business.wide and rng.random() < 0.7:
            return self._wide_question()
        draw = rng.random()
        extra = list(topics.EXTRA)
        if draw < 0.7 or business.wide:
            core = [key for key in _CORE if not business.wide or key not in topics.EXTRA]
            key = rng.choices(core, [_CORE[key] for key in core])[0]
        elif draw < 0.88 and (held := [k for k in extra if k in business.facts]):
            key = rng.choice(held)
        else:
            key = rng.choice(extra)
        if key in phrases.CALLER and key not in topics.EXTRA:
            templates = phrases.CALLER[key] if key != "address" else topics.ADDRESS.questions
        else:
            templates = topics.EXTRA[key].questions
        wide = corpus.callers(key)
        if key in _ALSO:
            file, name = _ALSO[key]
            wide = corpus.topics()[file][name].questions
        if wide and rng.random() < 0.6:
            templates = wide
        values = slots(rng, business.trade, "dollars")
        if key in ("languages", "insurance") and key in business.facts:
            templates = (
                tuple(t for t in templates if "{lang}" not in t and "{surname}" not in t)
                or templates
            )
        text = domain.said(rng, templates, test=self.test, **values)
        answer = business.facts.get(key)
        if key == "services" and not answer:
            answer = business.facts.get("prices")
        return Question(text, answer or replies.UNKNOWN, "fact" if answer else "unknown")

    def _thing_question(self) -> Question:
        """Asks after a thing by its word alone, which the prompt may mention or not."""
        rng = self.rng
        known = list(self.business.oddments)
        thing = rng.choice(known) if known and rng.random() < 0.6 else ""
        thing = thing or (
            rng.choice(words.NOUNS) if rng.random() < 0.6 else words.made_up(rng).lower()
        )
        text = domain.said(rng, _OPEN_QUESTIONS, test=self.test, t=thing)
        answer = self.business.oddments.get(thing)
        return Question(text, answer or replies.UNKNOWN, "fact" if answer else "unknown")

    def ask(self, tries: int = 1) -> None:
        """One question, at times two in one breath; of several tries, the first that can be answered."""
        for _ in range(tries):
            asked = self.question()
            if asked.kind != "unknown":
                break
        if asked.kind != "unknown" and self.rng.random() < 0.15:
            more = self.question()
            if more.kind != "unknown" and more.answer != asked.answer:
                self.hear(_joined(asked.text, more.text, self.rng))
                self.answer(f"{asked.answer} {more.answer}", "two")
                return
        self.hear(self.with_aside(asked.text))
        tail = replies.ELSE if asked.kind == "unknown" else ""
        self.answer(asked.answer, asked.kind, tail)

    def ask_and_book(self) -> None:
        """A question and the wish to book in one breath."""
        asked = self.question()
        day = domain.random_day(self.rng) if self.rng.random() < 0.5 else None
        self.booking, self.refused, self.clock = True, "", None
        self.day = day
        self.hear(f"{asked.text} {self.wish(day, None)}")
        self.proceed(asked.answer)

    def elsewhere(self) -> None:
        """Something that no reception desk does."""
        rng = self.rng
        values = {"food": rng.choice(words.FOODS), "goods": rng.choice(words.GOODS), "city": rng.choice(words.CITIES),
                  "country": rng.choice(words.COUNTRIES), "celebrity": words.caller_name(rng)}  # fmt: skip
        if rng.random() < 0.12:
            text = self.said("cancel")
        else:
            templates = rng.choice((topics.OUT_OF_DOMAIN, corpus.callers("out_of_domain")))
            text = domain.said(rng, templates, test=self.test, **values).replace("_", " ")
        self.hear(text)
        self.answer(replies.CANNOT, "cannot", replies.ELSE)

    def nonsense(self) -> None:
        """Nothing that can be understood."""
        self.cut = ""
        wide = self.rng.random() < 0.3
        said = domain.said(self.rng, corpus.callers("unintelligible"), test=self.test)
        self.hear(said if wide else noise.nonsense(self.rng))
        self.answer(replies.MISSED, "missed")

    def small(self) -> None:
        """Small talk, backchannels, holding the line: no question about the business."""
        rng = self.rng
        intent = rng.choice(
            ("how_are_you", "robot", "business", "person", "wait", "stop", "backchannel", "backchannel", "thanks", "thanks", "repeat", "repeat", "yes", "no", "greet", "wait")
        )  # fmt: skip
        pending = self.pending()
        last_else = "anything else" in self.last.lower()
        again = self.cut or self.last
        name = words.caller_name(rng)
        greeted = intent == "greet" and self.name is None and not pending and rng.random() < 0.6
        if greeted:
            text = expand(
                "(hi|hello|hey|good morning|good afternoon)(,| there,|.) (this is|my name is|I'm|it's) {name}[ speaking| here|].",
                rng,
                {"name": name},
            )
            text = tidy(text)
            self.name = name
        else:
            text = self.said(intent, name=name, day=rng.choice(domain.WEEKDAYS))
            if intent == "greet" and name in text:
                text = "Hello."
        if intent == "no" and last_else and not pending:
            self.goodbye(text)
            return
        self.hear(text)
        name_of = self.business.name
        fixed = {
            "how_are_you": (replies.FINE, replies.HELP), "robot": (f"I'm the automated assistant of {name_of}.", replies.HELP if not self.answered else ""),
            "business": (f"This is {name_of}.", replies.HELP if not self.answered else ""), "person": (replies.NO_TRANSFER, replies.HELP), "wait": (replies.WAIT, ""),
            "stop": (replies.STOP, replies.HELP), "thanks": (replies.WELCOME, replies.ELSE),
            "backchannel": ("", replies.ELSE if self.answered else replies.HELP),
            "yes": ("", replies.HELP), "no": ("", replies.ELSE if self.answered else replies.HELP),
            "greet": (f"Hello, {name}." if greeted else "" if pending else "Hello.", replies.HELP),
        }  # fmt: skip
        if intent == "repeat":
            self._repeat(again)
        elif intent == "wait":
            self._silent_answer(replies.WAIT)
        else:
            lead, tail = fixed[intent]
            self.answer(lead, "greet" if intent in ("greet", "how_are_you") else intent, tail)

    def _repeat(self, again: str) -> None:
        self.cut = ""
        self._say(again, kind="repeat")

    def _silent_answer(self, text: str) -> None:
        """An answer that leaves an open question open, without asking it again."""
        self.cut = ""
        self._say(text, kind="wait")

    def goodbye(self, text: str = "") -> None:
        """The caller takes leave; the agent says goodbye and hangs up."""
        self.hear(text or self.said("goodbye", day=self.rng.choice(domain.WEEKDAYS)))
        call = ("end_call", {}) if "end_call" in self.names else None
        learn = self.rng.random() < 0.8 or self.test
        farewell = replies.FAREWELL
        self._say(
            farewell if learn else replies.reworded(farewell, self.rng, self.business.name),
            call,
            learn=learn,
            kind="goodbye",
        )
        self.over = True

    def run(self, turns: int, idle: dict[str, int] | None = None) -> Dialogue:
        """Up to so many turns of the caller, then mostly a goodbye.

        `idle` changes how often a caller does what, outside a booking.
        """
        rng = self.rng
        at_rest = _IDLE | (idle or {})
        for _ in range(turns):
            table = _IN_BOOKING if self.booking else at_rest
            name = rng.choices(list(table), list(table.values()))[0]
            if name == "change" and not (
                self.complete() or (self.booking and (self.day or self.clock))
            ):
                name = "small"
            getattr(self, name)()
            if self.over:
                return self.dialogue
        if rng.random() < 0.85:
            self.goodbye()
        return self.dialogue

    def complete(self) -> bool:
        """Whether day, time and name are known."""
        return bool(self.day and self.clock and self.name)

    def vague(self) -> None:
        """An answer that fills no slot."""
        if self.pending() == replies.ASK_NAME or self.refused:
            self.hear(self.said("wait"))
            self._silent_answer(replies.WAIT)
            return
        self.hear(self.said("vague_day" if self.day is None else "vague_time"))
        self.answer("", "vague")


def _joined(first: str, second: str, rng: random.Random) -> str:
    """Two questions as one thing said."""
    if rng.random() < 0.5:
        return first + rng.choice((" ", " And ")) + second
    link = rng.choice((", and ", " and ", ", and also ", ", "))
    return first.rstrip(".?") + link + domain.small_start(second)


def offered_tools(rng: random.Random) -> list[dict[str, Any]]:
    """The tools of a dialogue, described in varied words; seldom one is missing or extra."""
    text = {"type": "string"}
    book = _tool(
        "book_appointment", rng.choice(_BOOK_SAYS), {"name": text, "day": text, "time": text}
    )
    tools = [book, _tool("end_call", rng.choice(_END_SAYS), {})]
    draw = rng.random()
    if draw < 0.02:
        tools = tools[:1]
    elif draw < 0.04:
        tools = tools[1:]
    if rng.random() < 0.12:
        name = "_".join(words.made_up(rng).lower() for _ in range(2))
        tools.append(
            _tool(
                rng.choice((name, "transfer_call", "send_sms", "take_message", "look_up_order")),
                rng.choice(_OTHER_SAYS),
                {words.made_up(rng).lower(): text},
            )
        )
    if rng.random() < 0.4:
        rng.shuffle(tools)
    return tools


_BOOK_SAYS = (
    "Books an appointment.", "Book an appointment.", "Book a slot in the calendar.", "Books a slot for the caller.", "Make a booking when name, day and time are known.", "Enters an appointment in the calendar.", "",
)  # fmt: skip
_END_SAYS = (
    "Ends the call.",
    "Hang up.",
    "End the call.",
    "Hangs up after the goodbye.",
    "Ends the call when the caller says goodbye.",
    "",
)
_OTHER_SAYS = (
    "Does something else.",
    "Looks up an order.",
    "Sends a message.",
    "Passes the call on.",
    "",
)


def _tool(name: str, description: str, properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def random_dialogue(rng: random.Random, *, test: bool = False) -> Dialogue:
    """One conversation of 4 to 14 turns."""
    return Conversation(rng, offered_tools(rng), test=test).run(rng.randint(4, 14))


def quiz(rng: random.Random) -> Dialogue:
    """Questions alone, most of which the prompt answers: to learn where to look."""
    rich, days = rng.choice((0.5, 0.7, 1.0)), rng.random() < 0.5
    business = random_business(rng, rich, days=days, wide=rng.random() < 0.85)
    talk = Conversation(rng, offered_tools(rng), business=business)
    for _ in range(rng.randint(4, 9)):
        talk.ask(rng.choice((1, 2, 4)))
    return talk.dialogue


def short_dialogue(rng: random.Random) -> Dialogue:
    """Little more than one appointment, or some questions that the prompt answers; a short prompt.

    What to look for in a prompt, and where, is learned from these: in most, the caller's are the only days.
    """
    days = rng.random() < 0.5
    business = random_business(rng, rng.choice((0.0, 0.2, 0.4, 0.7)), days=days)
    talk = Conversation(rng, offered_tools(rng), business=business)
    if rng.random() < 0.5:
        for _ in range(rng.randint(3, 6)):
            talk.ask(4)
        return talk.dialogue
    talk.start_booking()
    for _ in range(rng.randint(2, 5)):
        if talk.booking:
            talk.give_slots()
        elif rng.random() < 0.5:
            talk.change() if talk.complete() else talk.ask()
    if rng.random() < 0.3:
        talk.goodbye()
    return talk.dialogue
