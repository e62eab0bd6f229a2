# SPDX-License-Identifier: Apache-2.0
"""Logs: structured, with call ids, and without caller data above DEBUG."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from appliance import logs


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_an_event_is_one_json_object_with_time_level_and_call_id(out: io.StringIO) -> None:
    logs.setup("info", "json", out)
    with logs.call_context("c-1"):
        structlog.get_logger("box").info("call_answered", codec="PCMU")
    structlog.get_logger("box").info("idle")
    first, second = lines(out)
    assert first["event"] == "call_answered"
    assert first["codec"] == "PCMU"
    assert first["call_id"] == "c-1"
    assert first["level"] == "info"
    assert first["timestamp"].endswith("Z")
    assert "call_id" not in second


def test_at_info_words_become_their_length_and_numbers_a_stable_hash(out: io.StringIO) -> None:
    logs.setup("debug", "json", out)
    log = structlog.get_logger("box")
    for _ in range(2):
        log.info("turn", text="my name is Oliver", caller="sip:+4930@pbx", seconds=1.5)
    first, second = lines(out)
    assert "Oliver" not in out.getvalue()
    assert "4930" not in out.getvalue()
    assert first["text"] == "(17 long)"
    assert first["caller"] == second["caller"]
    assert first["seconds"] == 1.5


def test_at_debug_words_are_there_but_secrets_never(out: io.StringIO) -> None:
    logs.setup("debug", "json", out)
    structlog.get_logger("box").debug(
        "turn", text="hello", settings={"api_key": "k1", "password": "k2", "tokens": 7}
    )
    (line,) = lines(out)
    assert line["text"] == "hello"
    assert line["settings"] == {"api_key": "(hidden)", "password": "(hidden)", "tokens": 7}


def test_caller_data_inside_a_mapping_is_found_too(out: io.StringIO) -> None:
    logs.setup("info", "json", out)
    structlog.get_logger("box").warning("tool", call={"remote": "+49", "turns": [{"heard": "abc"}]})
    (line,) = lines(out)
    assert line["call"]["remote"].startswith("#")
    assert line["call"]["turns"] == [{"heard": "(3 long)"}]


def test_credentials_in_an_address_are_hidden(out: io.StringIO) -> None:
    logs.setup("info", "json", out)
    structlog.get_logger("box").info("connect", url="https://joe:pw@host/x")
    assert lines(out)[0]["url"] == "https://(hidden)@host/x"


def test_below_the_level_nothing_is_written(out: io.StringIO) -> None:
    logs.setup("warning", "json", out)
    structlog.get_logger("box").info("quiet")
    logging.getLogger("library").info("quiet")
    assert out.getvalue() == ""


def test_what_libraries_log_takes_the_same_way(out: io.StringIO) -> None:
    logs.setup("info", "json", out)
    logging.getLogger("library").warning("disk %s", "full")
    (line,) = lines(out)
    assert (line["event"], line["logger"]) == ("disk full", "library")


def test_for_people_an_error_comes_with_its_traceback(out: io.StringIO) -> None:
    logs.setup("info", "console", out)
    try:
        int("broken")
    except ValueError:
        structlog.get_logger("box").exception("failed")
    assert "failed" in out.getvalue()
    assert "ValueError: invalid literal" in out.getvalue()


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_traceback_shows_no_local_variables(out: io.StringIO, style: str) -> None:
    logs.setup("info", style, out)
    heard = "my name is " + "Oliver"
    try:
        int(len(heard) * "x")
    except ValueError:
        structlog.get_logger("box").exception("failed")
    assert "ValueError" in out.getvalue()
    assert "my name is Oliver" not in out.getvalue()
