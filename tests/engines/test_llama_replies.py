# SPDX-License-Identifier: Apache-2.0
"""Taking a reply apart: text goes on at once, tool calls never reach the speaker."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trunkline_llama_cpp.replies import ReplyParser

from appliance.plugin import TextDelta, ToolCall

FRIDAY = '{"name": "book", "arguments": {"day": "Friday", "note": "a } brace, a \\"quote\\""}}'
ARGUMENTS = {"day": "Friday", "note": 'a } brace, a "quote"'}
BYE = '{"name": "end_call", "arguments": {}}'

FAMILIES = {
    "qwen": f"Good. <tool_call>\n{FRIDAY}\n</tool_call>\n<tool_call>{BYE}</tool_call>",
    "mistral": f"Good. [TOOL_CALLS] [{FRIDAY}, {BYE}]",
    "new mistral": "Good. [TOOL_CALLS]book[ARGS]"
    + json.dumps(ARGUMENTS)
    + "[TOOL_CALLS]end_call[ARGS]{}",
    "llama 3.1": "Good. <|python_tag|>"
    + FRIDAY.replace("arguments", "parameters")
    + "; "
    + BYE.replace("arguments", "parameters"),
    "llama 3.1, by function": f"Good. <function=book>{json.dumps(ARGUMENTS)}</function>"
    "<function=end_call>{}</function>",
    "llama 3.2": f"Good. {FRIDAY}; {BYE}",
    "gemma": f"Good.\n```tool_code\n{FRIDAY}\n```\n```json\n{BYE}\n```",
    "gemma, in Python": "Good.\n```tool_code\nprint(book("
    + ", ".join(f"{key}={value!r}" for key, value in ARGUMENTS.items())
    + "))\nend_call()\n```",
    "a list": f"[{FRIDAY}, {BYE}]\nGood.",
}


def parse(*pieces: str, tools: bool = True) -> tuple[str, list[ToolCall]]:
    parser = ReplyParser(tools=tools)
    items = [item for piece in pieces for item in parser.feed(piece)] + list(parser.end())
    text = "".join(item.text for item in items if isinstance(item, TextDelta))
    return text, [item for item in items if isinstance(item, ToolCall)]


@pytest.mark.parametrize("family", FAMILIES)
def test_calls_of_each_family_are_found_and_not_spoken(family: str) -> None:
    text, calls = parse(FAMILIES[family])
    assert text.strip() == "Good."
    assert [call.name for call in calls] == ["book", "end_call"]
    assert json.loads(calls[0].arguments) == ARGUMENTS
    assert json.loads(calls[1].arguments) == {}
    assert calls[0].id != calls[1].id


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_it_does_not_matter_how_the_reply_is_cut_into_pieces(
    family: str, data: st.DataObject
) -> None:
    whole = FAMILIES[family]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    ends = [*cuts, len(whole)]
    pieces = [whole[start:end] for start, end in zip([0, *cuts], ends, strict=True)]
    text, calls = parse(*pieces)
    assert text.strip() == "Good."
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("book", ARGUMENTS),
        ("end_call", {}),
    ]


def test_text_is_not_held_back_longer_than_it_must() -> None:
    parser = ReplyParser(tools=True)
    assert list(parser.feed("Is 3 < 4")) == [TextDelta("Is 3 < 4")]
    assert list(parser.feed(" <")) == [TextDelta(" ")]
    assert list(parser.feed("tool")) == []
    assert list(parser.feed("s>")) == [TextDelta("<tools>")]
    assert list(parser.feed(" [")) == [TextDelta(" ")]
    assert list(parser.feed("one]")) == [TextDelta("[one]")]


def test_a_bare_json_reply_is_a_call_only_when_tools_were_offered() -> None:
    bare = '{"name": "book", "parameters": {"day": "Friday"}}'
    assert [call.name for call in parse(*bare)[1]] == ["book"]
    assert parse(*bare, tools=False) == (bare, [])


def test_json_that_is_no_call_is_text() -> None:
    assert parse('{"temperature": 20}') == ('{"temperature": 20}', [])


def test_a_call_that_is_cut_off_is_still_a_call_with_the_arguments_as_written() -> None:
    text, calls = parse('Good. <tool_call>{"name": "book", "arguments": {"day": "Fri')
    assert text.strip() == "Good."
    assert (calls[0].name, calls[0].arguments) == ("book", '{"day": "Fri')


def test_json_in_the_middle_of_a_sentence_goes_on_as_text_when_it_ends() -> None:
    parser = ReplyParser(tools=True)
    assert list(parser.feed("It is {20")) == [TextDelta("It is ")]
    assert list(parser.feed("} degrees")) == [TextDelta("{20}"), TextDelta(" degrees")]


def test_code_that_is_no_call_is_text() -> None:
    for said in ("```python\nx = 1\n```", "```json\n[1, 2]\n```", "``` and more"):
        assert parse(said) == (said, [])


def test_json_that_is_cut_off_is_not_spoken() -> None:
    assert parse('Good. {"na') == ("Good. ", [])
    assert parse('Good. ```tool_code\n{"name": "bo') == ("Good. ", [])


def test_marks_that_close_nothing_are_not_spoken() -> None:
    assert parse("Good.</tool_call> Bye.</think></function>") == ("Good. Bye.", [])


def test_a_thought_that_the_prompt_began_is_not_spoken() -> None:
    parser = ReplyParser(tools=False)
    parser.begin_in_thought()
    items = [
        item for piece in ("Hm, a ", "caller.</th", "ink>\n\nHello.") for item in parser.feed(piece)
    ]
    assert items == [TextDelta("\n\nHello.")]


_NOISE = st.text(alphabet='ab {}[]":,`<>|/=\\\n', max_size=12)
_PARTS = st.sampled_from(
    [
        "<tool_call>",
        "</tool_call>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "<|python_tag|>",
        "```",
        "```tool_code\n",
        "<think>",
        "</think>",
        "<function=",
        "</function>",
        FRIDAY,
        BYE,
        f"[{BYE}]",
        "book()",
        "Good. ",
    ]
)


@given(st.lists(st.one_of(_PARTS, _NOISE), max_size=8), st.booleans(), st.data())
def test_of_any_reply_the_same_comes_out_however_it_is_cut(
    parts: list[str], tools: bool, data: st.DataObject
) -> None:
    whole = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    results = []
    for cut in ([whole], list(whole), pieces):
        text, calls = parse(*cut, tools=tools)
        results.append(("".join(text.split()), [(call.name, call.arguments) for call in calls]))
    assert results[0] == results[1] == results[2]


@given(
    st.lists(st.sampled_from(sorted(FAMILIES)), min_size=1, max_size=2),
    st.integers(0, 200),
    st.data(),
)
def test_however_a_reply_ends_no_mark_of_a_call_is_spoken(
    families: list[str], length: int, data: st.DataObject
) -> None:
    """Cut off in the middle of a mark, nobody can know that it was to be one."""
    whole = "\n".join(FAMILIES[family] for family in families)[:length]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    text, _ = parse(*(whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)))
    for mark in (
        "<tool_call>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "<|python_tag|>",
        "<function=",
        '"name": "',
    ):
        assert mark not in text


def test_of_a_list_that_is_cut_off_the_whole_calls_count() -> None:
    _, calls = parse(f'[TOOL_CALLS] [{FRIDAY}, {BYE}, {{"na')
    assert [call.name for call in calls] == ["book", "end_call"]


def test_a_call_without_a_name_is_dropped() -> None:
    assert parse("<tool_call>{}</tool_call>Yes.") == ("Yes.", [])
    assert parse("<tool_call>nonsense</tool_call>") == ("", [])


def test_what_follows_a_call_is_text_again() -> None:
    text, calls = parse(f"<tool_call>{BYE}</tool_call>\nGoodbye.")
    assert (text.strip(), len(calls)) == ("Goodbye.", 1)


def test_arguments_that_the_model_wrote_as_a_string_stay_as_they_are() -> None:
    _, calls = parse('<tool_call>{"name": "book", "arguments": "{\\"day\\": 1}"}</tool_call>')
    assert calls[0].arguments == '{"day": 1}'


def test_thoughts_are_not_spoken() -> None:
    assert parse("<think>", "Hm, a caller", ".</think>", "\n\nHello.")[0].strip() == "Hello."
    assert parse("<think>never ends") == ("", [])


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="<[{"), max_size=60))
def test_text_without_marks_passes_unchanged(words: str) -> None:
    text, calls = parse(*words)
    assert calls == []
    assert text.strip() == words.strip()
