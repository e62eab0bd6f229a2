# SPDX-License-Identifier: Apache-2.0
"""How a dialogue is written down for the model: ChatML, tools in one line each, Hermes calls.

`TEMPLATE` is the Jinja chat template that goes into the GGUF; `rendered` writes the same text
for training, in pieces, so that the answers can be told from the rest. Both number the prompt's
sentences (`recipe.llm.lines`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

from recipe.llm import lines
from recipe.llm.dialogue import Dialogue, Message

DESCRIPTION_LIMIT = 80  # characters of a tool's description that the model is shown
ARGUMENTS = '"arguments": '
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *lines.MARKS)
_FORGOTTEN = 0.35  # share of marks that training leaves out, as they are from the history of a call

_MARKED = (
    "{%- set seen = namespace(text=system|trim, n=0) -%}"
    f"{{%- for short in {list(lines.ABBREVIATIONS)} -%}}"
    "{%- set seen.text = seen.text.replace(short + ' ', short + '\\r') -%}{%- endfor -%}"
    "{%- for end in ['.', '?', '!'] -%}"
    "{%- set seen.text = seen.text.replace(end + ' ', end + '\n') -%}{%- endfor -%}"
    "{%- for raw in seen.text.split('\n') -%}{%- set line = raw.replace('\\r', ' ')|trim -%}{%- if line -%}"
    "{%- set seen.n = seen.n + 1 -%}{%- if seen.n > 1 -%}{{ '\n' }}{%- endif -%}"
    f"{{%- if seen.n <= {lines.COUNT} -%}}"
    "{{ '<|' ~ seen.n ~ '|>' ~ line ~ '<|/' ~ seen.n ~ '|>' }}{%- else -%}{{ line }}{%- endif -%}"
    "{%- endif -%}{%- endfor -%}"
)
TEMPLATE = (
    "{%- set start = '<|im_start|>' -%}{%- set end = '<|im_end|>\n' -%}"
    "{%- set system = messages[0].content if messages and messages[0].role == 'system' else '' -%}"
    "{%- if system or tools -%}{{ start + 'system\n' }}"
    + _MARKED
    + "{%- if tools -%}{{ '\nTools:' }}{%- for tool in tools -%}"
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


def rendered(dialogue: Dialogue, rng: Random | None = None) -> Iterator[tuple[str, bool]]:
    """The dialogue in pieces, each with whether the model is to learn to write it.

    With `rng`, some answers stand there as they do in a call's history: without marks, not to be learned.
    """
    head = f"<|im_start|>system\n{lines.marked(dialogue.system)}"
    if dialogue.tools:
        head += "\nTools:" + "".join("\n" + tool_line(tool) for tool in dialogue.tools)
    yield head + "<|im_end|>\n", False
    for message in dialogue.messages:
        yield f"<|im_start|>{message.role}\n", False
        text, learn = message_text(message), message.learn
        if learn and not message.call:
            pointed = lines.pointed(text, dialogue.system, message.source)
            if message.kind == "unknown":
                pointed = lines.NOWHERE + text
            if rng and pointed != text and rng.random() < _FORGOTTEN:
                learn = False
            else:
                text = pointed
        yield text + "<|im_end|>", learn
        yield "\n", False
