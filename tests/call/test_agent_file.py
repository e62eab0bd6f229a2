# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.call.agent_file import AgentFileError, AgentLibrary, load_agent

GOOD = """\
version: 1
name: desk
greeting: "{{ business }}, hello."
prompt: |
  You are the desk of {{ business }}. Today is {{ today }}.
variables:
  business: Larkspur
tools:
  - type: end_call
  - type: webhook
    name: lookup
    description: Look up.
    url: http://127.0.0.1:1/
"""


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "desk.yaml"
    path.write_text(text)
    with pytest.raises(AgentFileError) as caught:
        load_agent(path)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def test_a_valid_file_becomes_an_agent_whose_templates_render(tmp_path: Path) -> None:
    (tmp_path / "desk.yaml").write_text(GOOD)
    agent = load_agent(tmp_path / "desk.yaml")
    tuesday = datetime(2026, 3, 10, 9, 0)  # noqa: DTZ001 - local time
    assert agent.render(agent.prompt, tuesday) == "You are the desk of Larkspur. Today is Tuesday."
    assert agent.render(agent.greeting, tuesday) == "Larkspur, hello."


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_known_one(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD.replace("greeting:", "greting:")) == [
        "desk.yaml:3: greting: unknown key; did you mean 'greeting'?"
    ]


def test_an_unknown_key_inside_a_section_is_found_too(tmp_path: Path) -> None:
    text = GOOD + "turn_taking:\n  end_of_turn_ms: 500\n  barge_inn: true\n"
    assert problems(tmp_path, text) == [
        "desk.yaml:16: turn_taking.barge_inn: unknown key; did you mean 'barge_in'?"
    ]


def test_a_value_out_of_range_is_shown(tmp_path: Path) -> None:
    text = GOOD + "turn_taking:\n  end_of_turn_ms: 5\n"
    [problem] = problems(tmp_path, text)
    assert problem.startswith("desk.yaml:15: turn_taking.end_of_turn_ms:")
    assert "100" in problem
    assert "got 5" in problem


def test_a_template_variable_that_nobody_sets_is_named(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, GOOD.replace("{{ today }}", "{{ todai }}"))
    assert "'todai' is undefined" in problem
    assert "today" in problem


NEAR = "Today {{ hours_today or 'closed' }}, {{ tomorrow }} {{ hours_tomorrow or 'closed' }}."


@pytest.mark.parametrize(
    ("day", "language", "told"),
    [
        (
            datetime(2026, 3, 3, tzinfo=UTC),
            "en-GB",
            "Today from nine to half past five, Wednesday closed.",
        ),
        (
            datetime(2026, 3, 5, tzinfo=UTC),
            "en",
            "Today closed, Friday from quarter to eight to ten twenty.",
        ),
        (datetime(2026, 3, 6, tzinfo=UTC), "de", "Today 07:45 - 10:20, Saturday closed."),
    ],
)
def test_a_prompt_tells_the_hours_of_today_and_tomorrow(
    tmp_path: Path, day: datetime, language: str, told: str
) -> None:
    hours = '{Tuesday: ["09:00", "17:30"], Friday: ["07:45", "10:20"]}'
    text = f"version: 1\nname: desk\nlanguage: {language}\nprompt: |\n  {NEAR}\n"
    text += f"tools:\n  - type: book_appointment\n    hours: {hours}\n"
    (tmp_path / "desk.yaml").write_text(text)
    agent = load_agent(tmp_path / "desk.yaml")
    assert agent.render(agent.prompt, day) == told


def test_hours_without_a_calendar_are_an_error_that_says_where_they_come_from(
    tmp_path: Path,
) -> None:
    text = f"version: 1\nname: desk\nprompt: |\n  {NEAR}\n"
    [problem] = problems(tmp_path, text)
    assert "hours_today" in problem
    assert "add one" in problem


def test_a_missing_prompt_and_a_second_mistake_are_both_reported(tmp_path: Path) -> None:
    text = "version: 1\nname: desk\ntemperature: hot\n"
    assert len(problems(tmp_path, text)) == 2


def test_broken_yaml_is_reported_with_its_line(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, "version: 1\nname: [desk\nprompt: x\n")
    assert problem.startswith("desk.yaml:3: not valid YAML")


def test_a_webhook_with_a_bad_schema_is_refused(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, GOOD + "    parameters: {type: objekt}\n")
    assert "not a valid JSON Schema" in problem


def test_two_tools_of_one_name_are_refused(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, GOOD.replace("name: lookup", "name: end_call"))
    assert "end_call is defined twice" in problem


def test_opening_hours_of_an_unknown_day_are_refused(tmp_path: Path) -> None:
    text = GOOD + '  - type: book_appointment\n    hours: {Frieday: ["09:00", "17:00"]}\n'
    [problem] = problems(tmp_path, text)
    assert "'Frieday' is not a weekday" in problem


def test_a_template_cannot_reach_into_python(tmp_path: Path) -> None:
    text = GOOD.replace("{{ today }}", "{{ ''.__class__.__mro__ }}")
    [problem] = problems(tmp_path, text)
    assert "unsafe" in problem


def test_an_edited_file_takes_effect_for_the_next_call(tmp_path: Path) -> None:
    path = tmp_path / "desk.yaml"
    path.write_text(GOOD)
    library = AgentLibrary(tmp_path)
    before = library.get("desk")
    path.write_text(GOOD.replace("hello", "good day"))
    os.utime(path, ns=(1, 1))
    after = library.get("desk")
    assert before is not None
    assert after is not None
    assert after.greeting != before.greeting
    assert after.revision() != before.revision()


def test_a_file_that_was_broken_by_an_edit_keeps_its_last_good_version(tmp_path: Path) -> None:
    path = tmp_path / "desk.yaml"
    path.write_text(GOOD)
    library = AgentLibrary(tmp_path)
    good = library.get("desk")
    path.write_text("version: [")
    os.utime(path, ns=(1, 1))
    assert library.get("desk") == good
    assert library.problems
