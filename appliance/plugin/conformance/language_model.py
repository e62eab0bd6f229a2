# SPDX-License-Identifier: Apache-2.0
"""Checks of a language model. See `appliance.plugin.language.LanguageModel` for the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from appliance.plugin.conformance.drive import cancel_quickly, collect, loop_stays_free
from appliance.plugin.conformance.findings import (
    Check,
    NotApplicableError,
    ViolationError,
    check,
    require,
)
from appliance.plugin.conformance.subject import Subject
from appliance.plugin.errors import InvalidRequestError
from appliance.plugin.language import (
    LanguageModel,
    LlmDelta,
    LlmRequest,
    Message,
    Role,
    TextDelta,
    TokenUsage,
    ToolCall,
    ToolSpec,
)

TIME_TOOL = ToolSpec(
    name="opening_hours",
    description="Tell when the shop is open on a day.",
    parameters={
        "type": "object",
        "properties": {"day": {"type": "string", "description": "Name of the day."}},
        "required": ["day"],
        "additionalProperties": False,
    },
)


def request(
    *said: str, tools: Sequence[ToolSpec] = (), max_tokens: int = 48, call_id: str = "check"
) -> LlmRequest:
    """Return a greedy request: a system message, then what the caller said."""
    system = Message(Role.SYSTEM, "You answer the telephone of a shop. Be brief.")
    users = tuple(Message(Role.USER, text) for text in said)
    return LlmRequest((system, *users), tools=tools, max_tokens=max_tokens, call_id=call_id)


async def answer(model: LanguageModel, wanted: LlmRequest) -> list[LlmDelta]:
    """Return the whole reply, in order, and see that its form is right."""
    found = await collect(model.reply(wanted))
    check_form(found)
    return found


def check_form(found: Sequence[LlmDelta]) -> None:
    """Raise `ViolationError` unless it is text and tool calls, then one `TokenUsage`."""
    strange = [one for one in found if not isinstance(one, TextDelta | ToolCall | TokenUsage)]
    require(not strange, f"it yielded {type(strange[0]).__name__}" if strange else "")
    usages = [one for one in found if isinstance(one, TokenUsage)]
    require(len(usages) == 1, f"{len(usages)} TokenUsage came instead of one")
    require(found[-1] is usages[0], f"a {type(found[-1]).__name__} came after the TokenUsage")


def usage_of(found: Sequence[LlmDelta]) -> TokenUsage:
    """Return the closing count."""
    last = found[-1]
    if not isinstance(last, TokenUsage):
        raise ViolationError("the reply does not end with a TokenUsage")
    return last


async def use(model: LanguageModel, subject: Subject) -> None:
    """Answer a greeting."""
    await collect(model.reply(request("Hello.", max_tokens=8)))


@check("a reply is text and tool calls, then one TokenUsage")
async def the_order_holds(subject: Subject) -> str:
    """The count closes the reply; nothing follows it."""
    found = await answer(subject.provider, request("Hello, who is there?"))
    text = "".join(one.text for one in found if isinstance(one, TextDelta))
    return f"{len(text)} characters in {len(found) - 1} items"


@check("usage counts are plausible and keep to max_tokens")
async def usage_is_plausible(subject: Subject) -> str:
    """They are what a customer is billed by."""
    found = await answer(subject.provider, request("Tell me a long story.", max_tokens=16))
    usage = usage_of(found)
    require(usage.prompt > 0, f"{usage.prompt} prompt tokens for a dialogue of two messages")
    require(0 <= usage.cached <= usage.prompt, f"{usage.cached} of {usage.prompt} tokens cached")
    require(0 <= usage.completion <= 16, f"{usage.completion} tokens; 16 were allowed")
    return f"{usage.prompt} + {usage.completion} tokens"


@check("text comes piece by piece, if it says so")
async def text_is_streamed(subject: Subject) -> str:
    """The first clause is spoken while the rest is being written."""
    model: LanguageModel = subject.provider
    found = await answer(model, request("Please say who you are and what you can do for me."))
    pieces = [one.text for one in found if isinstance(one, TextDelta)]
    words = "".join(pieces).split()
    if not model.capabilities.streaming:
        raise NotApplicableError("it does not stream")
    if len(words) < 4:
        raise NotApplicableError(f"its reply has {len(words)} words")
    require(len(pieces) > 1, f"{len(words)} words came in one piece")
    return f"{len(words)} words in {len(pieces)} pieces"


@check("tools offered are called by their names, or not at all")
async def tools_are_called_by_name(subject: Subject) -> str:
    """A call of a tool that does not exist has no good answer."""
    model: LanguageModel = subject.provider
    wanted = request("When are you open on Monday?", tools=[TIME_TOOL], max_tokens=96)
    found = await answer(model, wanted)
    calls = [one for one in found if isinstance(one, ToolCall)]
    require(
        model.capabilities.tool_calling or not calls, "it calls tools, its capabilities deny it"
    )
    for call in calls:
        require(call.name == TIME_TOOL.name, f"it calls {call.name!r}, which was not offered")
    ids = [call.id for call in calls]
    require(all(ids) and len(set(ids)) == len(ids), f"the calls' ids are not unique: {ids}")
    return f"{len(calls)} calls"


@check("a dialogue that holds a tool's result is answered")
async def a_tool_result_is_answered(subject: Subject) -> str:
    """The second half of every tool call."""
    call = ToolCall("call-1", TIME_TOOL.name, '{"day": "Monday"}')
    messages = (
        *request("When are you open on Monday?").messages,
        Message(Role.ASSISTANT, tool_calls=(call,)),
        Message(Role.TOOL, '{"opens": "09:00"}', tool_call_id=call.id, name=call.name),
    )
    wanted = LlmRequest(messages, tools=(TIME_TOOL,), max_tokens=48, call_id="check")
    found = await answer(subject.provider, wanted)
    return f"{len(found) - 1} items"


@check("two replies at once do not mix")
async def replies_do_not_mix(subject: Subject) -> str:
    """One object serves all calls; each counts its own dialogue."""
    model: LanguageModel = subject.provider
    short = request("Hello.", call_id="check-short")
    long = request(*["I would like to know when you are open."] * 12, call_id="check-long")
    alone = [usage_of(await answer(model, one)).prompt for one in (short, long)]
    found = await asyncio.gather(answer(model, short), answer(model, long))
    together = [usage_of(one).prompt for one in found]
    require(alone[0] < alone[1], f"dialogues of 2 and 13 messages count {alone} prompt tokens")
    require(together == alone, f"alone they count {alone} prompt tokens, together {together}")
    return f"{alone[0]} and {alone[1]} prompt tokens"


@check("cancelled, it stops within 20 ms and leaves no task")
async def it_is_cancelled_quickly(subject: Subject) -> str:
    """Barge-in: the caller speaks, the reply is worthless."""
    model: LanguageModel = subject.provider
    wanted = request("Tell me a long story, please.", max_tokens=256)
    return await cancel_quickly(lambda: model.reply(wanted))


@check("after a cancel the next reply is whole")
async def it_recovers_from_cancel(subject: Subject) -> str:
    """Nothing of the cancelled reply may stand in the way, in the same call least of all."""
    model: LanguageModel = subject.provider
    with suppress(NotApplicableError, ViolationError):  # how fast it stops is another check
        await it_is_cancelled_quickly.body(subject)
    await answer(model, request("Hello.", max_tokens=16))
    return ""


@check("a dialogue beyond its context is an InvalidRequestError")
async def too_much_is_refused(subject: Subject) -> str:
    """The core then shortens the dialogue; any other error would make it retry."""
    model: LanguageModel = subject.provider
    size = model.capabilities.context_tokens
    if not size:
        raise NotApplicableError("its context is not known")
    if size > 32_768:
        raise NotApplicableError(f"a context of {size} tokens takes too long to fill")
    try:
        await collect(model.reply(request("When are you open? " * size, max_tokens=8)))
    except InvalidRequestError:
        return f"{size} tokens"
    raise ViolationError(f"a dialogue far beyond {size} tokens was answered")


@check("the event loop is never blocked longer than 20 ms")
async def the_loop_stays_free(subject: Subject) -> str:
    """A frame of every call leaves each 20 ms."""
    model: LanguageModel = subject.provider
    wanted = request("Please say who you are and what you can do for me.")
    return await loop_stays_free(lambda: collect(model.reply(wanted)))


CHECKS: tuple[Check, ...] = (
    the_order_holds,
    usage_is_plausible,
    text_is_streamed,
    tools_are_called_by_name,
    a_tool_result_is_answered,
    replies_do_not_mix,
    it_is_cancelled_quickly,
    it_recovers_from_cancel,
    too_much_is_refused,
    the_loop_stays_free,
)
