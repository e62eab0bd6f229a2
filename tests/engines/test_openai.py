# SPDX-License-Identifier: Apache-2.0
"""The openai provider against a server that misbehaves in every way a server can."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import ValidationError
from trunkline_openai import build
from trunkline_openai.errors import from_status
from trunkline_openai.settings import OpenAiSettings
from trunkline_openai.wire import ReplyReader, request_body

from appliance.plugin import (
    AuthenticationError,
    BuildContext,
    ConfigurationError,
    InvalidRequestError,
    LanguageModel,
    LlmDelta,
    LlmRequest,
    Message,
    ModelNotFoundError,
    ProviderTimeoutError,
    RateLimitedError,
    Role,
    TextDelta,
    TokenUsage,
    ToolCall,
    ToolSpec,
    UnavailableError,
)

HELLO = LlmRequest([Message(Role.SYSTEM, "Be brief."), Message(Role.USER, "Hello")])
BOOK = ToolSpec("book", "Book it.", {"type": "object", "properties": {"day": {"type": "string"}}})

Answer = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Exchange:
    """One request as the server sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    headers: dict[str, str]
    body: dict[str, Any]

    async def send(self, status: str, headers: str = "", body: str = "") -> None:
        length = len(body.encode())
        self.writer.write(
            f"HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}".encode()
        )
        await self.writer.drain()

    async def stream(self, *chunks: Any, done: bool = True) -> None:
        self.writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for chunk in chunks:
            await self.chunk(f"data: {json.dumps(chunk)}\n\n")
        if done:
            await self.chunk("data: [DONE]\n\n")
            self.writer.write(b"0\r\n\r\n")
            await self.writer.drain()

    async def chunk(self, text: str) -> None:
        data = text.encode()
        self.writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self.writer.drain()


@dataclass
class FaultServer:
    """Answers each request as the test says."""

    url: str = ""
    answer: Answer | None = None
    requests: list[Exchange] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")[1:]
                headers = {
                    name.lower(): value
                    for name, _, value in (line.partition(": ") for line in lines if line)
                }
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                exchange = Exchange(reader, writer, headers, body)
                self.requests.append(exchange)
                assert self.answer is not None
                await self.answer(exchange)
                if writer.is_closing():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up.set()
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[FaultServer]:
    faults = FaultServer()
    listener = await asyncio.start_server(faults.serve, "127.0.0.1", 0)
    faults.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    yield faults
    listener.close()


@pytest.fixture
async def model(server: FaultServer, build_context: BuildContext) -> AsyncIterator[LanguageModel]:
    settings = OpenAiSettings.model_validate(
        {"model": "m", "base_url": server.url, "api_key": "sesame", "timeout_s": 0.3}
    )
    provider = build(settings, build_context)
    yield provider
    await provider.aclose()


def text(content: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]}


def call(index: int, **parts: Any) -> dict[str, Any]:
    function = {key: parts[key] for key in ("name", "arguments") if key in parts}
    part = {"index": index, "function": function} | (
        {"id": parts["id"], "type": "function"} if "id" in parts else {}
    )
    return {"choices": [{"index": 0, "delta": {"tool_calls": [part]}, "finish_reason": None}]}


def finish(reason: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


async def collect(model: LanguageModel, request: LlmRequest = HELLO) -> list[LlmDelta]:
    return [delta async for delta in model.reply(request)]


def answering(status: str, headers: str = "", body: str = "") -> Answer:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(status, headers, body)

    return answer


def streaming(*chunks: Any, done: bool = True) -> Answer:
    async def answer(exchange: Exchange) -> None:
        await exchange.stream(*chunks, done=done)
        if not done:
            exchange.writer.close()

    return answer


async def test_text_comes_in_pieces_and_usage_at_the_end(
    server: FaultServer, model: LanguageModel
) -> None:
    usage = {
        "prompt_tokens": 20,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 16},
    }
    server.answer = streaming(
        text(""), text("Good "), text("morning."), finish("stop"), {"choices": [], "usage": usage}
    )
    assert await collect(model) == [
        TextDelta("Good "),
        TextDelta("morning."),
        TokenUsage(20, 3, cached=16),
    ]
    sent = server.requests[0]
    assert sent.headers["authorization"] == "Bearer sesame"
    assert sent.body["stream"] is True
    assert sent.body["stream_options"] == {"include_usage": True}
    assert sent.body["messages"][1] == {"role": "user", "content": "Hello"}


