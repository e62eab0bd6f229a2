# SPDX-License-Identifier: Apache-2.0
"""Decides the reply from the messages so far. Pure: the whole state is in the messages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from appliance.plugin import Message, Role
from trunkline_scripted.rules import VARIABLE, Call, Rule, Script
from trunkline_scripted.slots import SlotType, find, spoken_time


@dataclass(frozen=True, slots=True)
class Reply:
    """What to say and, after it, which tool to call with which arguments."""

    text: str
    tool: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Form:
    """A rule with slots that the caller is filling in."""

    rule: Rule
    groups: dict[str, str]
    values: dict[str, str] = field(default_factory=dict)

    def missing(self) -> str | None:
        """Return the name of the first slot not yet known."""
        return next((name for name in self.rule.slots if name not in self.values), None)

    def fill(self, text: str, *, bare: bool) -> bool:
        """Take every slot that `text` gives, new or corrected; tell whether there was one.

        Args:
            text: what the caller said.
            bare: a single word or number may be the answer to the question just asked.
        """
        asked = self.missing() if bare else None
        found = {
            name: value
            for name, slot in self.rule.slots.items()
            if (value := find(slot.type, text, expected=name == asked)) is not None
        }
        self.values |= found
        return bool(found)


def decide(script: Script, messages: Sequence[Message]) -> Reply:
    """Return the reply to the last message."""
    variables = _variables(script, messages)
    last = messages[-1] if messages else Message(Role.USER)
    if last.role is Role.TOOL:
        return _after_tool(script, last, variables)
    form: _Form | None = None
    reply = Reply(script.fallback)
    for message in messages:
        if message.role is Role.TOOL and form is not None and _succeeded(message):
            form = None
        elif message.role is Role.USER:
            form, reply = _answer(script, form, message.content, variables)
    return reply


def _answer(
    script: Script, form: _Form | None, text: str, variables: Mapping[str, str]
) -> tuple[_Form | None, Reply]:
    matched = _match(script, text)
    if form is not None and form.fill(text, bare=matched is None):
        return form, _form_reply(form, variables)
    if matched is None:
        return form, _form_reply(form, variables) if form else Reply(
            fill(script.fallback, variables)
        )
    rule, groups = matched
    if rule.slots:
        if form is None or form.rule is not rule:
            form = _Form(rule, groups)
        form.fill(text, bare=False)
        return form, _form_reply(form, variables)
    known = {**variables, **groups}
    reply = _with_call(fill(rule.say, known), rule.call, known)
    if form is not None and (missing := form.missing()) and not reply.tool:
        question = fill(form.rule.slots[missing].ask, variables)
        reply = Reply(f"{reply.text} {question}".strip())
    return form, reply


def _match(script: Script, text: str) -> tuple[Rule, dict[str, str]] | None:
    for rule in script.rules:
        for pattern in rule.when:
            if match := re.search(pattern, text, re.IGNORECASE):
                return rule, {k: v or "" for k, v in match.groupdict().items()}
    return None


def _form_reply(form: _Form, variables: Mapping[str, str]) -> Reply:
    known = {**variables, **form.groups, **form.values}
    for name, slot in form.rule.slots.items():
        if slot.type is SlotType.TIME and name in form.values:
            known[f"{name}_spoken"] = spoken_time(form.values[name])
    if missing := form.missing():
        return Reply(fill(form.rule.slots[missing].ask, known))
    return _with_call(fill(form.rule.say, known), form.rule.call, known)


def _with_call(text: str, call: Call | None, variables: Mapping[str, str]) -> Reply:
    if call is None:
        return Reply(text)
    arguments = {name: fill(value, variables) for name, value in call.arguments.items()}
    return Reply(text, call.tool, arguments)


def _after_tool(script: Script, result: Message, variables: Mapping[str, str]) -> Reply:
    """Say what the rule that called the tool wants said about its result."""
    call = next((r.call for r in script.rules if r.call and r.call.tool == result.name), None)
    if call is None:
        return Reply("")
    known = {**variables, **_result(result)}
    for name, value in list(known.items()):
        if re.fullmatch(r"\d\d:\d\d", value):
            known[f"{name}_spoken"] = spoken_time(value)
    return Reply(fill(call.done if _succeeded(result) else call.failed, known))


def _result(message: Message) -> dict[str, str]:
    try:
        data = json.loads(message.content)
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in data.items()} if isinstance(data, dict) else {}


def _succeeded(message: Message) -> bool:
    result = _result(message)
    return result.get("ok") != "False" and "error" not in result


def _variables(script: Script, messages: Sequence[Message]) -> dict[str, str]:
    prompt = next((m.content for m in messages if m.role is Role.SYSTEM), "")
    known = dict(script.variables)
    for name, pattern in script.prompt_variables.items():
        if match := re.search(pattern, prompt, re.IGNORECASE):
            known[name] = match[1] if match.re.groups else match[0]
    replies = [m.content for m in messages if m.role is Role.ASSISTANT and m.content]
    known["last_reply"] = replies[-1] if replies else ""
    return known


def fill(template: str, variables: Mapping[str, str]) -> str:
    """Put variables in; one without a value leaves nothing."""
    return VARIABLE.sub(lambda match: variables.get(match[1], ""), template)
