# SPDX-License-Identifier: Apache-2.0
"""Grammars of tool calls: from the mark that begins one, the reply can only be a valid call.

Before the mark the model writes freely. What a mark promises depends on the model's family: `replies.py`
shows the forms. After a call only further calls may follow, so the reply ends there.
"""

from __future__ import annotations

import copy
import json
import logging
import re
from collections.abc import Sequence
from typing import Any

from llama_cpp.llama_grammar import SchemaConverter

from appliance.plugin import ToolSpec
from trunkline_llama_cpp.native import Model
from trunkline_llama_cpp.sampling import Grammar, GrammarError

_LOG = logging.getLogger("trunkline.llama_cpp")

_ROOTS = {
    "<tool_call>": 'space call-a "</tool_call>" '
    '(space "<tool_call>" space call-a "</tool_call>"){0,3} space',
    "<|python_tag|>": 'space call-p (";" space call-p){0,3}',
    "[TOOL_CALLS]": 'space "[" space call-a ("," space call-a){0,3} "]" space '
    '| new ("[TOOL_CALLS]" new){0,3}',
    "```tool_code": 'space call-e ("," space call-e){0,3} "```" space',
    "```json": 'space call-e ("," space call-e){0,3} "```" space',
    "{": 'space call-e (";" space call-e){0,3}',
}
"""What follows each mark; for `{`, from the brace on. Four calls at most: weak models go on for ever."""

_KEYS = {
    "call-a": ("arguments",),
    "call-p": ("parameters",),
    "call-e": ("arguments", "parameters"),
}

_OWN_RULES = {
    # Weak models fill whole replies with white space if they may.
    "space": "[ \\n]{0,4}",
    # Unlike the converter's: what JSON forbids in a string is forbidden.
    "char": '[^"\\\\\\x00-\\x1F\\x7F] | "\\\\" (["\\\\/bfnrt] | "u" [0-9a-fA-F]{4})',
}


class ToolGrammars:
    """The grammars for one set of tools.

    Args:
        tools: at least one.
    """

    def __init__(self, tools: Sequence[ToolSpec]) -> None:
        self._rules = _rules(tools)

    def after(self, mark: str) -> str:
        """Return the GBNF of what follows `mark`."""
        return f"root ::= {_ROOTS[mark]}\n{self._rules}"


def _rules(tools: Sequence[ToolSpec]) -> str:
    converter: Any = SchemaConverter(  # type: ignore[no-untyped-call]
        prop_order={}, allow_fetch=False, dotall=False, raw_pattern=False
    )
    converter.visit({"type": "object"}, "any")  # the rules that the own ones use
    arguments = [_arguments(converter, tool, index) for index, tool in enumerate(tools)]
    rules = dict(line.split(" ::= ", 1) for line in converter.format_grammar().splitlines())
    rules |= _OWN_RULES
    for rule, keys in _KEYS.items():
        rules[rule] = " | ".join(
            _call(tool.name, keys, given) for tool, given in zip(tools, arguments, strict=True)
        )
    rules["new"] = " | ".join(
        f'{_literal(tool.name)} ("[CALL_ID]" [A-Za-z0-9]+)? "[ARGS]" space {given}'
        for tool, given in zip(tools, arguments, strict=True)
    )
    return "\n".join(f"{name} ::= {rule}" for name, rule in rules.items())


def _literal(text: str) -> str:
    """Return a GBNF literal; its escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)


def _call(name: str, keys: Sequence[str], arguments: str) -> str:
    """Return what a call of one tool looks like: a JSON object with its name and its arguments."""
    key = " | ".join(_literal(_literal(key)) for key in keys)
    return (
        f'"{{" space {_literal(_literal("name"))} space ":" space {_literal(_literal(name))} space '
        f'"," space ({key}) space ":" space {arguments} "}}" space'
    )


def _arguments(converter: Any, tool: ToolSpec, index: int) -> str:
    """Return the name of the rule of a tool's arguments: any object, where its schema says too much."""
    rule = f"args-{index}"
    schema: Any = {"type": "object", **copy.deepcopy(dict(tool.parameters))}
    try:
        schema = converter.resolve_refs(schema, f"tool-{index}")
        return str(converter.visit(schema, rule))
    except Exception as error:  # whatever it does not understand
        _LOG.warning("the schema of the tool %s is not enforced: %s", tool.name, error)
        return str(converter.visit({"type": "object"}, rule))


class ToolGuide:
    """Watches a reply for the mark of a tool call, and from there holds it to the grammar.

    Args:
        model: whose tokens the reply consists of.
        grammars: those of the tools it was offered.
    """

    def __init__(self, model: Model, grammars: ToolGrammars) -> None:
        self._model = model
        self._grammars = grammars
        self._text = ""
        self.grammar: Grammar | None = None
        self._watches = True

    def wrote(self, token: int) -> None:
        """Note a token that was drawn."""
        if self.grammar is not None:
            if self.grammar.allows(token):
                self.grammar.accept(token)
            else:
                self.release()
        elif self._watches:
            self._text += (self._model.piece(token) or b"").decode("latin-1")
            found = _mark(self._text)
            if found:
                self._hold(*found)

    def _hold(self, mark: str, rest: str) -> None:
        """Start the grammar, and feed it what came in one token with the mark."""
        self._watches = False
        try:
            self.grammar = Grammar(self._model, self._grammars.after(mark))
        except GrammarError as error:
            _LOG.warning("tool calls are not held to their grammar: llama.cpp refuses %s", error)
            return
        for token in self._model.tokenize(rest, begins=False) if rest else []:
            if not self.grammar.allows(token):
                self.release()
                return
            self.grammar.accept(token)

    def release(self) -> None:
        """Hold the reply to nothing any more."""
        self._watches = False
        if self.grammar is not None:
            self.grammar.close()
            self.grammar = None


_MARK = re.compile("|".join(re.escape(mark) for mark in _ROOTS if mark != "{"))


def _mark(text: str) -> tuple[str, str] | None:
    """Return the first mark in a reply so far, and what follows it; thoughts do not count."""
    said = text.rpartition("</think>")[2]
    if "<think>" in said:
        return None
    if said.lstrip().startswith("{"):
        return "{", said.lstrip()
    found = _MARK.search(said)
    return (found.group(), said[found.end() :]) if found else None
