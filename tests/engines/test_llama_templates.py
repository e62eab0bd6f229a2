# SPDX-License-Identifier: Apache-2.0
"""Dialogues rendered by templates of the usual families: short ones of our own, with their marks."""

from __future__ import annotations

import json
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trunkline_llama_cpp.dialogue import Abilities
from trunkline_llama_cpp.replies import ReplyParser
from trunkline_llama_cpp.template import ChatTemplate

from appliance.plugin import ConfigurationError, Message, Role, ToolCall, ToolSpec

QWEN = """
{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}
Tools:{% for tool in tools %}
{{ tool | tojson }}{% endfor %}<|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}<|im_start|>user
<tool_response>{{ m.content }}</tool_response><|im_end|>
{% elif not (loop.first and m.role == 'system') %}<|im_start|>{{ m.role }}
{{ m.content }}{% for call in m.tool_calls or [] %}
<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
{{- '</tool_call>' }}{% endfor %}<|im_end|>
{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

LLAMA = """
{{- bos_token }}
{%- if messages[0].role == 'system' %}{% set said = messages[0].content %}{% set rest = messages[1:] %}
{%- else %}{% set said = '' %}{% set rest = messages %}{% endif -%}
<|start_header_id|>system<|end_header_id|>

Today: {{ strftime_now('%d %b %Y') }}
{{ said }}{% for tool in tools or [] %}
{{ tool | tojson }}{% endfor %}<|eot_id|>
{%- for m in rest %}
{%- if m.tool_calls %}
{%- if m.tool_calls | length != 1 %}{{ raise_exception('one call at a time') }}{% endif -%}
<|start_header_id|>assistant<|end_header_id|>

{% set f = m.tool_calls[0].function -%}
{"name": "{{ f.name }}", "parameters": {{ f.arguments | tojson }}}<|eot_id|>
{%- else %}<|start_header_id|>{{ 'ipython' if m.role == 'tool' else m.role }}<|end_header_id|>

