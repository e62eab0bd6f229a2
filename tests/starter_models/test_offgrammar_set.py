# SPDX-License-Identifier: Apache-2.0
"""The hand-written dialogues that score the starter model must themselves be sound.

There are five sets, each written without sight of the training data. The same rules hold for all.
"""

from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ruamel.yaml import YAML

HERE = Path(__file__).parent
DAYS = {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}
ARGUMENTS = {"book_appointment": {"name", "day", "time"}, "end_call": set[str]()}
LISTS = {"says_all", "says_any", "says_none"}
TURN_KEYS = {"user", "expect", "assistant"}
OPTIONAL_KEYS = {"cut", "tool_result", "after_tool", "after_expect"}


class Size(NamedTuple):
    """The least a set must hold, so that a score means something."""

    dialogues: int
    turns: int
    businesses: int
    bookings: int
    cuts: int
    goodbyes: int


SIZES = {
    "offgrammar.yaml": Size(60, 260, 20, bookings=40, cuts=4, goodbyes=50),
    "handwritten.yaml": Size(50, 280, 20, bookings=50, cuts=4, goodbyes=50),
    "unseen.yaml": Size(40, 240, 21, bookings=35, cuts=3, goodbyes=38),
    "reception.yaml": Size(40, 280, 13, bookings=35, cuts=0, goodbyes=38),
    "reception_unseen.yaml": Size(40, 280, 12, bookings=35, cuts=0, goodbyes=38),
}


def load(name: str) -> list[dict[str, Any]]:
    text = (HERE / name).read_text(encoding="utf-8")
    dialogues: list[dict[str, Any]] = YAML(typ="safe").load(text)
    return dialogues


SETS = {name: load(name) for name in SIZES}
EACH = [
    pytest.param(d, id=f"{name}-{d['id']}") for name, dialogues in SETS.items() for d in dialogues
]


def every(dialogue: dict[str, Any], tool: str | None) -> list[dict[str, Any]]:
    """The turns that call the tool, or those that call none."""
    return [t for t in dialogue["turns"] if (t["expect"]["tool"] or {}).get("name") == tool]


def satisfies(reply: str, expect: dict[str, Any]) -> bool:
    said = reply.lower()
    return (
        all(part.lower() in said for part in expect["says_all"])
        and (not expect["says_any"] or any(part.lower() in said for part in expect["says_any"]))
        and not any(part.lower() in said for part in expect["says_none"])
    )


@pytest.mark.parametrize("name", SETS)
class TestSet:
    def test_is_large_and_covers_many_businesses(self, name: str) -> None:
        dialogues, least = SETS[name], SIZES[name]
        assert len(dialogues) >= least.dialogues
        assert sum(len(d["turns"]) for d in dialogues) >= least.turns
        assert len({d["system"].splitlines()[0] for d in dialogues}) >= least.businesses
        assert len({d["id"] for d in dialogues}) == len(dialogues)

    def test_counts_no_caller_turn_often(self, name: str) -> None:
        said = [t["user"].lower() for d in SETS[name] for t in d["turns"]]
        assert len(set(said)) >= 0.98 * len(said)

    def test_holds_bookings_refusals_cuts_and_goodbyes(self, name: str) -> None:
        dialogues, least = SETS[name], SIZES[name]
        booked = [t["tool_result"] for d in dialogues for t in every(d, "book_appointment")]
        assert sum(r["ok"] for r in booked) >= least.bookings
        assert {r["reason"] for r in booked if not r["ok"]} == {"closed", "taken"}
        assert sum(t.get("cut", False) for d in dialogues for t in d["turns"]) >= least.cuts
        assert sum(len(every(d, "end_call")) for d in dialogues) >= least.goodbyes


@pytest.mark.parametrize("names", list(permutations(SETS, 2)), ids="-".join)
def test_the_sets_share_no_caller_turn_but_the_commonplace(names: tuple[str, str]) -> None:
    one, other = (
        {t["user"].lower() for d in SETS[name] for t in d["turns"] if len(t["user"].split()) > 3}
        for name in names
    )
    assert len(one & other) <= 0.02 * len(other)


@pytest.mark.parametrize("dialogue", EACH)
class TestDialogue:
    def test_has_the_documented_shape(self, dialogue: dict[str, Any]) -> None:
        assert set(dialogue) == {"id", "system", "tools", "greeting", "turns"}
        assert set(dialogue["tools"]) == set(ARGUMENTS)
        assert "Today is " in dialogue["system"]
        assert dialogue["greeting"]
        for turn in dialogue["turns"]:
            assert set(turn) >= TURN_KEYS
            assert set(turn) <= TURN_KEYS | OPTIONAL_KEYS
            assert turn["user"].strip()
            for expect in (turn["expect"], turn.get("after_expect")):
                for key in LISTS if expect else ():
                    assert all(isinstance(part, str) and part for part in expect[key])
            assert set(turn["expect"]) == LISTS | {"tool"}

    def test_only_turns_with_a_tool_have_a_result(self, dialogue: dict[str, Any]) -> None:
        for turn in every(dialogue, None):
            assert turn["assistant"]
            assert not set(turn) & {"tool_result", "after_tool", "after_expect"}

    def test_bookings_are_complete_and_come_from_the_callers_words(
        self, dialogue: dict[str, Any]
    ) -> None:
        for turn in every(dialogue, "book_appointment"):
            arguments, result = turn["expect"]["tool"]["arguments"], turn["tool_result"]
            assert set(arguments) == ARGUMENTS["book_appointment"]
            assert arguments["day"] in DAYS | {"today", "tomorrow"}
            hour, minute = arguments["time"].split(":")
            assert (len(hour), len(minute)) == (2, 2)
            assert 0 <= int(hour) < 24
            assert 0 <= int(minute) < 60
            assert result == (
                {"ok": True, **arguments}
                if result["ok"]
                else {"ok": False, "reason": result["reason"]}
            )
            so_far = dialogue["turns"][: dialogue["turns"].index(turn) + 1]
            words = " ".join(t["user"] for t in so_far).lower()
            assert arguments["name"].lower() in words
            assert arguments["day"].lower() in words
            assert turn["after_tool"]

    def test_ends_with_the_goodbye_if_it_has_one(self, dialogue: dict[str, Any]) -> None:
        goodbyes = every(dialogue, "end_call")
        assert goodbyes in ([], [dialogue["turns"][-1]])
        for turn in goodbyes:
            assert turn["expect"]["tool"]["arguments"] == {}
            assert turn["assistant"]
            assert turn["tool_result"] == {"ok": True}

    def test_right_answers_meet_their_own_expectations(self, dialogue: dict[str, Any]) -> None:
        for turn in dialogue["turns"]:
            assert satisfies(turn["assistant"], turn["expect"]), turn["user"]
            if "after_expect" in turn:
                assert satisfies(turn["after_tool"], turn["after_expect"]), turn["user"]

    def test_facts_asked_for_stand_in_the_prompt_or_the_call(
        self, dialogue: dict[str, Any]
    ) -> None:
        known = dialogue["system"].lower()
        for turn in dialogue["turns"]:
            known += " " + turn["user"].lower()
            for fact in turn["expect"]["says_all"]:
                assert fact.lower() in known, (turn["user"], fact)
            known += " " + turn.get("after_tool", "").lower()
