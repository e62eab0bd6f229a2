# SPDX-License-Identifier: Apache-2.0
"""The scripted providers: rules, slots, tool calls, and prepared transcripts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trunkline_scripted import (
    ScriptedModelSettings,
    ScriptedSpeechSettings,
    build_model,
    build_speech,
    register_providers,
)
from trunkline_scripted.rules import SORRY
from trunkline_scripted.slots import find_day, find_name, find_time, spoken_time

from appliance.plugin import (
    BuildContext,
    ConfigurationError,
    Flush,
    LanguageModel,
    LlmRequest,
    Message,
    Pcm,
    Role,
    SttRequest,
    TextDelta,
    TokenUsage,
    ToolCall,
    ToolSpec,
    Transcript,
)

SCRIPT = """
variables: {business: Larkspur Dental}
prompt_variables: {hours: 'We are open [^.]*\\.'}
fallback: Pardon?
rules:
  - {when: ['opening hours', 'are you open'], say: '{hours}'}
  - {when: 'price of a (?P<service>\\w+)', say: 'A {service} costs forty dollars.'}
  - {when: 'say that again', say: '{last_reply}'}
  - when: 'book|appointment'
    slots:
      day: {type: day, ask: 'For which day?'}
      time: {type: time, ask: 'At what time?'}
      name: {type: name, ask: 'May I have your name?'}
    call:
      tool: book_appointment
      arguments: {day: '{day}', time: '{time}', name: '{name}'}
      done: 'You are booked for {day} at {time_spoken}, {name}.'
      failed: 'I am sorry, that time is {reason}.'
  - {when: 'goodbye', say: 'Thank you for calling {business}. Goodbye.', call: {tool: end_call}}
