# SPDX-License-Identifier: Apache-2.0
"""How a dialogue is written down for the model: ChatML, tools in one line each, Hermes calls.

`TEMPLATE` is the Jinja chat template that goes into the GGUF; `rendered` writes the same text
for training, in pieces, so that the answers can be told from the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from recipe.llm.dialogue import Dialogue, Message

DESCRIPTION_LIMIT = 80  # characters of a tool's description that the model is shown
ARGUMENTS = '"arguments": '
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

TEMPLATE = (
    "{%- set start = '<|im_start|>' -%}{%- set end = '<|im_end|>\n' -%}"
    "{%- set system = messages[0].content if messages and messages[0].role == 'system' else '' -%}"
    "{%- if system or tools -%}{{ start + 'system\n' + system|trim }}"
    "{%- if tools -%}{{ '\nTools:' }}{%- for tool in tools -%}"
    "{%- set f = tool.function if tool.function else tool -%}"
    "{{ '\n' + f.name + '(' }}"
    "{%- if f.parameters and f.parameters.properties -%}"
    "{{ f.parameters.properties.keys()|join(', ') }}{%- endif -%}"
    "{{ ')' }}{%- if f.description -%}{{ ': ' + f.description[:80]|trim }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}{{ end }}{%- endif -%}"
    "{%- for m in messages -%}{%- if not (loop.first and m.role == 'system') -%}"
    "{{ start + m.role + '\n' }}{%- if m.content -%}{{ m.content|trim }}{%- endif -%}"
    "{%- if m.tool_calls -%}{%- for call in m.tool_calls -%}"
    "{%- set f = call.function if call.function else call -%}"
    '{{ \'<tool_call>{"name": "\' + f.name + \'", "arguments": \' }}'
    "{%- if f.arguments is string -%}{{ f.arguments }}{%- else -%}{{ '{' }}"
    "{%- for key, value in f.arguments.items() -%}"
    "{{ '\"' + key + '\": ' }}"
    "{%- if value is string -%}{{ '\"' + value + '\"' }}{%- else -%}{{ value|tojson }}{%- endif -%}"
    "{%- if not loop.last -%}{{ ', ' }}{%- endif -%}{%- endfor -%}{{ '}' }}{%- endif -%}"
    "{{ '}</tool_call>' }}{%- endfor -%}{%- endif -%}{{ end }}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ start + 'assistant\n' }}{%- endif -%}"
)


def tool_line(tool: dict[str, Any]) -> str:
    """A tool as the model sees it."""
    function = tool["function"]
    names = ", ".join(function["parameters"].get("properties", {}))
    described = function["description"][:DESCRIPTION_LIMIT].strip()
    return f"{function['name']}({names})" + (f": {described}" if described else "")


def call_text(call: tuple[str, dict[str, str]]) -> str:
    """A call as the model writes it."""
    name, arguments = call
    given = json.dumps(arguments, ensure_ascii=False)
    return f'<tool_call>{{"name": "{name}", "arguments": {given}}}</tool_call>'


def message_text(message: Message) -> str:
    """What a message holds, its call included."""
    return message.text.strip() + (call_text(message.call) if message.call else "")


def rendered(dialogue: Dialogue) -> Iterator[tuple[str, bool]]:
    """The dialogue in pieces, each with whether the model is to learn to write it."""
    head = f"<|im_start|>system\n{dialogue.system.strip()}"
    if dialogue.tools:
        head += "\nTools:" + "".join("\n" + tool_line(tool) for tool in dialogue.tools)
    yield head + "<|im_end|>\n", False
    for message in dialogue.messages:
        yield f"<|im_start|>{message.role}\n", False
        yield message_text(message) + "<|im_end|>", message.learn
        yield "\n", False