{{ m.content }}<|eot_id|>{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif %}"""

MISTRAL = """
{{- bos_token }}
{%- if messages[0].role == 'system' %}{% set said = messages[0].content %}{% set rest = messages[1:] %}
{%- else %}{% set said = '' %}{% set rest = messages %}{% endif %}
{%- set ns = namespace(n=0) %}
{%- for m in rest %}{% if m.role in ['user', 'assistant'] and not m.tool_calls %}
{%- if (m.role == 'user') != (ns.n % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{%- set ns.n = ns.n + 1 %}{% endif %}{% endfor %}
{%- for m in rest %}
{%- if m.role == 'user' %}
{%- if loop.last and tools %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif -%}
[INST] {% if loop.last and said %}{{ said }}

{% endif %}{{ m.content }}[/INST]
{%- elif m.tool_calls %}[TOOL_CALLS] [
{%- for call in m.tool_calls %}{% if call.id | length != 9 %}{{ raise_exception('nine letters') }}{% endif -%}
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}
{{- ', "id": "' + call.id + '"}' }}
{%- if not loop.last %}, {% endif %}{% endfor %}]{{ eos_token }}
{%- elif m.role == 'tool' %}
{%- if m.tool_call_id | length != 9 %}{{ raise_exception('nine letters') }}{% endif -%}
[TOOL_RESULTS] {"content": {{ m.content }}, "call_id": "{{ m.tool_call_id }}"}[/TOOL_RESULTS]
{%- else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"""

GEMMA = """
{{- bos_token }}
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for m in messages %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif -%}
<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}
{{ m.content | trim }}<end_of_turn>
{% endfor %}
{%- if add_generation_prompt %}<start_of_turn>model
{% endif %}"""

FAMILIES = {"qwen": QWEN, "llama": LLAMA, "mistral": MISTRAL, "gemma": GEMMA}
STRICT = {
    "qwen": Abilities(),
    "llama": Abilities(many_calls=False, text_beside=False),
    "mistral": Abilities(text_beside=False, any_order=False),
    "gemma": Abilities(
        system=False,
        tools=False,
        tool_turns=False,
        many_calls=False,
        text_beside=False,
        any_order=False,
    ),
}

SYSTEM = Message(Role.SYSTEM, "You are the receptionist.")
GREETING = Message(Role.ASSISTANT, "Larkspur Dental, hello.")
BOOK = ToolSpec(
    "book", "Book a day.", {"type": "object", "properties": {"day": {"type": "string"}}}
)
CALLS = (
    ToolCall("call_from_another_provider", "book", '{"day": "Friday"}'),
    ToolCall("abc123def", "end_call", "{}"),
)
DIALOGUE = [
    SYSTEM,
    GREETING,
    Message(Role.USER, "Friday,"),
    Message(Role.USER, "please. Then hang up."),
    Message(Role.ASSISTANT, "", CALLS),
    Message(Role.TOOL, '{"booked": "Friday"}', (), CALLS[0].id, "book"),
    Message(Role.TOOL, '{"ended": true}', (), CALLS[1].id, "end_call"),
    Message(Role.USER, "Hello?"),
]


@cache
def template(family: str) -> ChatTemplate:
    return ChatTemplate(FAMILIES[family], "<bos>", "<eos>", ["<|im_end|>", "<end_of_turn>"])


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_template_can_render_is_found_by_trying(family: str) -> None:
    assert template(family).abilities == STRICT[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_call_with_greeting_tools_and_interruptions_is_rendered_whole_and_in_order(
    family: str,
) -> None:
    prompt = template(family).prompt(DIALOGUE, [BOOK])
    said = ["receptionist", "Larkspur Dental, hello.", "Friday,", "please. Then hang up."]
    said += ['"day": "Friday"', '{"booked": "Friday"}', "end_call", '{"ended": true}', "Hello?"]
    places = [prompt.find(text) for text in said if text != "receptionist"]
    if family != "llama":  # the others write the calls of one message before their results
        places = [places[n] for n in (0, 1, 2, 3, 5, 4, 6, 7)]
    assert -1 not in places
    assert places == sorted(places)
    assert said[0] in prompt
    assert "Book a day." in prompt


def test_where_there_is_no_system_message_the_caller_begins_with_it() -> None:
    prompt = template("gemma").prompt([SYSTEM, Message(Role.USER, "Hello")], [])
    assert prompt == (
        "<bos><start_of_turn>user\nYou are the receptionist.\n\nHello<end_of_turn>\n"
        "<start_of_turn>model\n"
    )


def test_where_there_are_no_tools_they_stand_in_the_prompt_with_the_form_of_a_call() -> None:
    prompt = template("gemma").prompt([SYSTEM, Message(Role.USER, "Hello")], [BOOK])
    assert '{"name": "book", "description": "Book a day.", "parameters": ' in prompt
    form = '```tool_code\n{"name": "the tool", "arguments": {...}}\n```'
    assert form in prompt
    parser = ReplyParser(tools=True)
    call = form.replace("the tool", "book").replace("{...}", '{"day": "Friday"}')
    found = [*parser.feed(call), *parser.end()]
    assert [(one.name, one.arguments) for one in found if isinstance(one, ToolCall)] == [
        ("book", '{"day": "Friday"}')
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_opening_is_what_dialogues_of_an_agent_share(family: str) -> None:
    rendered = template(family)
    opening = rendered.opening(DIALOGUE, [BOOK])
    other = [SYSTEM, Message(Role.USER, "Are you open?")]
    assert rendered.prompt(other, [BOOK]).startswith(opening)
    assert "receptionist" in opening
    assert rendered.opening(DIALOGUE[1:], [BOOK]) == ""


def test_a_template_that_begins_a_thought_ends_with_its_mark() -> None:
    thinking = QWEN.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
    prompt = ChatTemplate(thinking, "", "", []).prompt([Message(Role.USER, "Hello")], [])
    assert prompt.endswith("<think>\n")


def test_a_template_can_do_nothing_but_render() -> None:
    """It comes with a model file, from anywhere."""
    for source in ("{{ messages.__class__.__mro__ }}", "{{ cycler.__init__.__globals__ }}"):
        with pytest.raises(Exception, match=r"unsafe|refuses"):
            ChatTemplate(source, "", "", []).prompt([Message(Role.USER, "Hello")], [])
    with pytest.raises(ConfigurationError):
        ChatTemplate("{% for %}", "", "", [])


_CONTENT = st.text(alphabet="abc <>|_'\"{}\\\n", max_size=12)
_SPOKEN = st.builds(Message, st.sampled_from([Role.USER, Role.ASSISTANT]), _CONTENT)
_USED = st.builds(
    lambda text, calls, answered: [
        Message(Role.ASSISTANT, text, tuple(calls)),
        *(Message(Role.TOOL, "{}", (), call.id, call.name) for call in calls[:answered]),
    ],
    st.sampled_from(["", "One moment."]),
    st.lists(st.sampled_from(CALLS), min_size=1, max_size=2, unique=True),
    st.integers(1, 2),
)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.one_of(_SPOKEN.map(lambda one: [one]), _USED), max_size=6),
    tools=st.booleans(),
)
def test_no_order_of_messages_is_refused_and_nothing_said_is_lost(
    family: str, parts: list[list[Message]], tools: bool
) -> None:
    messages = [SYSTEM, *(one for part in parts for one in part), Message(Role.USER, "Well?")]
    prompt = template(family).prompt(messages, [BOOK] if tools else [])
    for message in messages:
        assert message.content.strip() in prompt
    assert json.dumps("Friday")[1:-1] in prompt or not any(
        call.name == "book" for message in messages for call in message.tool_calls
    )