"""
TOOLS = tuple(ToolSpec(name, "", {"type": "object"}) for name in ("book_appointment", "end_call"))
PROMPT = "You are the receptionist. We are open Monday to Friday from nine to five. We are nice."


@pytest.fixture
def context(tmp_path: Path) -> BuildContext:
    return BuildContext(model_path=Path, data_dir=tmp_path)


@pytest.fixture
def model(context: BuildContext) -> LanguageModel:
    path = context.data_dir / "script.yaml"
    path.write_text(SCRIPT, encoding="utf-8")
    return build_model(ScriptedModelSettings(script=path), context)


class Talk:
    """A dialogue that keeps its history, as the core does."""

    def __init__(self, model: LanguageModel, tools: tuple[ToolSpec, ...] = TOOLS) -> None:
        self.model = model
        self.tools = tools
        self.messages = [Message(Role.SYSTEM, PROMPT)]

    async def say(self, text: str) -> tuple[str, ToolCall | None]:
        return await self._reply(Message(Role.USER, text))

    async def result(self, call: ToolCall, **content: Any) -> tuple[str, ToolCall | None]:
        text = json.dumps(content)
        return await self._reply(Message(Role.TOOL, text, tool_call_id=call.id, name=call.name))

    async def _reply(self, message: Message) -> tuple[str, ToolCall | None]:
        self.messages.append(message)
        deltas = [d async for d in self.model.reply(LlmRequest(self.messages, self.tools))]
        assert isinstance(deltas[-1], TokenUsage)
        text = "".join(d.text for d in deltas if isinstance(d, TextDelta))
        calls = tuple(d for d in deltas if isinstance(d, ToolCall))
        self.messages.append(Message(Role.ASSISTANT, text, calls))
        return text, calls[0] if calls else None


async def test_facts_come_from_the_prompt_and_named_groups(model: LanguageModel) -> None:
    talk = Talk(model)
    hours = "We are open Monday to Friday from nine to five."
    assert await talk.say("What are your opening hours?") == (hours, None)
    assert await talk.say("Could you say that again?") == (hours, None)
    assert await talk.say("The price of a cleaning?") == ("A cleaning costs forty dollars.", None)
    assert await talk.say("Do you sell pizza?") == ("Pardon?", None)


async def test_it_books_with_slots_given_piecemeal_and_corrected(model: LanguageModel) -> None:
    talk = Talk(model)
    assert await talk.say("I'd like an appointment.") == ("For which day?", None)
    assert await talk.say("On Friday, please.") == ("At what time?", None)
    text, _ = await talk.say("Are you open then?")
    assert text.endswith("from nine to five. At what time?")
    assert await talk.say("Half past two.") == ("May I have your name?", None)
    assert await talk.say("No, make it Thursday.") == ("May I have your name?", None)
    text, call = await talk.say("Oliver.")
    assert text == ""
    assert call is not None
    assert json.loads(call.arguments) == {"day": "Thursday", "time": "14:30", "name": "Oliver"}

    text, _ = await talk.result(call, ok=False, reason="taken")
    assert text == "I am sorry, that time is taken."
    _, call = await talk.say("Then at three o'clock.")
    assert call is not None
    assert json.loads(call.arguments)["time"] == "15:00"
    text, _ = await talk.result(call, ok=True, day="Thursday", time="15:00", name="Oliver")
    assert text == "You are booked for Thursday at three o'clock, Oliver."
    assert (await talk.say("Is that all?"))[0] == "Pardon?"


async def test_it_books_at_once_when_all_is_said_at_once(model: LanguageModel) -> None:
    _, call = await Talk(model).say(
        "This is Emma Stone, I want to book an appointment for tomorrow at a quarter to ten."
    )
    assert call is not None
    assert json.loads(call.arguments) == {"day": "tomorrow", "time": "09:45", "name": "Emma Stone"}


async def test_a_goodbye_while_a_name_is_asked_for_is_no_name(model: LanguageModel) -> None:
    talk = Talk(model)
    assert (await talk.say("Book me for Monday at nine."))[0] == "May I have your name?"
    text, call = await talk.say("Goodbye.")
    assert text == "Thank you for calling Larkspur Dental. Goodbye."
    assert call is not None
    assert call.name == "end_call"


async def test_a_tool_that_the_agent_lacks_is_not_called(model: LanguageModel) -> None:
    text, call = await Talk(model, tools=()).say("Goodbye then.")
    assert text.endswith("Goodbye.")
    assert call is None


async def test_the_reply_streams_word_by_word_within_the_limit(model: LanguageModel) -> None:
    messages = (Message(Role.SYSTEM, PROMPT), Message(Role.USER, "Are you open?"))
    deltas = [d async for d in model.reply(LlmRequest(messages, max_tokens=3))]
    assert deltas[:3] == [TextDelta("We"), TextDelta(" are"), TextDelta(" open")]
    assert deltas[3] == TokenUsage(prompt=len(PROMPT.split()) + 3, completion=3)


async def test_without_rules_it_apologises(context: BuildContext) -> None:
    text, _ = await Talk(build_model(ScriptedModelSettings(), context)).say("Hello?")
    assert text == SORRY


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("rules: [{when: '(', say: x}]", r"script.yaml: rules.0.when.0: .*regular expression"),
        ("rules: [{when: a, says: x}]", r"script.yaml: rules.0.says"),
        ("rules: [{when: a, say: '{nobody}'}]", r"rule 1 uses \{nobody\}"),
        ("rules: [", r"not valid YAML"),
    ],
)
def test_a_wrong_script_is_refused_with_the_place(
    context: BuildContext, script: str, message: str
) -> None:
    path = context.data_dir / "script.yaml"
    path.write_text(script, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message):
        build_model(ScriptedModelSettings(script=path), context)


@pytest.mark.parametrize(
    ("text", "clock"),
    [
        ("at half past two", "14:30"),
        ("two thirty, please", "14:30"),
        ("let's say 9:15", "09:15"),
        ("a quarter to four", "15:45"),
        ("ten o'clock", "10:00"),
        ("at twelve", "12:00"),
        ("two p.m.", "14:00"),
        ("8 a.m.", "08:00"),
        ("nine in the morning", "09:00"),
        ("from nine to ten, so at ten", "10:00"),
        ("twenty past eleven", "11:20"),
        ("15:40", "15:40"),
        ("for two people", None),
    ],
)
def test_times_are_understood_as_spoken(text: str, clock: str | None) -> None:
    assert find_time(text) == clock


def test_days_names_and_bare_answers_are_understood() -> None:
    assert find_day("not monday, tuesday") == "Tuesday"
    assert find_day("Tomorrow, please") == "tomorrow"
    assert find_time("Eleven.", expected=True) == "11:00"
    assert find_name("My name is Zoë Park-Lee.") == "Zoë Park-Lee"
    assert find_name("It's for Amelia") == "Amelia"
    assert find_name("For Friday") is None
    assert find_name("Yes, Oliver.", expected=True) == "Oliver"
    spoken = [
        spoken_time(c) for c in ("14:30", "09:15", "15:45", "10:00", "11:20", "00:05", "09:07")
    ]
    assert spoken == [
        "half past two",
        "quarter past nine",
        "quarter to four",
        "ten o'clock",
        "eleven twenty",
        "twelve oh five",
        "nine oh seven",
    ]


async def listen(provider: Any, items: Iterable[Pcm | Flush], call: str) -> list[Transcript]:
    async def audio() -> AsyncIterator[Pcm | Flush]:
        for item in items:
            yield item

    return [t async for t in provider.transcribe(audio(), SttRequest(call_id=call))]


async def test_the_recognizer_gives_one_transcript_a_turn_of_each_call(
    context: BuildContext,
) -> None:
    stt = build_speech(ScriptedSpeechSettings(transcripts=("Hello.", "Bye.")), context)
    loud, quiet = np.full(1600, 3000, np.int16), np.zeros(1600, np.int16)
    first = await listen(stt, [loud, Flush(), loud, Flush()], "a")
    assert first == [Transcript("Hello.", True, 0.1), Transcript("Hello.", True, 0.2)]
    assert await listen(stt, [quiet, Flush()], "a") == [Transcript("", True, 0.1)]
    assert [t.text for t in await listen(stt, [loud], "b")] == ["Hello."]
    assert [t.text for t in await listen(stt, [loud], "a")] == ["Bye."]
    assert [t.text for t in await listen(stt, [loud], "a")] == [""]


def test_every_setting_is_described() -> None:
    for offer in register_providers():
        assert all(field.description for field in offer.settings.model_fields.values())
