# SPDX-License-Identifier: Apache-2.0
"""Tool calls held to their grammar: what may follow a mark, and that noise behind one is a valid call."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from trunkline_llama_cpp import build
from trunkline_llama_cpp.native import Model
from trunkline_llama_cpp.provider import LlamaModel
from trunkline_llama_cpp.sampling import Grammar, GrammarError
from trunkline_llama_cpp.settings import LlamaCppSettings
from trunkline_llama_cpp.tool_grammar import ToolGrammars, ToolGuide

from appliance.plugin import BuildContext, LlmRequest, Message, Role, TextDelta, ToolCall, ToolSpec

BOOK = ToolSpec(
    "book",
    "Book.",
    {
        "type": "object",
        "properties": {
            "day": {"enum": ["Friday", "Monday"]},
            "people": {"type": "integer"},
            "note": {"type": "string", "maxLength": 8},
        },
        "required": ["day", "people"],
    },
)
BYE = ToolSpec("end_call", "Hang up.", {"type": "object", "properties": {}})
ODD = ToolSpec('say "hi"', "", {"$ref": "https://example.test/schema"})
ODDER = ToolSpec(
    "odder", "", {"properties": {"x": {"type": "string", "pattern": "(?=a)b"}}, "allOf": 3}
)
END = 2
"""The end token of the random model."""

ARGUMENTS = '{"day": "Friday", "people": 2}'
RIGHT = {
    "<tool_call>": [
        f'\n{{"name": "book", "arguments": {ARGUMENTS}}}\n</tool_call>',
        (
            '{"name":"end_call","arguments":{}}</tool_call>\n'
            '<tool_call>{"name":"end_call","arguments":{}}</tool_call>'
        ),
    ],
    "<|python_tag|>": [
        f'{{"name": "book", "parameters": {ARGUMENTS}}}; {{"name": "end_call", "parameters": {{}}}}'
    ],
    "[TOOL_CALLS]": [
        f' [{{"name": "book", "arguments": {ARGUMENTS}}}]',
        f"book[ARGS]{ARGUMENTS}[TOOL_CALLS]end_call[ARGS]{{}}",
    ],
    "```tool_code": [f'\n{{"name": "book", "arguments": {ARGUMENTS}}}\n```'],
    "{": [f'{{"name": "book", "parameters": {ARGUMENTS}}}'],
}
WRONG = [
    '{"name": "cook", "arguments": {}}',
    '{"name": "book", "arguments": {}}',
    '{"name": "book", "arguments": {"day": "Sunday", "people": 2}}',
    '{"name": "book", "arguments": {"day": "Friday", "people": "two"}}',
    '{"arguments": {}}',
    "Let me see",
]


@pytest.fixture
def model(random_gguf: Path) -> Iterator[Model]:
    loaded = Model(random_gguf, 0, frozenset())
    yield loaded
    loaded.close()


def follows(model: Model, mark: str, text: str, tools: list[ToolSpec]) -> bool:
    """Whether a reply may end with `text` behind `mark`."""
    grammar = Grammar(model, ToolGrammars(tools).after(mark))
    try:
        for token in model.tokenize(text, begins=False):
            if not grammar.allows(token):
                return False
            grammar.accept(token)
        return grammar.allows(END)
    finally:
        grammar.close()


@pytest.mark.parametrize("mark", RIGHT)
def test_behind_a_mark_only_valid_calls_of_the_family_may_follow(model: Model, mark: str) -> None:
    for text in RIGHT[mark]:
        assert follows(model, mark, text, [BOOK, BYE])
        assert not follows(model, mark, text + " and more", [BOOK, BYE])
        assert not follows(model, mark, text[:-2], [BOOK, BYE])
    end = "</tool_call>" if mark == "<tool_call>" else "\n```" if "`" in mark else ""
    for text in WRONG:
        assert not follows(model, mark, text + end, [BOOK, BYE])


def test_a_schema_that_grammars_cannot_express_asks_for_any_object(model: Model) -> None:
    call = '{"name": "say \\"hi\\"", "arguments": {"whatever": [1, null]}}</tool_call>'
    assert follows(model, "<tool_call>", call, [ODD])
    assert not follows(model, "<tool_call>", call.replace("null", "nil"), [ODD])
    assert follows(model, "[TOOL_CALLS]", 'odder[ARGS]{"x": 1}', [BOOK, ODDER])


def test_a_grammar_that_llama_cpp_does_not_understand_is_an_error(model: Model) -> None:
    with pytest.raises(GrammarError):
        Grammar(model, "root ::= undefined")


def test_what_came_in_one_token_with_the_mark_counts_and_what_does_not_fit_frees_the_reply(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rest, held in (("", True), ('\n{"name', True), ("nonsense", False)):
        guide = ToolGuide(model, ToolGrammars([BOOK]))
        with monkeypatch.context() as patched:
            patched.setattr(model, "piece", lambda _token, rest=rest: f"<tool_call>{rest}".encode())
            guide.wrote(40)
        assert (guide.grammar is not None) == held
        if guide.grammar and rest:
            assert guide.grammar.allows(model.tokenize('"', begins=False)[0])
            assert not guide.grammar.allows(model.tokenize("x", begins=False)[0])
        guide.release()


def test_a_mark_in_a_thought_holds_nothing(model: Model) -> None:
    guide = ToolGuide(model, ToolGrammars([BOOK]))
    for token in model.tokenize("<think>I write <tool_call> then</think>", begins=False):
        guide.wrote(token)
        assert guide.grammar is None
    for token in model.tokenize(" <tool_call>", begins=False):
        guide.wrote(token)
    assert guide.grammar is not None
    guide.release()


@pytest.fixture
async def provider(
    random_gguf: Path, build_context: BuildContext
) -> AsyncIterator[Callable[..., LlamaModel]]:
    built: list[LlamaModel] = []

    def make(begin: str) -> LlamaModel:
        """A model whose every reply begins with `begin`, and then is noise."""
        template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        settings = LlamaCppSettings(model=str(random_gguf), chat_template=template)
        model = build(settings, build_context)
        assert isinstance(model, LlamaModel)
        sampler = model._sampler

        def beginning(request: LlmRequest, grammars: ToolGrammars | None) -> Any:
            made = sampler(request, grammars)
            ahead = model._model.tokenize(begin, begins=False)
            sample = made.sample

            def drawn(context: Any, index: int) -> int:
                if not ahead:
                    return sample(context, index)
                token = ahead.pop(0)
                if made._guide:
                    made._guide.wrote(token)
                return token

            made.sample = drawn  # type: ignore[method-assign]
            return made

        model._sampler = beginning  # type: ignore[method-assign]
        built.append(model)
        return model

    yield make
    for model in built:
        await model.aclose()


@pytest.mark.parametrize(
    ("begin", "said", "temperature"),
    [
        ("One moment. <tool_call>", "One moment.", 0.0),
        ("<tool_call>", "", 1.5),
        ("[TOOL_CALLS]", "", 1.5),
        ("<|python_tag|>", "", 0.0),
        ("{", "", 1.5),
    ],
)
async def test_noise_behind_a_mark_is_a_valid_call_and_nothing_of_it_is_spoken(
    provider: Callable[..., LlamaModel], begin: str, said: str, temperature: float
) -> None:
    hello = [Message(Role.USER, "Hello")]
    request = LlmRequest(hello, [BOOK, BYE], max_tokens=1200, temperature=temperature, seed=3)
    deltas = [delta async for delta in provider(begin).reply(request)]
    spoken = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
    assert spoken.strip() == said
    calls = [delta for delta in deltas if isinstance(delta, ToolCall)]
    assert 1 <= len(calls) <= 4
    schemas = {tool.name: tool.parameters for tool in (BOOK, BYE)}
    for call in calls:
        jsonschema.validate(json.loads(call.arguments), schemas[call.name])


async def test_without_tools_nothing_is_held(provider: Callable[..., LlamaModel]) -> None:
    request = LlmRequest([Message(Role.USER, "Hello")], max_tokens=40)
    deltas = [delta async for delta in provider("{").reply(request)]
    text = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
    assert text.startswith("{")
    assert len(text) == 40
