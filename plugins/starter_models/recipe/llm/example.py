# SPDX-License-Identifier: Apache-2.0
"""The example agent, configs/agents/reception.yaml, as the recipe knows it."""

from __future__ import annotations

import random
from typing import Any

from recipe.domain import WEEKDAYS
from recipe.llm.business import Business
from recipe.llm.desk import DENTIST, any_today, desk_dialogue
from recipe.llm.dialogue import Dialogue
from recipe.llm.hours import Hours

HOURS = (
    "We are open Monday to Friday from nine to five, and on Saturday from ten to one. "
    "We are closed on Sunday."
)
GREETING = "Larkspur Dental, hello. How can I help you?"
_TEXT = {"type": "string"}


def example_business(rng: random.Random) -> Business:
    """The business of configs/agents/reception.yaml, on a random day."""
    week = WEEKDAYS[:5]
    hours = Hours(
        HOURS,
        {**dict.fromkeys(week, "from nine to five"), "Saturday": "from ten to one"},
        {**dict.fromkeys(week, (9.0, 17.0)), "Saturday": (10.0, 13.0)},
    )
    business = Business("Larkspur Dental", DENTIST, any_today(rng), hours)
    business.prices = {
        "check-up": "A check-up costs forty dollars.",
        "cleaning": "A cleaning costs sixty dollars.",
        "filling": "A filling costs ninety dollars.",
    }
    business.facts = {
        "hours": HOURS,
        "address": "We are at twelve Mill Lane, next to the station.",
        "parking": "There is free parking behind the building.",
        "payment": "You can pay by card or in cash.",
        "prices": " ".join(business.prices.values()),
    }
    head = (f"You are the receptionist of {business.name}.", f"Today is {business.today}.")
    hours, *others = business.facts.values()
    business.prompt = "\n".join([*head, hours, business.tell_near_days(), *others])
    return business


def example_tools() -> list[dict[str, Any]]:
    """The tools of the example agent, as the box describes them."""

    def tool(name: str, says: str, *arguments: str) -> dict[str, Any]:
        properties = dict.fromkeys(arguments, _TEXT)
        parameters = {"type": "object", "properties": properties, "required": list(arguments)}
        function = {"name": name, "description": says, "parameters": parameters}
        return {"type": "function", "function": function}

    return [
        tool("book_appointment", "Book an appointment.", "name", "day", "time"),
        tool("end_call", "End the call, after saying goodbye."),
    ]


def example_dialogue(rng: random.Random, *, test: bool = False) -> Dialogue:
    """A conversation with the example agent."""
    business = example_business(rng)
    return desk_dialogue(rng, business, example_tools(), test=test, greeting=GREETING)