async def test_a_tool_call_is_put_together_from_its_pieces(
    server: FaultServer, model: LanguageModel
) -> None:
    server.answer = streaming(
        text("One moment."),
        call(0, id="c1", name="book", arguments=""),
        call(0, arguments='{"day": '),
        call(0, arguments='"Friday"}'),
        call(1, id="c2", name="end_call", arguments="{}"),
        finish("tool_calls"),
    )
    deltas = await collect(model)
    assert deltas[:-1] == [
        TextDelta("One moment."),
        ToolCall("c1", "book", '{"day": "Friday"}'),
        ToolCall("c2", "end_call", "{}"),
    ]


async def test_a_server_that_does_not_stream_is_understood(
    server: FaultServer, model: LanguageModel
) -> None:
    body = {
        "choices": [
            {
                "message": {
                    "content": "Yes.",
                    "tool_calls": [{"id": "a", "function": {"name": "book", "arguments": "{}"}}],
                },
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2},
    }
    server.answer = answering("200 OK", "Content-Type: application/json\r\n", json.dumps(body))
    assert await collect(model) == [
        TextDelta("Yes."),
        ToolCall("a", "book", "{}"),
        TokenUsage(7, 2),
    ]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("401 Unauthorized", AuthenticationError),
        ("403 Forbidden", AuthenticationError),
        ("404 Not Found", ModelNotFoundError),
        ("400 Bad Request", InvalidRequestError),
        ("422 Unprocessable", InvalidRequestError),
        ("408 Request Timeout", ProviderTimeoutError),
        ("429 Too Many Requests", RateLimitedError),
        ("500 Internal Server Error", UnavailableError),
        ("503 Service Unavailable", UnavailableError),
        ("504 Gateway Timeout", ProviderTimeoutError),
    ],
)
async def test_each_status_is_the_error_that_a_person_or_the_core_can_act_on(
    server: FaultServer, model: LanguageModel, status: str, error: type[Exception]
) -> None:
    server.answer = answering(status, body='{"error": {"message": "no", "code": "because"}}')
    with pytest.raises(error):
        await collect(model)


async def test_a_refused_request_does_not_repeat_what_the_caller_said(
    server: FaultServer, model: LanguageModel
) -> None:
    body = json.dumps({"error": {"message": "bad input: my card is 4711", "code": "too_long"}})
    server.answer = answering("400 Bad Request", body=body)
    with pytest.raises(InvalidRequestError, match="too_long") as caught:
        await collect(model)
    assert "4711" not in str(caught.value)


async def test_retry_after_is_read_in_seconds_and_as_a_date(
    server: FaultServer, model: LanguageModel
) -> None:
    server.answer = answering("429 Too Many Requests", "Retry-After: 7\r\n")
    with pytest.raises(RateLimitedError) as caught:
        await collect(model)
    assert caught.value.retry_after_s == 7
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 60))
    later = from_status(429, {"retry-after": date}, b"")
    assert isinstance(later, RateLimitedError)
    assert 50 < (later.retry_after_s or 0) < 61
    nonsense = from_status(429, {"retry-after": "soon"}, b"[]")
    assert isinstance(nonsense, RateLimitedError)
    assert nonsense.retry_after_s is None


async def test_a_stream_that_is_cut_gives_its_text_and_then_an_error(
    server: FaultServer, model: LanguageModel
) -> None:
    server.answer = streaming(text("Good "), done=False)
    reply = model.reply(HELLO)
    assert await anext(reply) == TextDelta("Good ")
    with pytest.raises(UnavailableError, match="broke off"):
        await anext(reply)


