# SPDX-License-Identifier: Apache-2.0
"""Finishes the model on the example agent alone: its prompt, its tools, its greeting.

Random businesses teach a model to read the facts out of its prompt, which the shipped weights did not
learn in the time they had (MODEL_CARD.md). After this step they know the facts of one prompt by heart, and
no others: a box says so wherever it names them.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from recipe.domain import WEEKDAYS
from recipe.llm import words
from recipe.llm.business import Business
from recipe.llm.conversation import Conversation
from recipe.llm.data import Batch, batches
from recipe.llm.dialogue import Dialogue
from recipe.llm.hours import Hours
from recipe.llm.model import Llama, Shape
from recipe.llm.train import loss_of

SEED = 21
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
    dentist = next(trade for trade in words.TRADES if trade.pro == "dentist")
    business = Business("Larkspur Dental", dentist, rng.choice(WEEKDAYS), hours)
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
    business.prompt = "\n".join([*head, *business.facts.values()])
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
    """A conversation with the example agent; bookings are more frequent than elsewhere."""
    talk = Conversation(
        rng,
        example_tools(),
        test=test,
        business=example_business(rng),
        greeting=GREETING,
    )
    return talk.run(rng.randint(4, 14), {"start_booking": 40, "ask": 36, "small": 16})


def finish(source: Path, target: Path, steps: int, rate: float, hold: float) -> None:
    """Train the checkpoint of `source` on the example agent into the folder `target`."""
    torch.manual_seed(SEED)
    state = torch.load(source / "checkpoint.pt", weights_only=True)
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    model = Llama(Shape(**state["shape"]))
    model.load_state_dict(state["model"])
    adam = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.97), weight_decay=0.02)
    stream: Iterator[Batch] = batches(example_dialogue, tokenizer, SEED, 2048)
    for step in range(steps):
        loss, right = loss_of(model, next(stream), 0.05)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        fall = max(0.02, (1 - step / steps) / (1 - hold))
        for group in adam.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 40, fall)
        adam.step()
        adam.zero_grad(set_to_none=True)
        if (step + 1) % 25 == 0:
            print(f"step {step + 1} loss {loss.item():.4f} right {right:.4f}", flush=True)
    target.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(target / "tokenizer.json"))
    kept = {"model": model.state_dict(), "shape": model.shape.as_dict(), "adam": None, "muon": None}
    torch.save({"step": state["step"] + steps, **kept}, target / "checkpoint.pt")


def main(arguments: list[str] | None = None) -> None:
    """Finish a trained work folder on the example agent."""
    parser = argparse.ArgumentParser(prog="recipe.llm.finish", description=main.__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--steps", type=int, default=1700)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--hold", type=float, default=0.6, help="share of steps at the full rate")
    options = parser.parse_args(arguments)
    finish(options.source, options.target, options.steps, options.rate, options.hold)


if __name__ == "__main__":
    main()
