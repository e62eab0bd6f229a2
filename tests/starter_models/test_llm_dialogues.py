# SPDX-License-Identifier: Apache-2.0
"""The dialogues that the language model learns from: what they teach must be right."""

import json
import random
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins" / "starter_models"))

from recipe import domain, phrases
from recipe.grammar import choose, expand, held_out, tidy
from recipe.llm import corpus, replies
from recipe.llm.business import random_business
from recipe.llm.chat import TEMPLATE, rendered
from recipe.llm.conversation import random_dialogue
from recipe.llm.example import example_business
from recipe.llm.scoring import Score, score_turn, taken_apart

from appliance.call.agent_file import load_agent

DIALOGUES = [random_dialogue(random.Random(seed)) for seed in range(150)]


def test_the_same_seed_gives_the_same_dialogue() -> None:
    first, again = (list(rendered(random_dialogue(random.Random(4)))) for _ in range(2))
    assert first == again


def test_the_example_agent_is_trained_with_the_prompt_that_it_ships_with() -> None:
    agent = load_agent(Path(__file__).resolve().parents[2] / "configs/agents/reception.yaml")
    shipped = {
        agent.render(agent.prompt, datetime(2026, 3, day, tzinfo=UTC)) for day in range(2, 9)
    }
    assert {example_business(random.Random(seed)).prompt for seed in range(200)} == shipped


def test_every_fact_taught_stands_word_for_word_in_the_prompt() -> None:
    for seed in range(200):
        business = random_business(random.Random(seed))
        for fact in (*business.facts.values(), *business.oddments.values()):
            assert fact in business.prompt


def test_a_day_is_answered_with_its_own_hours_or_as_closed() -> None:
    for seed in range(200):
        business = random_business(random.Random(seed))
        for day in (*domain.WEEKDAYS, "today", "tomorrow"):
            answer, weekday = business.day_answer(day), business.weekday(day)
            if not business.hours.said:
                assert not answer
            elif weekday in business.hours.said:
                assert business.hours.said[weekday].rstrip(".") in answer
                assert "closed" not in answer
            else:
                assert "we are closed" in answer


def test_a_booking_is_taught_only_when_name_day_and_time_were_said() -> None:
    booked = 0
    for dialogue in DIALOGUES:
        heard = ""
        for message in dialogue.messages:
            heard += " " + message.text.lower() if message.role == "user" else ""
            if message.call and message.call[0] == "book_appointment":
                booked += 1
                named = message.call[1]["name"].lower().replace(".", "").split()
                assert all(part in heard for part in named)
                assert domain.Clock(*map(int, message.call[1]["time"].split(":"))).hour < 21
    assert booked > 100


def test_the_confirmation_repeats_the_tools_result() -> None:
    for dialogue in DIALOGUES:
        for before, after in zip(dialogue.messages, dialogue.messages[1:], strict=False):
            if before.role != "tool" or not after.learn:
                continue
            result = json.loads(before.text)
            if result["ok"]:
                assert result["day"] in after.text
                assert result["name"] in after.text
            else:
                assert after.text == replies.REFUSED[result["reason"]]


def test_held_out_sentences_are_never_trained() -> None:
    rng = random.Random(1)
    for templates in phrases.CALLER.values():
        if not all(map(held_out, templates)):
            assert not any(held_out(choose(templates, rng, test=False)) for _ in range(50))


@pytest.mark.parametrize(
    ("hour", "minute", "canonical"),
    [
        (14, 30, "half past two"),
        (9, 0, "nine o'clock"),
        (15, 45, "quarter to four"),
        (12, 20, "twenty past twelve"),
    ],
)
def test_times_are_spoken_as_people_say_them(hour: int, minute: int, canonical: str) -> None:
    clock = domain.Clock(hour, minute)
    assert clock.canonical == canonical
    assert clock.argument == f"{hour:02d}:{minute:02d}"
    assert all(clock.spoken(random.Random(seed)) for seed in range(50))


def test_what_callers_say_is_cased_and_punctuated() -> None:
    texts = domain.caller_texts(random.Random(2))
    for _ in range(3000):
        text = next(texts)
        assert text[0].isupper()
        assert text[-1] in ".?!"
        assert not set("[](){}|") & set(text)


def test_phrases_expand_choices_and_optional_parts() -> None:
    said = {tidy(expand("(yes|no)[, {x}].", random.Random(i), {"x": "sir"})) for i in range(60)}
    assert said == {"Yes.", "No.", "Yes, sir.", "No, sir."}
    with pytest.raises(ValueError, match="unbalanced"):
        expand("(yes|no", random.Random(0))


def test_the_chat_template_writes_what_training_wrote() -> None:
    formatter = Jinja2ChatFormatter(TEMPLATE, "<|im_end|>", "")
    for dialogue in DIALOGUES[:60]:
        messages: list[Any] = [{"role": "system", "content": dialogue.system}]
        for message in dialogue.messages:
            entry: dict[str, object] = {"role": message.role, "content": message.text}
            if message.call:
                function = {"name": message.call[0], "arguments": message.call[1]}
                entry["tool_calls"] = [{"id": "1", "type": "function", "function": function}]
            messages.append(entry)
        tools: list[Any] = dialogue.tools
        prompt = formatter(messages=messages, tools=tools).prompt
        trained = "".join(text for text, _ in rendered(dialogue))
        assert prompt == trained + "<|im_start|>assistant\n"


def test_every_topic_of_the_corpus_has_sentences_that_fit_and_questions() -> None:
    rng = random.Random(3)
    slots = dict.fromkeys(("num", "cur", "street", "place", "surname", "proper"), "seven")
    slots |= dict.fromkeys(("weekday", "hour", "digits"), "nine")
    for file, topics in corpus.topics().items():
        for name, topic in topics.items():
            assert len(topic.questions) >= 10, (file, name)
            for fact in topic.facts:
                said = tidy(expand(fact, rng, slots))
                assert said.endswith("."), (file, name)
                assert not set("[](){}|0123456789") & set(said), (file, name)


def test_scoring_tells_a_wrong_argument_and_a_false_fact() -> None:
    reply = '<tool_call>{"name": "book_appointment", "arguments": {"name": "Eva"}}</tool_call>'
    assert taken_apart("Bye." + reply) == ("Bye.", ("book_appointment", {"name": "Eva"}))
    score = Score()
    tool = {"name": "book_appointment", "arguments": {"name": "Ava"}}
    score_turn(score, reply, {"tool": tool}, {})
    score_turn(
        score, "We are open.", {"tool": None, "says_all": ["closed"], "says_none": ["open"]}, {}
    )
    assert {k: v for k, v in score.right.items() if v} == {"tool:none": 1, "tool": 1}
    assert score.total["nothing_false"] == score.total["fact"] == 1
