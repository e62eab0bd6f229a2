# SPDX-License-Identifier: Apache-2.0
"""The box's own tools, on a real store and a real HTTP server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.call.agent import BookAppointment, EndCall, Webhook
from appliance.call.toolbox import ToolBox
from appliance.call.tools import BookAppointmentTool, EndCallTool, WebhookTool, resolve_day
from appliance.plugin import Tool, ToolCall
from appliance.store import Store

TUESDAY = datetime(2026, 3, 10, 11, 0, tzinfo=UTC)
HOURS: dict[str, Any] = {"Friday": ["09:00", "17:00"], "Tuesday": ["09:00", "17:00"]}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "box.db")
    yield store
    store.close()


def booking(store: Store) -> BookAppointmentTool:
    config = BookAppointment.model_validate({"type": "book_appointment", "hours": HOURS})
    return BookAppointmentTool(config, store, "desk", lambda: TUESDAY)


async def use(tool: Tool, arguments: object, call_id: str = "c1", tool_id: str = "t1") -> Any:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    outcome = await ToolBox([tool]).run(ToolCall(tool_id, tool.spec.name, text), call_id)
    return json.loads(outcome.content)


async def test_a_free_slot_within_the_hours_is_booked(store: Store) -> None:
    wish = {"name": "Oliver", "day": "Friday", "time": "14:30"}
    assert await use(booking(store), wish) == {"ok": True, **wish}
    [entry] = store.appointments()
    assert (entry.name, entry.date, entry.time) == ("Oliver", date(2026, 3, 13), time(14, 30))
    assert (entry.calendar, entry.call_id) == ("desk", "c1")


@pytest.mark.parametrize(
    ("day", "at", "reason"),
    [
        ("Sunday", "10:00", "closed"),
        ("Friday", "17:00", "closed"),
        ("Friday", "08:59", "closed"),
        ("today", "10:00", "past"),
        ("someday", "10:00", "unknown day"),
        ("Friday", "half past two", "unknown time"),
    ],
)
async def test_what_cannot_be_booked_is_refused_with_the_reason(
    store: Store, day: str, at: str, reason: str
) -> None:
    answer = await use(booking(store), {"name": "Oliver", "day": day, "time": at})
    assert answer == {"ok": False, "reason": reason}
    assert store.appointments() == []


async def test_a_slot_is_given_once_and_the_same_call_again_books_nothing_twice(
    store: Store,
) -> None:
    wish = {"name": "Oliver", "day": "Friday", "time": "14:30"}
    assert (await use(booking(store), wish))["ok"]
    assert (await use(booking(store), wish))["ok"]
    assert (await use(booking(store), wish, call_id="c2")) == {"ok": False, "reason": "taken"}
    assert len(store.appointments()) == 1


async def test_arguments_that_break_the_schema_are_told_to_the_model(store: Store) -> None:
    assert (
        "'time' is a required property"
        in (await use(booking(store), {"name": "Oliver", "day": "Friday"}))["error"]
    )
    assert "not JSON" in (await use(booking(store), "{oops"))["error"]


async def test_an_unknown_tool_is_refused_by_name() -> None:
    outcome = await ToolBox([]).run(ToolCall("t", "fly", "{}"), "c")
    assert "there is no tool 'fly'" in outcome.content


async def test_end_call_ends_the_call() -> None:
    tool = EndCallTool(EndCall(type="end_call"))
    outcome = await ToolBox([tool]).run(ToolCall("t", "end_call", ""), "c")
    assert outcome.end_call


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("Friday", date(2026, 3, 13)),
        ("next friday", date(2026, 3, 13)),
        ("Tuesday", date(2026, 3, 10)),
        ("Monday", date(2026, 3, 16)),
        ("today", date(2026, 3, 10)),
        ("Tomorrow", date(2026, 3, 11)),
        ("2026-04-01", date(2026, 4, 1)),
        ("whenever", None),
    ],
)
def test_a_spoken_day_is_the_next_such_day(word: str, expected: date | None) -> None:
    assert resolve_day(word, time(14, 0), TUESDAY) == expected


def test_the_same_weekday_with_an_hour_already_past_is_next_week() -> None:
    assert resolve_day("Tuesday", time(9, 0), TUESDAY) == date(2026, 3, 17)


class Server:
    """A small HTTP server that answers as told and remembers what it was asked."""

    def __init__(self) -> None:
        self.answer = b'{"status": "shipped"}'
        self.status = "200 OK"
        self.delay: asyncio.Event | None = None
        self.requests: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (
                int(x.split(b":")[1])
                for x in head.lower().split(b"\r\n")
                if x.startswith(b"content-length")
            ),
            0,
        )
        self.requests.append(head + await reader.readexactly(length))
        if self.delay is not None:
            await self.delay.wait()
        writer.write(
            f"HTTP/1.1 {self.status}\r\nContent-Length: {len(self.answer)}\r\n"
            "Connection: close\r\n\r\n".encode()
            + self.answer
        )
        await writer.drain()
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, str]]:
    handler = Server()
    listening = await asyncio.start_server(handler, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    yield handler, f"http://127.0.0.1:{port}/orders"
    listening.close()


def webhook(url: str, client: httpx.AsyncClient, **more: Any) -> WebhookTool:
    config = Webhook.model_validate(
        {
            "type": "webhook",
            "name": "order_status",
            "description": "Look up an order.",
            "url": url,
            "headers": {"Authorization": "Bearer s3cret"},
            "parameters": {
                "type": "object",
                "properties": {"order": {"type": "integer"}},
                "required": ["order"],
            },
            **more,
        }
    )
    return WebhookTool(config, client)


async def test_a_webhook_sends_the_arguments_and_returns_the_answer(
    server: tuple[Server, str],
) -> None:
    handler, url = server
    async with httpx.AsyncClient() as client:
        assert await use(webhook(url, client), {"order": 7}) == {"status": "shipped"}
    head, _, body = handler.requests[0].partition(b"\r\n\r\n")
    assert json.loads(body) == {"order": 7}
    assert b"idempotency-key: c1:t1" in head.lower()
    assert b"authorization: bearer s3cret" in head.lower()


async def test_a_webhook_by_get_sends_the_arguments_as_the_query(
    server: tuple[Server, str],
) -> None:
    handler, url = server
    async with httpx.AsyncClient() as client:
        await use(webhook(url, client, method="GET"), {"order": 7})
    assert handler.requests[0].startswith(b"GET /orders?order=7 ")


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        ("500 Oops", b"{}", "the service answered 500"),
        ("302 Found", b"{}", "the service answered 302"),
        ("200 OK", b"<html>", "the service's answer is not JSON"),
        ("200 OK", b'"' + b"x" * 70_000 + b'"', "the service's answer is too long"),
    ],
)
async def test_a_webhook_that_fails_is_told_to_the_model(
    server: tuple[Server, str], status: str, answer: bytes, error: str
) -> None:
    handler, url = server
    handler.status, handler.answer = status, answer
    async with httpx.AsyncClient() as client:
        assert (await use(webhook(url, client), {"order": 7})) == {"ok": False, "error": error}


async def test_a_webhook_that_hangs_is_given_up_in_its_time(server: tuple[Server, str]) -> None:
    handler, url = server
    handler.delay = asyncio.Event()
    async with httpx.AsyncClient() as client:
        answer = await use(webhook(url, client, timeout_s=0.05), {"order": 7})
    handler.delay.set()
    assert answer["ok"] is False
