# SPDX-License-Identifier: Apache-2.0
"""What `trunkline calls` prints, and how it ends."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from appliance.cli.calls import app, parse_when
from appliance.store import STORE_FILE, Event, Store

NOW = datetime.now(UTC)


def events(call_id: str) -> list[Event]:
    said: list[tuple[int, str, dict[str, Any]]] = [
        (0, "call.answered", {"codec": "PCMU"}),
        (80, "speak.started", {"gen": 1}),
        (1500, "speak.ended", {"gen": 1, "heard": "Good morning [bell]."}),
        (2064, "speech.started", {"onset_ms": 2000}),
        (3400, "turn.committed", {"turn": 1, "text": "Grüß Gott, are you open?"}),
        (3600, "speak.started", {"gen": 2}),
        (3600, "latency", {"turn": 1, "total": 640, "parts": {"end_of_turn": 400, "tts": 240}}),
        (5000, "speak.stopped", {"heard": [[2, "We are open"]]}),
        (6000, "error.reply", {"gen": 3, "message": "engine gone"}),
        (65_500, "call.ended", {"cause": "remote_hangup"}),
    ]
    return [Event(call_id, seq, *facts) for seq, facts in enumerate(said)]


async def fill(folder: Path) -> None:
    store = Store.open(folder / STORE_FILE)
    recording = folder / "abc1.wav"
    recording.write_bytes(b"RIFF")
    for number, call_id in enumerate(("abc1", "abc2", "fff3")):
        store.begin_call(
            call_id,
            agent="desk",
            started_at=NOW - timedelta(hours=3 - number),
            caller=f"sip:20{number}@pbx",
            called="100",
            recording_path=str(recording) if number == 0 else "",
        )
        store.answer_call(call_id, NOW - timedelta(hours=3 - number))
        store.append(call_id, events(call_id))
    ended = NOW - timedelta(hours=3) + timedelta(seconds=65.5)
    store.end_call("abc1", cause="remote_hangup", ended_at=ended)
    store.record_usage("abc1", provider="llm", kind="prompt", unit="tokens", quantity=321)
    await store.aclose()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUNKLINE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("TRUNKLINE_CONFIG", raising=False)
    asyncio.run(fill(tmp_path))
    return tmp_path


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    return result


def ids(*arguments: str) -> list[str]:
    return [call["id"] for call in json.loads(run("list", "--json", *arguments).stdout)]


@pytest.mark.usefixtures("data")
def test_calls_are_listed_newest_first_for_people_and_for_programs() -> None:
    table = run("list").stdout
    assert table.index("fff3") < table.index("abc2") < table.index("abc1")
    assert "01:05.5" in table
    assert "so far" in table
    call = json.loads(run("list", "--json").stdout)[-1]
    assert (call["id"], call["seconds"], call["cause"]) == ("abc1", 65.5, "remote_hangup")
    assert datetime.fromisoformat(call["started_at"]).tzinfo is not None


@pytest.mark.usefixtures("data")
def test_the_list_is_filtered() -> None:
    assert ids("--limit", "1") == ["fff3"]
    assert ids("--caller", "201") == ["abc2"]
    assert ids("--ended") == ["abc1"]
    assert ids("--going-on") == ["fff3", "abc2"]
    assert ids("--since", "90m") == ["fff3"]
    assert ids("--until", "90m") == ["abc2", "abc1"]
    assert ids("--agent", "nobody") == []
    assert "No such calls" in run("list", "--cause", "crashed").stdout


@pytest.mark.usefixtures("data")
def test_a_call_is_shown_with_times_latency_usage_and_problems() -> None:
    shown = run("show", "abc1").stdout
    assert "[00:00.1] agent   Good morning [bell]." in shown
    assert "[00:02.0] caller  Grüß Gott, are you open?" in shown
    assert "[00:03.6] agent   We are open --  (640 ms: end_of_turn 400, tts 240)" in shown
    assert "median 640 ms" in shown
    assert "Used llm (prompt): 321 tokens" in shown
    assert "Problem at 00:06.0: reply: engine gone" in shown
    assert "ended by remote_hangup" in shown

    data = json.loads(run("show", "abc1", "--json").stdout)
    assert [line["who"] for line in data["transcript"]] == ["agent", "caller", "agent"]
    assert data["transcript"][2]["interrupted"] is True
    assert data["latency"] == {"turns": 1, "median_ms": 640, "longest_ms": 640}
    assert data["usage"][0]["quantity"] == 321


@pytest.mark.usefixtures("data")
def test_a_call_is_found_by_the_beginning_of_its_id_or_as_the_last_one() -> None:
    assert "fff3" in run("show", "f").stdout
    assert "fff3" in run("show", "last").stdout
    assert "begins several ids: abc2, abc1" in run("show", "abc", code=2).stderr
    assert "no call 'zzz'" in run("show", "zzz", code=1).stderr


def test_a_call_is_exported_as_events_as_text_and_as_its_recording(data: Path) -> None:
    log = [json.loads(line) for line in run("export", "abc1").stdout.splitlines()]
    assert [event["seq"] for event in log] == list(range(10))
    assert log[4]["data"]["text"] == "Grüß Gott, are you open?"
    run("export", "abc1", "--format", "text", "-o", str(data / "call.txt"))
    text = (data / "call.txt").read_text(encoding="utf-8")
    assert text.splitlines()[1] == "[00:02.0] caller  Grüß Gott, are you open?"
    assert run("export", "abc1", "-f", "wav").stdout.strip() == str(data / "abc1.wav")
    assert "no recording" in run("export", "abc2", "-f", "wav", code=1).stderr
    assert "cannot be written" in run("export", "abc1", "-o", str(data / "no/x"), code=1).stderr


def test_without_a_store_it_is_said_where_one_was_looked_for(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUNKLINE_DATA_DIR", str(data / "elsewhere"))
    assert "no store at" in run("list", code=1).stderr


def test_times_are_understood_as_people_write_them() -> None:
    now = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)
    assert parse_when("2h", now) == now - timedelta(hours=2)
    assert parse_when("7d", now) == now - timedelta(days=7)
    assert parse_when("today", now) == datetime(2026, 3, 2, tzinfo=UTC)
    assert parse_when("2026-03-01T10:00", now).replace(tzinfo=None) == datetime(2026, 3, 1, 10)  # noqa: DTZ001
    assert parse_when("2026-03-01T10:00+02:00", now) == datetime(2026, 3, 1, 8, tzinfo=UTC)


@pytest.mark.usefixtures("data")
def test_a_time_that_is_none_is_a_wrong_use() -> None:
    assert "is no time" in run("list", "--since", "yesteryear", code=2).stderr
