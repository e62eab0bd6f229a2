# SPDX-License-Identifier: Apache-2.0
"""What a call used is counted once, under the kind of what became of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.call.usage import UsageBook

Entry = tuple[str, str, str, int]


def book() -> tuple[UsageBook, list[Entry]]:
    entries: list[Entry] = []
    return UsageBook(lambda *entry: entries.append(entry)), entries


def test_what_a_draft_used_is_counted_when_its_fate_is_known() -> None:
    usage, entries = book()
    usage.draft(1)
    usage.note(1, "mind", "completion", "tokens", 7)
    assert entries == []
    usage.commit(1)
    usage.note(1, "mind", "completion", "tokens", 2)
    assert entries == [("mind", "completion", "tokens", 7), ("mind", "completion", "tokens", 2)]


def test_what_a_discarded_draft_used_before_and_after_has_a_kind_of_its_own() -> None:
    usage, entries = book()
    usage.draft(1)
    usage.note(1, "voice", "text_to_speech", "characters", 20)
    usage.discard(1)
    usage.note(1, "mind", "completion", "tokens", 5)
    assert entries == [
        ("voice", "discarded_text_to_speech", "characters", 20),
        ("mind", "discarded_completion", "tokens", 5),
    ]


def test_the_end_of_a_call_discards_what_is_still_a_draft() -> None:
    usage, entries = book()
    usage.draft(1)
    usage.note(1, "mind", "prompt", "tokens", 5)
    usage.close()
    assert entries == [("mind", "discarded_prompt", "tokens", 5)]


steps = st.lists(
    st.tuples(st.sampled_from(["draft", "note", "commit", "discard"]), st.integers(1, 3)),
    max_size=40,
)


@given(steps)
def test_whatever_the_order_the_total_is_what_was_noted(done: list[tuple[str, int]]) -> None:
    usage, entries = book()
    noted = 0
    drafted: set[int] = set()
    for step, gen in done:
        if step == "note":
            usage.note(gen, "mind", "completion", "tokens", 1)
            noted += 1
        elif step != "draft" or gen not in drafted:
            getattr(usage, step)(gen)
            drafted.add(gen)
    usage.close()
    assert sum(quantity for *_, quantity in entries) == noted
