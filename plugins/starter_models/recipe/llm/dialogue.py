# SPDX-License-Identifier: Apache-2.0
"""Random telephone dialogues with the right answer to every turn, as one pass of a small state."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from recipe import domain, phrases
from recipe.domain import Clock
from recipe.grammar import choose, expand, tidy
from recipe.llm import corpus, noise, replies, words
from recipe.llm.business import Business, random_business

_BEFORE, _BEHIND = 0.12, 0.06  # shares of the caller's sentences with a remark before or behind it
_ASIDE = 0.3  # share of the sentences of the wider corpus that say more than was asked
_ASIDES = {
    "give_name": "name_aside", "give_day": "day_aside", "give_time": "time_aside",
    "change_day": "same_time", "change_time": "same_day",
}  # fmt: skip
_BARE = 0.15  # share of answers to the agent's question that are the value alone
_PLAIN = 0.35  # share of the caller's sentences that the recognizer's grammar has too
_LEARNED = 0.9  # share of the agent's turns in the taught wording, which alone are trained


@dataclass
class Message:
    """One message of a dialogue.

    Attributes:
        learn: it is an answer that the model is to give.
        kind: what sort of answer it is, for the scores.
    """

    role: str
    text: str = ""
    call: tuple[str, dict[str, str]] | None = None
    learn: bool = False
    kind: str = ""


@dataclass
class Dialogue:
    """A system prompt, the offered tools (OpenAI function definitions) and the messages."""

    system: str
    tools: list[dict[str, Any]]
    messages: list[Message] = field(default_factory=list)


class Writer:
    """Writes one dialogue.

    Args:
        rng: all chance.
        test: draw the caller's sentences from held-out templates (True) or the others (False).
        business: whom the agent works for; by default a random one.
        greeting: the agent's first words; by default random ones.
    """

    def __init__(
        self,
        rng: random.Random,
        tools: list[dict[str, Any]],
        *,
        test: bool = False,
        business: Business | None = None,
        greeting: str = "",
    ) -> None:
        self.rng = rng
        self.test = test
        self.business = business or random_business(rng)
        self.dialogue = Dialogue(self.business.prompt, tools)
        self.names = {tool["function"]["name"] for tool in tools}
        self.day: str | None = None
        self.clock: Clock | None = None
        self.name: str | None = None
        self.booking = False
        self.refused = ""  # the agent's last question after a refusal, while it is open
        self.answered = False
        self.last = expand(choose(replies.GREETINGS, rng), rng, {"n": self.business.name})
        self.last = greeting or tidy(self.last)
        self.cut = ""  # what the agent was saying when the caller broke in
        self.over = False
        self._say(self.last, learn=False)

    # -- the agent's side ------------------------------------------------------------------

    def _say(
        self, text: str, call: tuple[str, dict[str, str]] | None = None, *, learn: bool = True,
        kind: str = "",
    ) -> None:  # fmt: skip
        self.dialogue.messages.append(Message("assistant", text, call, learn, kind))
        if text:
            self.last = text

    def pending(self) -> str:
        """The question that is open in a booking, or ""."""
        if not self.booking:
            return ""
        if self.refused:
            return self.refused.split(". ")[1]
        if self.day is None:
            return replies.ASK_DAY
        if self.clock is None:
            return replies.ask_time(self.day)
        return replies.ASK_NAME if self.name is None else ""

    def answer(self, text: str, kind: str, tail: str = "") -> None:
        """Say it, with the open question or else the tail behind it."""
        rng = self.rng
        full = " ".join(part for part in (text, self.pending() or tail) if part)
        self.cut = ""
        self.answered = kind not in ("wait", "greet", "stop")
        count = len(full.split())
        if kind in ("fact", "hours", "day") and count > 4 and rng.random() < 0.07:
            self._say(" ".join(full.split()[: rng.randint(2, count - 2)]), learn=False)
            self.cut = full
        elif rng.random() < _LEARNED or self.test:
            self._say(full, kind=kind)
        else:
            self._say(replies.reworded(full, rng, self.business.name), learn=False)

    def hear(self, text: str) -> None:
        """The caller says it."""
        if not self.test or self.rng.random() < 0.3:
            text = noise.roughen(text, self.rng)
        if self.cut and self.rng.random() < 0.5:
            opener = expand(
                "(sorry|wait|hold on|actually|excuse me|stop|no|okay, okay|right)(, |. )", self.rng
            )
            text = opener.capitalize() + domain.small_start(text)
        self.dialogue.messages.append(Message("user", text))

    def said(self, intent: str, **values: str) -> str:
        """A caller's sentence of an intent."""
        rng = self.rng
        plain, wide = phrases.CALLER.get(intent, ()), corpus.callers(intent)
        if rng.random() < _ASIDE:
            wide = corpus.callers(_ASIDES.get(intent, "")) or wide
        templates = plain if plain and (not wide or rng.random() < _PLAIN) else wide
        return self.with_aside(domain.said(rng, templates, test=self.test, **values))

    def with_aside(self, text: str) -> str:
        """At times what is said comes with a remark that asks for nothing."""
        rng, draw = self.rng, self.rng.random()
        if draw < _BEFORE:
            return f"{domain.said(rng, corpus.callers('remark'), test=self.test)} {text}"
        if draw < _BEFORE + _BEHIND:
            return f"{text} {domain.said(rng, corpus.callers('remark'), test=self.test)}"
        return text

    # -- booking ---------------------------------------------------------------------------

    def proceed(self, lead: str = "") -> None:
        """After a slot changed: refuse a closed day, ask for what is missing, or book."""
        self.refused = ""
        missing = self.clock is None or self.name is None
        if self.day and missing and not self.business.is_open(self.day):
            answer = self.business.day_answer(self.day)
            self.day = None
            self.refused = ""
            self.answer_refusal(lead, replies.closed_day(answer))
            return
        if self.day is None or missing:
            self.answer(lead, "ask")
            return
        if "book_appointment" not in self.names:
            self.booking = False
            self.answer(replies.CANNOT, "cannot", replies.ELSE)
            return
        self.book()

    def answer_refusal(self, lead: str, text: str) -> None:
        """Refuse with a question that stays open."""
        self.refused = ""
        booking, self.booking = self.booking, False
        self.answer(f"{lead} {text}".strip(), "closed_day")
        self.booking = booking

    def book(self) -> None:
        """Call the tool, take a result, say it."""
        rng = self.rng
        assert self.day
        assert self.clock
        assert self.name
        arguments = {"name": self.name, "day": self.day, "time": self.clock.argument}
        lead = (
            ""
            if rng.random() < 0.9
            else rng.choice(("One moment, please.", "Let me book that.", "I'll book that for you."))
        )
        self._say(lead, ("book_appointment", arguments), learn=not lead, kind="book")
        reason = ""
        if not self.business.takes(self.day, self.clock) and rng.random() < 0.6:
            reason = "closed"
        elif rng.random() < 0.2:
            reason = rng.choice(("taken", "taken", "closed", "past", "unknown day", "unknown time"))
        result = (
            f'{{"ok": false, "reason": "{reason}"}}' if reason else
            f'{{"ok": true, "day": "{self.day}", "time": "{self.clock.argument}", "name": "{self.name}"}}'
        )  # fmt: skip
        if rng.random() < 0.15:
            result = result.replace(", ", ",").replace(": ", ":")
        self.dialogue.messages.append(Message("tool", result))
        self.cut = ""
        if reason:
            self.refused = replies.REFUSED[reason]
            text = self.refused
        else:
            self.booking = False
            text = replies.booked(self.day, self.clock, self.name)
        learn = rng.random() < _LEARNED or self.test
        self._say(
            text if learn else replies.reworded(text, rng, self.business.name),
            learn=learn,
            kind="confirm" if not reason else "refuse",
        )
        self.answered = True

    def said_fix(self, intent: str, **values: str) -> str:
        """A sentence of the corpus alone, with these values."""
        return tidy(
            expand(choose(corpus.callers(intent), self.rng, test=self.test), self.rng, values)
        )

    def start_booking(self) -> None:
        """The caller wants to come, and gives any of day, time and name."""
        rng, give = self.rng, self.rng.random
        self.booking = True
        self.refused = ""
        whole = give() < 0.15  # everything in one breath
        self.day = domain.random_day(rng) if whole or give() < 0.5 else None
        self.clock = domain.random_clock(rng) if whole or give() < 0.4 else None
        name = words.caller_name(rng) if self.name is None and (whole or give() < 0.3) else None
        if rng.random() < 0.05 and not (self.day or self.clock):
            self.hear(f"{rng.choice(self.business.trade.complaints).capitalize()}.")
            self.name = self.name or None
        else:
            service = rng.choice(self.business.trade.services) if give() < 0.25 else None
            text = self.wish(self.day, self.clock, name, service)
            self.name = name or self.name
            self.hear(self._corrected(text))
        self.proceed()

    def wish(
        self, day: str | None, clock: Clock | None, name: str | None = None, service: str | None = None
    ) -> str:  # fmt: skip
        """The caller asks for an appointment."""
        rng = self.rng
        if day and clock and name and not service and rng.random() < 0.6:
            if rng.random() < 0.15:
                parts = [name, domain.day_phrase(rng, day, clock), clock.spoken(rng)]
                rng.shuffle(parts)
                return tidy(", ".join(parts) + ".")
            when = domain.when_phrase(rng, day, clock)
            return self.with_aside(self.said_fix("book_all", name=name, when=when))
        if rng.random() < 0.4:
            text = domain.booking_text(
                rng, day=day, clock=clock, name=name, service=service, test=self.test
            )
            return self.with_aside(text)
        thing = rng.choice(("an appointment", "an appointment", "a slot", "a booking", "a visit"))
        if service:
            thing = rng.choice((f"a {service}", f"a {service} appointment"))
        when, on_day = domain.when_phrase(rng, day, clock), domain.when_phrase(rng, day, None)
        intent = "book_day" if day and not clock else "book_when" if when else "book"
        text = domain.said(
            rng, corpus.callers(intent), test=self.test, thing=thing, when=when, on_day=on_day
        )
        if name:
            intro = expand(choose(phrases.NAME_WITH, rng, test=self.test), rng, {"name": name})
            text = f"{text} {intro}" if rng.random() < 0.8 else f"{intro} {text}"
        return self.with_aside(tidy(text))

    def _corrected(self, text: str) -> str:
        """At times the caller corrects the day in the same breath."""
        rng = self.rng
        if self.day in domain.WEEKDAYS and f" {self.day}" in text and rng.random() < 0.05:
            wrong = rng.choice([d for d in domain.WEEKDAYS if d != self.day])
            repair = self.said_fix("fix_day", day=self.day, wrong=wrong)
            return text.replace(f" {self.day}", f" {repair}", 1)
        if self.day in domain.WEEKDAYS and f" {self.day}" in text and rng.random() < 0.06:
            wrong = rng.choice([d for d in domain.WEEKDAYS if d != self.day])
            repair = rng.choice(
                (", no, ", ", sorry, ", ", I mean ", ", no wait, ", ", or rather ", " no ")
            )
            return text.replace(f" {self.day}", f" {wrong}{repair}{self.day}", 1)
        return text

    def give_slots(self) -> None:
        """The caller answers the open question, at times with more than was asked."""
        rng, give = self.rng, self.rng.random
        open_day = self.day is None or (self.refused and give() < 0.4)
        open_time = self.clock is None or (self.refused and give() < 0.8)
        day = domain.random_day(rng) if open_day and (self.day is None or give() < 0.5) else None
        clock = domain.random_clock(rng) if open_time and (not day or give() < 0.4) else None
        if day is None and clock is None and self.refused:
            clock = domain.random_clock(rng)
        name = None
        if self.name is None and (not (day or clock) or give() < 0.2):
            name = words.caller_name(rng)
        self._hear_slots(day, clock, name)

    def _hear_slots(self, day: str | None, clock: Clock | None, name: str | None) -> None:
        rng = self.rng
        if clock and rng.random() < 0.07:
            wrong = domain.random_clock(rng).spoken(rng)
            text = f"{wrong}{rng.choice((', no, ', ', sorry, ', ', I mean ', ', no wait, ', ', or rather '))}"
            said_time = text + clock.spoken(rng)
            if rng.random() < 0.5:
                said_time = self.said_fix("fix_time", time=clock.spoken(rng), wrong=wrong)
        else:
            said_time = clock.spoken(rng) if clock else ""
        said_day = domain.day_phrase(rng, day, clock) if day else ""
        intent = "give_time"
        if day and clock:
            intent = "give_when"
        elif day and self.refused and self.clock and rng.random() < 0.5:
            intent = "change_day"
        elif day:
            intent = "give_day"
        elif name and not clock:
            intent = "give_name"
        when = domain.when_phrase(rng, day, clock)
        on_day = domain.when_phrase(rng, day, None) if day else ""
        text = self.said(
            intent, day=said_day, time=said_time, when=when, on_day=on_day, name=name or ""
        )
        bare = {"give_name": name, "give_time": said_time, "give_day": said_day}.get(intent)
        if bare and rng.random() < _BARE:
            text = tidy(f"{bare}.")
        if day and not clock:
            text = self._corrected(text)
        if intent == "give_name" and rng.random() < 0.06:
            text = self.said_fix("fix_name", name=name or "", wrong=words.caller_name(rng))
        if name and (day or clock):
            text = self._with_name(text, name, said_day, said_time, when)
        self.day, self.clock, self.name = day or self.day, clock or self.clock, name or self.name
        self.hear(text)
        self.proceed()

    def _with_name(self, text: str, name: str, day: str, time: str, when: str) -> str:
        """What gives a day or a time gives the name too."""
        rng, draw = self.rng, self.rng.random()
        if day and time and draw < 0.4:
            return self.said("name_and_when", name=name, when=when)
        if not day and draw < 0.5:
            return self.said_fix("name_time", name=name, time=time)
        if draw < 0.6:
            parts = [part for part in (name, day, time) if part]
            rng.shuffle(parts)
            return tidy(", ".join(parts) + ".")
        plain = choose(phrases.NAME_WITH, rng, test=self.test)
        wide = choose(corpus.callers(rng.choice(("give_name", "name_aside"))), rng, test=self.test)
        intro = tidy(expand(rng.choice((plain, wide)), rng, {"name": name}))
        return tidy(f"{text} {intro}" if draw < 0.85 else f"{intro} {text}")

    def change(self) -> None:
        """The caller changes what was given, also after the booking: it is booked anew."""
        rng = self.rng
        have = [
            kind
            for kind, value in (("day", self.day), ("time", self.clock), ("name", self.name))
            if value
        ]
        kind = rng.choice([k for k in have if k != "name" or rng.random() < 0.4] or have)
        self.booking = True
        if kind == "day" and self.clock and rng.random() < 0.25:
            self.day, self.clock = domain.random_day(rng), domain.random_clock(rng)
            when = domain.day_phrase(rng, self.day, self.clock)
            when += rng.choice((" at ", " at ", ", ", " around ")) + self.clock.spoken(rng)
            text = self.said("change_day", day=when)
        elif kind == "day":
            before = self.day
            self.day = domain.random_day(rng)
            text = self.said("change_day", day=domain.day_phrase(rng, self.day))
            if before in domain.WEEKDAYS and self.day != before and rng.random() < 0.2:
                text = expand(
                    f"(not {before}, {self.day}|{self.day}, not {before}"
                    f"|{self.day} instead of {before})[, please].",
                    rng,
                )
        elif kind == "time":
            self.clock = domain.random_clock(rng)
            text = self.said("change_time", time=self.clock.spoken(rng))
        else:
            self.name = words.caller_name(rng)
            text = self.said("change_name", name=self.name)
        self.hear(tidy(text))
        self.proceed()
