# SPDX-License-Identifier: Apache-2.0
"""The shipped language model through llama-cpp-python: its format, and what it answers."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from llama_cpp.llama_chat_format import Jinja2ChatFormatter
from trunkline_starter_models import pack_dir

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins" / "starter_models"))

from recipe.llm.conversation import random_dialogue
from recipe.llm.desk import dental_dialogue
from recipe.llm.evaluate import TOOLS, Runtime, in_grammar, off_grammar
from recipe.llm.example import example_dialogue, example_tools
from recipe.llm.scoring import taken_apart

MODEL = pack_dir() / "llm" / "starter.gguf"
DOMAIN = ("reception", "reception_unseen")
"""Sets of the domain that the model is for, written without sight of the training data and of the others."""
BEYOND = ("offgrammar", "handwritten", "unseen")
"""The same, mostly with businesses of other kinds: nothing is promised there."""
SYSTEM = """You are the receptionist of Larkspur Dental.
Today is Tuesday.
We are open Monday to Friday from nine to five, and on Saturday from ten to one. We are closed on Sunday.
Today we are open from nine to five. Tomorrow we are open from nine to five.
We are at twelve Mill Lane, next to the station.
There is free parking behind the building.
You can pay by card or in cash.
A check-up costs forty dollars. A cleaning costs sixty dollars. A filling costs ninety dollars."""
GREETING = "Larkspur Dental, hello. How can I help you?"


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return Runtime(MODEL)


def answer(runtime: Runtime, *said: str) -> tuple[str, Any]:
    """The reply to alternating words of the caller and the agent, after the greeting."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": SYSTEM},
        {"role": "assistant", "content": GREETING},
    ]
    for i, text in enumerate(said):
        messages.append({"role": ("user", "assistant")[i % 2], "content": text})
    return taken_apart(runtime.reply(messages, example_tools()))


def test_the_file_is_small_and_ends_messages_by_a_control_token(runtime: Runtime) -> None:
    assert MODEL.stat().st_size < 12_000_000
    llama = runtime.llama
    assert llama.metadata["general.architecture"] == "llama"
    assert llama.detokenize([llama.token_eos()], special=True) == b"<|im_end|>"
    assert llama.tokenize(b"<|im_end|>", add_bos=False, special=True) == [llama.token_eos()]


def test_any_tool_is_rendered_on_one_short_line(runtime: Runtime) -> None:
    template = runtime.llama.metadata["tokenizer.chat_template"]
    other = {
        "name": "look_up_order",
        "description": "Finds an order by its number. " + "Much more is said here. " * 20,
        "parameters": {"type": "object", "properties": {"number": {"type": "string"}, "year": {}}},
    }
    tools = [*TOOLS.values(), {"type": "function", "function": other}]
    messages = [{"role": "system", "content": SYSTEM}]
    prompt = Jinja2ChatFormatter(template, "<|im_end|>", "")(messages=messages, tools=tools).prompt  # type: ignore[arg-type]
    line = next(line for line in prompt.splitlines() if line.startswith("look_up_order"))
    assert line.startswith("look_up_order(number, year): Finds an order by its number.")
    assert len(line) < 120
    assert "book_appointment(name, day, time): Books an appointment.\n" in prompt


def test_it_states_the_facts_of_the_example_agent(runtime: Runtime) -> None:
    for question, fact in (
        ("Are you open on Saturday?", "ten to one"),
        ("How much is a cleaning?", "sixty dollars"),
        ("Where are you?", "twelve Mill Lane"),
        ("What are your opening hours?", "nine to five"),
    ):
        spoken, call = answer(runtime, question)
        assert fact in spoken
        assert call is None


def test_it_books_when_name_day_and_time_are_known(runtime: Runtime) -> None:
    _, call = answer(
        runtime, "I'd like to book an appointment for Friday at half past two, please.",
        "May I have your name, please?", "It's Oliver.",
    )  # fmt: skip
    assert call == ("book_appointment", {"name": "Oliver", "day": "Friday", "time": "14:30"})


def test_it_says_goodbye_and_ends_the_call(runtime: Runtime) -> None:
    spoken, call = answer(
        runtime, "Where are you?", "We are at twelve Mill Lane, next to the station.",
        "That's all, thank you. Goodbye.",
    )  # fmt: skip
    assert spoken
    assert call == ("end_call", {})


def test_nothing_heard_is_asked_for_again(runtime: Runtime) -> None:
    for words in ("", "Blue of ladder spoon it river."):
        spoken, call = answer(runtime, words)
        assert spoken.startswith("I'm sorry")
        assert call is None


@pytest.mark.slow
def test_new_dialogues_and_hand_written_ones_are_answered_as_the_model_card_says(
    runtime: Runtime,
) -> None:
    card = json.loads((MODEL.parent / "eval.json").read_text(encoding="utf-8"))
    makers = {
        "example_agent": example_dialogue, "dental": dental_dialogue, "in_grammar": random_dialogue,
    }  # fmt: skip
    for kind, make in makers.items():
        score = in_grammar(runtime, 4711, 30, make).summary()
        for name in ("tool", "fact", "nothing_false"):
            assert score[name]["interval_95"][1] >= card[kind][name]["interval_95"][0]
    for dialogues in (*DOMAIN, *BEYOND):
        outside = off_grammar(runtime, _written(dialogues)).summary()
        for name in ("tool", "fact", "nothing_false"):
            assert outside[name]["share"] >= card[dialogues][name]["share"] - 0.01


@pytest.mark.slow
@pytest.mark.parametrize("dialogues", DOMAIN)
def test_it_meets_the_bars_on_hand_written_dialogues_of_its_domain(
    runtime: Runtime, dialogues: str
) -> None:
    score = off_grammar(runtime, _written(dialogues)).summary()
    assert score["tool"]["share"] >= 0.95
    assert score["tool:book_appointment"]["share"] >= 0.95
    assert score["fact"]["share"] >= 0.95
    assert (
        score["nothing_false"]["share"] >= 0.99
    )  # what a set lists includes what is true but beside the question


def _written(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.yaml")
