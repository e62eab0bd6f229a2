# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.call.clauses import ClauseSplitter


def split(*pieces: str) -> list[str]:
    splitter = ClauseSplitter()
    clauses = [clause for piece in pieces for clause in splitter.push(piece)]
    return clauses + splitter.flush()


def test_a_sentence_ends_a_clause_as_soon_as_the_next_word_begins() -> None:
    splitter = ClauseSplitter()
    assert splitter.push("We are open.") == []
    assert splitter.push(" And") == ["We are open."]


def test_the_first_clause_may_be_short_and_later_ones_are_not_cut_into_crumbs() -> None:
    text = "Of course, we open at nine, close at five, and rest on Sunday. Yes."
    assert split(text) == [
        "Of course,",
        "we open at nine, close at five,",
        "and rest on Sunday.",
        "Yes.",
    ]


def test_a_single_word_before_a_comma_is_no_clause() -> None:
    assert split("Yes, we are.") == ["Yes, we are."]


def test_abbreviations_and_times_do_not_end_a_sentence() -> None:
    assert split("Dr. Smith is in at two p.m. today. Good?") == [
        "Dr. Smith is in at two p.m. today.",
        "Good?",
    ]


def test_decimal_numbers_are_not_cut() -> None:
    assert split("It is 3.5 or 1,000.") == ["It is 3.5 or 1,000."]


@given(st.lists(st.text(alphabet="ab ,.!?\n", max_size=6), max_size=30))
def test_no_text_is_lost_or_moved_however_it_is_cut_into_pieces(pieces: list[str]) -> None:
    assert "".join("".join(split(*pieces)).split()) == "".join("".join(pieces).split())


@given(st.text(alphabet="ab ,.!?", max_size=60))
def test_the_pieces_do_not_matter_for_the_clauses(text: str) -> None:
    assert split(*text) == split(*[text[i : i + 3] for i in range(0, len(text), 3)])
