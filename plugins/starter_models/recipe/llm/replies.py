# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 (phrases are best read on one line)
"""What the agent says: one wording to be learned, others that only stand in the history."""

from __future__ import annotations

import random

from recipe.domain import Clock
from recipe.grammar import expand, tidy

GREETINGS = (
    "{n}, good morning. How can I help you?", "{n}, good morning. How can I help you?", "(Good morning|Good afternoon|Hello|Hi|Welcome), (this is|you have reached|you're speaking to) {n}. (How can|What can|How may) I (help you|do for you)[ today]?",
    "{n}, (hello|good afternoon|how can I help|what can I do for you)?", "(Hello|Thank you for calling|Thanks for calling), {n}[ speaking]. (How can I help|How may I help you|What can I do for you)?",
)  # fmt: skip
HELP = "How can I help you?"
ELSE = "Is there anything else I can help with?"
ASK_DAY = "Which day would you like?"
ASK_NAME = "May I have your name, please?"
UNKNOWN = "I'm sorry, I don't know that."
CANNOT = "I'm sorry, I can't help with that."
MISSED = "I'm sorry, I didn't catch that."
WAIT = "Of course, take your time."
STOP = "All right."
WELCOME = "You're welcome."
FINE = "I'm fine, thank you."
NO_TRANSFER = "I'm sorry, I can't transfer you."
FAREWELL = "Thank you for calling. Goodbye."
REFUSED = {
    "taken": "I'm sorry, that time is taken. Which other time would you like?",
    "closed": "I'm sorry, we are closed then. Which other day or time would you like?",
    "past": "I'm sorry, that time has passed. Which other time would you like?",
    "unknown day": "I'm sorry, I didn't catch the day. Which day would you like?",
    "unknown time": "I'm sorry, I didn't catch the time. What time would you like?",
}
_OTHERWISE = {
    HELP: "(How may I help you|What can I do for you|How can I help|What can I help you with|Go ahead)[ today]?",
    ELSE: "(Anything else|Is there anything else|Can I help with anything else|Is there something else I can do|Anything else I can do for you)?",
    ASK_DAY: "(What day (works|suits you|would you like|would suit you)|Which day (suits you|works for you|were you thinking of)|When would you like to come[ in]|For (which|what) day|And the day|What day)?",
    ASK_NAME: "(What's your name|And your name|Can I take your name|What name shall I put it under|Who is it for|Your name, please|And (what|who)'s the name|What name is it for|Could I get your name)[, please]?",
    UNKNOWN: "(I'm afraid I don't (know|have that information)|Sorry, I (don't know that|don't have that|can't say)|I'm not sure about that).",
    CANNOT: "(I'm afraid I can't help with that|Sorry, (that's not something I can do|I can't do that)|I can only help with {n}).",
    MISSED: "(Sorry, I didn't (hear|get|understand) (that|you)|Pardon|Could you say that again).",
    WAIT: "(Sure|Take your time|No problem|Of course|Go ahead|No rush).", STOP: "(Sure|Okay|No problem|Of course|Sorry about that).",
    WELCOME: "(You're very welcome|My pleasure|No problem|Happy to help|Of course|Glad to help).",
    FINE: "(I'm doing well, thanks|Very well, thank you|I'm good, thank you|Fine, thanks)[ for asking].",
    NO_TRANSFER: "(I'm afraid I can't put you through|Sorry, there is nobody here right now).",
    FAREWELL: "(Goodbye|Bye|Thank you, goodbye|Have a good day|Take care|Thanks for calling|See you then)[, bye|. Goodbye|].",
}  # fmt: skip


def ask_time(day: str | None) -> str:
    """The question for the time."""
    if day is None:
        return "What time would you like?"
    on = day if day in ("today", "tomorrow") else f"on {day}"
    return f"What time would you like {on}?"


def closed_day(answer: str) -> str:
    """The refusal of a day on which the business is closed; `answer` says that it is."""
    return f"{answer} Which other day would you like?"


def booked(day: str, clock: Clock, name: str) -> str:
    """The confirmation."""
    on = day if day in ("today", "tomorrow") else f"for {day}"
    return f"You are booked {on} at {clock.canonical}, {name}. Is there anything else?"


def reworded(text: str, rng: random.Random, business: str) -> str:
    """The reply as another agent might have said it; never trained as an answer."""
    for own, other in _OTHERWISE.items():
        if own in text:
            text = text.replace(own, expand(other, rng, {"n": business}))
    if "What time would you like" in text:
        other = "(What time (suits you|works|is good for you)|At what time|And what time|When|What time works for you)"
        text = text.replace("What time would you like", expand(other, rng))
    if text.startswith("You are booked"):
        text = text.replace(
            "You are booked",
            rng.choice(("You're booked in", "All set, you're booked", "I have you down", "That's booked", "Done, see you")),
        ).replace("Is there anything else?", rng.choice(("Anything else?", "Can I help with anything else?", "")))  # fmt: skip
    if rng.random() < 0.4:
        lead = "(Sure|Of course|Certainly|Yes|Okay|Great|Thanks|Thank you|All right|Lovely|Perfect|No problem)(, |. |! )"
        first = text.split()[0].strip(",.") if text else ""
        small = first in (
            "We",
            "You",
            "On",
            "What",
            "Which",
            "How",
            "There",
            "Our",
            "Is",
            "The",
            "Today",
            "And",
        )
        text = expand(lead, rng) + (text[0].lower() + text[1:] if small else text)
    elif rng.random() < 0.15:
        text += " " + rng.choice(
            ("Would you like to book?", "Anything else?", "Shall I book it?", "Does that help?")
        )
    return tidy(text)
