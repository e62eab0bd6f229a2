# SPDX-License-Identifier: Apache-2.0
"""`trunkline calls`: which calls there were, what was said, and how fast the agent answered.

Reads the store beside a running box.
"""

from __future__ import annotations

import json
import re
import statistics
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from appliance.cli.common import (
    USAGE,
    ConfigOption,
    JsonOption,
    console,
    data_dir,
    fail,
    print_json,
)
from appliance.store import STORE_FILE, CallRecord, Event, Line, Reader, StoreError, transcript

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="List, show and export calls.",
    epilog="Example: trunkline calls show last",
)

CallArgument = Annotated[
    str, typer.Argument(metavar="CALL", help="A call's id, the beginning of one, or `last`.")
]
WhenOption = Annotated[
    str, typer.Option(metavar="WHEN", help="`2026-03-02`, `2026-03-02T14:30`, `today`, `2h`, `7d`.")
]
_STYLES = {"caller": "bold cyan", "agent": "bold green", "tool": "bold magenta"}
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Format(StrEnum):
    """What `export` writes."""

    EVENTS = "events"
    TEXT = "text"
    WAV = "wav"


@app.command("list")
def list_calls(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    agent: Annotated[str, typer.Option(help="Only this agent's.")] = "",
    caller: Annotated[str, typer.Option(help="Only callers whose address contains this.")] = "",
    called: Annotated[str, typer.Option(help="Only those that dialled this number.")] = "",
    cause: Annotated[str, typer.Option(help="Only those that ended so (`crashed`).")] = "",
    since: WhenOption = "",
    until: WhenOption = "",
    going_on: Annotated[
        bool | None,
        typer.Option("--going-on/--ended", help="Only calls that go on, or that ended."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List calls, newest first.

    Examples:
      trunkline calls list --since 2h
      trunkline calls list --agent reception --cause crashed --json
    """
    now = datetime.now().astimezone()
    with _reader(config) as reader:
        calls = reader.calls(
            limit,
            agent=agent,
            caller=caller,
            called=called,
            cause=cause,
            since=parse_when(since, now) if since else None,
            until=parse_when(until, now) if until else None,
            going_on=going_on,
        )
    if as_json:
        print_json([_facts(call) for call in calls])
        return
    table = Table("call", "began", "length", "agent", "from", "to", "ended by")
    for call in calls:
        began = f"{call.started_at.astimezone():%Y-%m-%d %H:%M:%S}"
        row = (call.id, began, _length(call), call.agent, call.caller, call.called, call.cause)
        table.add_row(*map(Text, row))
    console().print(table if calls else "No such calls.")


@app.command()
def show(call: CallArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show a call: its facts, its transcript with times, and how long each answer took.

    Example: trunkline calls show last
    """
    with _reader(config) as reader:
        record = _find(reader, call)
        events = reader.events(record.id)
        lines = transcript(events)
        usage = reader.usage(record.id)
    problems = _problems(events)
    if as_json:
        print_json(
            {
                **_facts(record),
                "transcript": [asdict(line) for line in lines],
                "latency": _latency(lines),
                "usage": [asdict(use) for use in usage],
                "problems": problems,
            }
        )
        return
    out = console()
    _print_facts(out, record)
    for line in lines:
        out.print(_line(line))
    if latency := _latency(lines):
        out.print(
            f"\nAnswer latency over {latency['turns']} turns: "
            f"median {latency['median_ms']} ms, longest {latency['longest_ms']} ms"
        )
    for use in usage:
        out.print(Text(f"Used {use.provider} ({use.kind}): {use.quantity} {use.unit}"))
    for problem in problems:
        out.print(Text(f"Problem at {_clock(problem['t_ms'])}: {problem['what']}", style="red"))


@app.command()
def export(
    call: CallArgument,
    what: Annotated[
        Format,
        typer.Option(
            "--format",
            "-f",
            help="`events`: the log as JSON lines. `text`: the transcript. `wav`: where the recording is.",
        ),
    ] = Format.EVENTS,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file instead of standard output."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Write a call's event log, its transcript, or the path of its recording.

    Examples:
      trunkline calls export last > call.jsonl
      trunkline calls export 3f2a --format text -o call.txt
      play "$(trunkline calls export last --format wav)"
    """
    with _reader(config) as reader:
        record = _find(reader, call)
        events = reader.events(record.id)
    match what:
        case Format.EVENTS:
            lines = [json.dumps(asdict(event), ensure_ascii=False) for event in events]
        case Format.TEXT:
            lines = [_line(line).plain for line in transcript(events)]
        case Format.WAV:
            if not record.recording_path or not Path(record.recording_path).is_file():
                fail(f"Call {record.id} has no recording here.")
            lines = [record.recording_path]
    text = "".join(f"{line}\n" for line in lines)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{output} cannot be written: {error.strerror}")


def parse_when(text: str, now: datetime) -> datetime:
    """Return the moment a person means: a local date or time, `today`, or a time ago (`2h`)."""
    if text == "today":
        return now.replace(hour=0, minute=0, second=0, microsecond=0)
    if ago := re.fullmatch(r"(\d{1,6})([mhd])", text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{text!r} is no time; write 2026-03-02, 2026-03-02T14:30, today, 2h or 7d.", USAGE)
    return at if at.tzinfo else at.astimezone()


def _reader(config: Path | None) -> Reader:
    try:
        return Reader(data_dir(config) / STORE_FILE)
    except StoreError as error:
        fail(str(error))


def _find(reader: Reader, wanted: str) -> CallRecord:
    if wanted == "last":
        found = reader.calls(1)
    else:
        exact = reader.call(wanted)
        found = [exact] if exact else reader.calls(10, id_prefix=wanted)
    if not found:
        fail(f"There is no call {wanted!r}. See `trunkline calls list`.")
    if len(found) > 1:
        fail(f"{wanted!r} begins several ids: {', '.join(call.id for call in found)}.", USAGE)
    return found[0]


def _facts(call: CallRecord) -> dict[str, Any]:
    times = {
        key: at.isoformat() if at else None
        for key, at in (
            ("started_at", call.started_at),
            ("answered_at", call.answered_at),
            ("ended_at", call.ended_at),
        )
    }
    return {**asdict(call), **times, "seconds": call.seconds}


def _problems(events: list[Event]) -> list[dict[str, Any]]:
    found = []
    for event in events:
        if event.kind.split(".")[0] == "error":
            stage = event.data.get("stage") or event.kind.removeprefix("error.")
            what = f"{stage}: {event.data.get('message', '')}"
            found.append({"t_ms": event.t_ms, "what": what})
    return found


def _latency(lines: list[Line]) -> dict[str, int]:
    """Return how long the caller waited for answers; empty when none was measured."""
    measured = [line.latency_ms for line in lines if line.latency_ms is not None]
    if not measured:
        return {}
    return {
        "turns": len(measured),
        "median_ms": round(statistics.median(measured)),
        "longest_ms": max(measured),
    }


def _print_facts(out: Console, call: CallRecord) -> None:
    outcome = f"ended by {call.cause}" if call.cause else "going on"
    for name, value in (
        ("Call", f"{call.id}, {call.direction}, {_length(call)}, {outcome}"),
        ("Agent", f"{call.agent} {call.agent_version}".strip()),
        ("From", call.caller),
        ("To", f"{call.called} by {call.transport} {call.trunk}".strip()),
        ("Began", f"{call.started_at.astimezone():%Y-%m-%d %H:%M:%S %Z}"),
        ("Recording", call.recording_path or "none"),
    ):
        out.print(Text.assemble((f"{name:<10}", "bold"), value))
    out.print()


def _line(line: Line) -> Text:
    """Return `[00:12.3] agent   We are open ... (640 ms: end_of_turn 400, ...)`."""
    text = Text.assemble(
        (f"[{_clock(line.t_ms)}] ", "dim"),
        (f"{line.who:<7} ", _STYLES[line.who]),
        line.text,
        (" --" if line.interrupted else "", "yellow"),
    )
    if line.latency_ms is not None:
        parts = ", ".join(f"{name} {ms}" for name, ms in line.latency_parts.items() if ms)
        text.append(f"  ({line.latency_ms} ms{': ' if parts else ''}{parts})", "dim")
    return text


def _length(call: CallRecord) -> str:
    seconds = call.seconds
    if seconds is None:
        since = call.answered_at or call.started_at
        return f"{_clock(int((datetime.now(UTC) - since).total_seconds() * 1000))} so far"
    return _clock(int(seconds * 1000)) if call.answered_at else "not answered"


def _clock(ms: int) -> str:
    minutes, rest = divmod(ms, 60_000)
    return f"{minutes:02d}:{rest / 1000:04.1f}"
