# SPDX-License-Identifier: Apache-2.0
"""The llama_cpp provider with the starter model: a whole dialogue of the reception desk."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from trunkline_llama_cpp import build
from trunkline_llama_cpp.settings import LlamaCppSettings

from appliance.plugin import (
    BuildContext,
    LanguageModel,
    LlmRequest,
    Message,
    Role,
    TextDelta,
    TokenUsage,
    ToolCall,
    ToolSpec,
)

SYSTEM = """You are the receptionist of Larkspur Dental.
Today is Tuesday.
We are open Monday to Friday from nine to five, and on Saturday from ten to one. We are closed on Sunday.
We are at twelve Mill Lane, next to the station.
There is free parking behind the building.
You can pay by card or in cash.
A check-up costs forty dollars. A cleaning costs sixty dollars. A filling costs ninety dollars."""

STRING = {"type": "string"}
TOOLS = [
    ToolSpec(
        "book_appointment",
        "Book an appointment.",
        {
            "type": "object",
            "properties": {"name": STRING, "day": STRING, "time": STRING},
            "required": ["name", "day", "time"],
        },
    ),
    ToolSpec(
        "end_call", "End the call, after saying goodbye.", {"type": "object", "properties": {}}
    ),
]


@pytest.fixture
async def model(build_context: BuildContext) -> AsyncIterator[LanguageModel]:
    provider = build(LlamaCppSettings(), build_context)
    yield provider
    await provider.aclose()


class Desk:
    """A call to the reception desk."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        greeting = "Larkspur Dental, hello. How can I help you?"
        self.messages = [Message(Role.SYSTEM, SYSTEM), Message(Role.ASSISTANT, greeting)]
        self.usage = TokenUsage(0, 0)

    async def say(self, text: str) -> tuple[str, list[ToolCall]]:
        self.messages.append(Message(Role.USER, text))
        return await self.answer()

    async def answer(self) -> tuple[str, list[ToolCall]]:
        text = ""
        calls = []
        async for delta in self._model.reply(LlmRequest(self.messages, TOOLS, call_id="desk")):
            match delta:
                case TextDelta():
                    text += delta.text
                case ToolCall():
                    calls.append(delta)
                case TokenUsage():
                    self.usage = delta
        self.messages.append(Message(Role.ASSISTANT, text, tuple(calls)))
        assert "tool_call" not in text
        assert "{" not in text
        return text, calls

    def result(self, call: ToolCall, **content: object) -> None:
        message = Message(Role.TOOL, json.dumps(content), tool_call_id=call.id, name=call.name)
        self.messages.append(message)


async def test_a_caller_asks_books_and_says_goodbye(model: LanguageModel) -> None:
    """Whether what it says is right is asked by the starter models' own tests."""
    desk = Desk(model)
    text, calls = await desk.say("When are you open?")
    assert text.strip()
    assert not calls

    text, calls = await desk.say("My name is Oliver. I'd like to come on Friday at two thirty.")
    booking = calls[0]
    assert booking.name == "book_appointment"
    assert json.loads(booking.arguments).keys() == {"name", "day", "time"}

    desk.result(booking, ok=True, day="Friday", time="14:30", name="Oliver")
    text, calls = await desk.answer()
    assert "Friday" in text

    text, calls = await desk.say("No, that's all. Goodbye.")
    assert text.strip()
    assert [call.name for call in calls] == ["end_call"]
    # By now only what is new is read, not the dialogue from its beginning.
    assert desk.usage.prompt - desk.usage.cached < 0.3 * desk.usage.prompt