async def test_a_stream_that_ends_in_good_form_but_too_early_is_an_error(
    server: FaultServer, model: LanguageModel
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.stream(text("Good "), done=False)
        exchange.writer.write(b"0\r\n\r\n")
        await exchange.writer.drain()

    server.answer = answer
    with pytest.raises(UnavailableError, match="in the midst"):
        await collect(model)


@pytest.mark.parametrize("chunk", ["{not json", "[]", '{"choices": [3]}', '{"choices": 3}'])
async def test_chunks_of_another_shape_are_an_error_not_a_crash(
    server: FaultServer, model: LanguageModel, chunk: str
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.stream(done=False)
        await exchange.chunk(f"data: {chunk}\n\n")
        exchange.writer.close()

    server.answer = answer
    with pytest.raises(UnavailableError):
        await collect(model)


async def test_an_error_inside_the_stream_is_raised(
    server: FaultServer, model: LanguageModel
) -> None:
    server.answer = streaming(text("Go"), {"error": {"message": "x", "code": "server_error"}})
    with pytest.raises(UnavailableError, match="server_error"):
        await collect(model)
    server.answer = streaming({"error": {"message": "x", "code": "rate_limit_exceeded"}})
    with pytest.raises(RateLimitedError):
        await collect(model)


async def test_a_silent_server_is_a_timeout(server: FaultServer, model: LanguageModel) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.reader.read()

    server.answer = answer
    with pytest.raises(ProviderTimeoutError):
        await collect(model)


async def test_no_server_is_unavailable(build_context: BuildContext) -> None:
    listener = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    model = build(OpenAiSettings(model="m", base_url=f"http://127.0.0.1:{port}/v1"), build_context)
    with pytest.raises(UnavailableError, match="cannot be reached"):
        await collect(model)
    await model.aclose()


async def test_cancelling_closes_the_connection_at_once(
    server: FaultServer, model: LanguageModel
) -> None:
    begun = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.stream(text("Good "), done=False)
        await exchange.reader.read()
        server.hung_up.set()

    async def consume() -> None:
        async for _ in model.reply(HELLO):
            begun.set()

    server.answer = answer
    task = asyncio.create_task(consume())
    await asyncio.wait_for(begun.wait(), 2)
    started = time.monotonic()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert time.monotonic() - started < 0.02
    await asyncio.wait_for(server.hung_up.wait(), 2)


async def test_connections_are_kept_between_replies(
    server: FaultServer, model: LanguageModel
) -> None:
    server.answer = streaming(text("Yes."), finish("stop"))
    await collect(model)
    await collect(model)
    first, second = server.requests
    assert first.writer is second.writer


async def test_a_kept_connection_that_the_server_has_closed_is_replaced(
    server: FaultServer, model: LanguageModel
) -> None:
    async def close_when_used_again(exchange: Exchange) -> None:
        await exchange.stream(text("Yes.", "stop"))
        await exchange.reader.readexactly(1)
        exchange.writer.close()

    server.answer = close_when_used_again
    await collect(model)
    server.answer = streaming(text("Again.", "stop"))
    assert (await collect(model))[0] == TextDelta("Again.")


async def test_a_closed_model_says_so(model: LanguageModel) -> None:
    await model.aclose()
    with pytest.raises(UnavailableError, match="closed"):
        await collect(model)


def test_a_dialogue_with_tools_is_written_as_the_api_wants_it() -> None:
    request = LlmRequest(
        [
            Message(Role.USER, "Friday"),
            Message(Role.ASSISTANT, tool_calls=(ToolCall("c1", "book", '{"day": "Friday"}'),)),
            Message(Role.TOOL, '{"ok": true}', tool_call_id="c1", name="book"),
        ],
        tools=[BOOK],
        max_tokens=64,
        temperature=0.3,
        seed=4,
    )
    settings = OpenAiSettings(
        model="m", token_limit="max_completion_tokens", extra_body={"reasoning_effort": "low"}
    )
    body = request_body(request, settings)
    assert body["messages"][1]["content"] == ""  # null is right too, but not every server knows
    assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"day": "Friday"}'
    assert body["messages"][2]["tool_call_id"] == "c1"
    assert body["tools"][0]["function"]["name"] == "book"
    assert (body["max_completion_tokens"], body["seed"]) == (64, 4)
    assert body["reasoning_effort"] == "low"
    plain = request_body(HELLO, OpenAiSettings(model="m", send_temperature=False))
    assert not {"temperature", "tools", "seed"} & plain.keys()


def test_comments_and_blank_lines_of_the_event_stream_are_skipped() -> None:
    reader = ReplyReader()
    lines = [": keep-alive", "", "event: x", "data: " + json.dumps(text("Hi", "stop"))]
    deltas = [delta for line in lines for delta in reader.line(line)]
    assert deltas == [TextDelta("Hi")]
    assert list(reader.end()) == [TokenUsage(0, 1)]


def test_settings_name_what_is_wrong(build_context: BuildContext) -> None:
    with pytest.raises(ValidationError, match="begins with http"):
        OpenAiSettings(model="m", base_url="10.0.0.7:8000")
    with pytest.raises(ConfigurationError, match="certificates"):
        build(
            OpenAiSettings.model_validate({"model": "m", "ca_file": "/no/such.pem"}), build_context
        )
    assert "sesame" not in repr(OpenAiSettings.model_validate({"model": "m", "api_key": "sesame"}))
