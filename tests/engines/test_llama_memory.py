# SPDX-License-Identifier: Apache-2.0
"""Which sequence holds what: random calls against a context that only notes what it is told."""

from __future__ import annotations

from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st
from trunkline_llama_cpp.memory import Dialogue, Memory
from trunkline_llama_cpp.native import Context

CELLS = 120
SEQUENCES = 5
OPENINGS = [[*range(100, 120)], [*range(100, 118), 7, 8, 9], []]


class Notebook:
    """The content of each sequence, as llama.cpp would have it."""

    tokens = CELLS

    def __init__(self, *, splits: bool) -> None:
        self.splits = splits
        self.held: dict[int, list[int]] = {}

    def copy(self, source: int, target: int, end: int) -> None:
        assert self.splits
        assert not self.held.get(target)
        assert len(self.held[source]) >= end
        self.held[target] = self.held[source][:end]

    def cut(self, sequence: int, start: int) -> bool:
        assert self.splits
        del self.held[sequence][start:]
        return True

    def forget(self, sequence: int) -> None:
        self.held[sequence] = []

    def read(self, dialogue: Dialogue, tokens: list[int]) -> None:
        self.held.setdefault(dialogue.sequence, []).extend(tokens)
        dialogue.tokens.extend(tokens)


turns = st.fixed_dictionaries(
    {
        "call": st.sampled_from(["a", "b", "c", "d", "e", "f", "g", ""]),
        "opening": st.integers(0, 2),
        "said": st.lists(st.integers(0, 3), min_size=1, max_size=25),
        "reply": st.integers(1, 20),
        "seconds": st.sampled_from([0, 0, 1, 30]),
        "ends": st.integers(0, 6),
    }
)


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(turns, max_size=40), splits=st.booleans())
def test_a_claimed_sequence_holds_a_beginning_of_its_prompt_and_nothing_else(
    steps: list[dict[str, object]], splits: bool
) -> None:
    context = Notebook(splits=splits)
    clock = [0.0]
    memory = Memory(
        cast("Context", context),
        sequences=SEQUENCES,
        splits=splits,
        keep_s=20,
        now=lambda: clock[0],
    )
    running: list[Dialogue] = []
    for step in steps:
        clock[0] += cast("int", step["seconds"])
        while len(running) > cast("int", step["ends"]):
            memory.release(running.pop(0))
        opening = OPENINGS[cast("int", step["opening"])]
        prompt = opening + cast("list[int]", step["said"])
        shared = memory.shareable(prompt, len(opening))
        reply = cast("int", step["reply"])
        dialogue = memory.claim(cast("str", step["call"]), prompt, shared, reply)
        if dialogue is None:
            assert running, "alone, every prompt finds room"
            continue
        assert dialogue.sequence not in {other.sequence for other in running}
        assert context.held.get(dialogue.sequence, []) == dialogue.tokens
        assert dialogue.tokens == prompt[: len(dialogue.tokens)]
        assert len(dialogue.tokens) < len(prompt), "the last token is read for its logits"
        context.read(dialogue, prompt[len(dialogue.tokens) :])
        if shared:
            memory.share(dialogue, shared)
        context.read(dialogue, [50] * (reply - 1))
        running.append(dialogue)
        assert memory._cells() <= CELLS
        for other in running:
            assert context.held[other.sequence] == other.tokens
    for dialogue in running:
        memory.release(dialogue)


def test_a_known_opening_is_shared_and_costs_nothing_more() -> None:
    context = Notebook(splits=True)
    memory = Memory(cast("Context", context), sequences=4, splits=True, keep_s=9, now=lambda: 0.0)
    prompt = [*OPENINGS[0], 1, 2, 3]
    shared = memory.shareable(prompt, 20)
    assert shared is not None
    first = memory.claim("a", prompt, shared, 5)
    assert first is not None
    context.read(first, prompt)
    memory.share(first, shared)
    second = memory.claim("b", prompt, shared, 5)
    assert second is not None
    assert second.tokens == OPENINGS[0]
    assert (first.cells(), second.cells()) == (8, 8)


def test_a_new_call_begins_with_the_longest_copy_of_what_others_said() -> None:
    context = Notebook(splits=True)
    memory = Memory(cast("Context", context), sequences=5, splits=True, keep_s=9, now=lambda: 0.0)
    greeted = [*OPENINGS[0], *range(200, 215)]
    shared = memory.shareable(greeted, 20)
    assert shared is not None
    for call in ("a", "b"):
        dialogue = memory.claim(call, [*greeted, 1, 2, 3], shared, 5)
        assert dialogue is not None
        assert len(dialogue.tokens) == (len(greeted) + 2 if call == "b" else 0)
        assert dialogue.opening is None if call == "a" else dialogue.opening
        context.read(dialogue, [*greeted, 1, 2, 3][len(dialogue.tokens) :])
        memory.share(dialogue, shared)
    other = memory.claim("c", [*OPENINGS[0], 9, 9, 9], shared, 5)
    assert other is not None
    assert other.tokens == OPENINGS[0]


def test_a_running_speculation_gives_its_call_a_copy_of_what_still_holds() -> None:
    context = Notebook(splits=True)
    memory = Memory(cast("Context", context), sequences=4, splits=True, keep_s=9, now=lambda: 0.0)
    asked = list(range(30))
    guess = memory.claim("a", asked, None, 5)
    assert guess is not None
    context.read(guess, [*asked, 70, 71])
    again = memory.claim("a", [*asked[:25], 80, 81], None, 5)
    assert again is not None
    assert again.sequence != guess.sequence
    assert again.tokens == asked[:25] == context.held[again.sequence]
    assert guess.tokens == [*asked, 70, 71] == context.held[guess.sequence]


def test_an_opening_outlives_the_quiet_only_when_calls_have_shared_it() -> None:
    clock = [0.0]
    context = Notebook(splits=True)
    memory = Memory(
        cast("Context", context), sequences=5, splits=True, keep_s=9, now=lambda: clock[0]
    )

    def turn(call: str, opening: list[int]) -> bool:
        """Whether the opening was known."""
        prompt = [*opening, 1, 2, 3]
        shared = memory.shareable(prompt, len(opening))
        assert shared is not None
        known = memory.knows(shared)
        dialogue = memory.claim(call, prompt, shared, 5)
        assert dialogue is not None
        context.read(dialogue, prompt[len(dialogue.tokens) :])
        memory.share(dialogue, shared)
        memory.release(dialogue)
        return known

    common, personal = OPENINGS[0], [*range(60, 80)]
    assert [turn("a", common), turn("b", common), turn("c", personal)] == [False, True, False]
    clock[0] = 100
    turn("d", common)
    assert [turn("e", common), turn("f", personal)] == [True, False]


def test_a_beginning_too_short_to_share_is_not() -> None:
    memory = Memory(
        cast("Context", Notebook(splits=True)), sequences=4, splits=True, keep_s=9, now=lambda: 0.0
    )
    assert memory.shareable(list(range(30)), 15) is None
    assert memory.shareable(list(range(30)), 16) == tuple(range(16))
