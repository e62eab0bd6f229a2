# SPDX-License-Identifier: Apache-2.0
"""The openai provider against a real server: llama-cpp-python's own, with a model of random weights."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from trunkline_openai import build
from trunkline_openai.settings import OpenAiSettings

from appliance.plugin import (
    AuthenticationError,
    BuildContext,
    LanguageModel,
    LlmDelta,
    LlmRequest,
    Message,
    Role,
    TextDelta,
    TokenUsage,
    ToolCall,
    ToolSpec,
    UnavailableError,
)
from appliance.plugin.conformance import LanguageModelConformance, Subject

BOOK = ToolSpec(
    "book_appointment",
    "Book an appointment.",
    {
        "type": "object",
        "properties": {"day": {"type": "string", "enum": ["Monday", "Friday"]}},
        "required": ["day"],
    },
)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def server(random_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the base URL of a running server."""
    port = _free_port()
    options = {"model": random_gguf, "host": "127.0.0.1", "port": port, "api_key": "sesame"}
    options |= {"n_ctx": 2048, "n_threads": 1, "n_threads_batch": 1, "verbose": "false"}
    options |= {"interrupt_requests": "false"}  # else a second reply ends the first
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "llama_cpp.server", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    try:
        url = f"http://127.0.0.1:{port}/v1"
        deadline = time.monotonic() + 60
        while not _answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:  # it does not end while a reply runs
            process.kill()
            process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/models", headers={"Authorization": "Bearer sesame"}).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
async def make(
    server: str, build_context: BuildContext
) -> AsyncIterator[Callable[..., LanguageModel]]:
    built: list[LanguageModel] = []

    def make_one(**settings: object) -> LanguageModel:
        values = {"model": "any", "base_url": server, "api_key": "sesame"} | settings
        built.append(build(OpenAiSettings.model_validate(values), build_context))
        return built[-1]

    yield make_one
    for model in built:
        await model.aclose()


def ask(text: str, **options: object) -> LlmRequest:
    return LlmRequest([Message(Role.USER, text)], **options)  # type: ignore[arg-type]


async def collect(model: LanguageModel, request: LlmRequest) -> list[LlmDelta]:
    return [delta async for delta in model.reply(request)]


@pytest.mark.slow
class TestOpenAiKeepsTheContract(LanguageModelConformance):
    @pytest.fixture
    def provider(self, server: str, subject: Callable[..., Subject]) -> Subject:
        return subject(
            "trunkline_openai", model="any", base_url=server, api_key="sesame", context_tokens=0
        )


async def test_a_reply_is_streamed(make: Callable[..., LanguageModel]) -> None:
    deltas = await collect(make(), ask("Hello", max_tokens=24))
    assert isinstance(deltas[-1], TokenUsage)
    pieces = [delta for delta in deltas if isinstance(delta, TextDelta)]
    assert len(pieces) > 4
    assert deltas[:-1] == pieces


async def test_a_tool_call_arrives_whole_with_valid_arguments(
    make: Callable[..., LanguageModel],
) -> None:
    # The server forces the call by a grammar when it is told which function to call.
    forced = {"type": "function", "function": {"name": "book_appointment"}}
    model = make(extra_body={"tool_choice": forced})
    deltas = await collect(model, ask("On Friday, please.", tools=[BOOK], max_tokens=64))
    calls = [delta for delta in deltas if isinstance(delta, ToolCall)]
    assert [call.name for call in calls] == ["book_appointment"]
    assert json.loads(calls[0].arguments)["day"] in {"Monday", "Friday"}
    assert calls[0].id


async def test_two_replies_at_once_both_arrive(make: Callable[..., LanguageModel]) -> None:
    model = make()
    alone = [await collect(model, ask(name, max_tokens=16)) for name in ("one", "two")]
    both = await asyncio.gather(*(collect(model, ask(n, max_tokens=16)) for n in ("one", "two")))
    assert [_text(deltas) for deltas in both] == [_text(deltas) for deltas in alone]


def _text(deltas: list[LlmDelta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


async def test_a_wrong_key_is_refused(make: Callable[..., LanguageModel]) -> None:
    with pytest.raises(AuthenticationError, match="Invalid API key"):
        await collect(make(api_key="parsley"), ask("Hello"))


async def test_a_prompt_that_is_too_long_fails_and_the_next_one_works(
    make: Callable[..., LanguageModel],
) -> None:
    model = make()
    with pytest.raises(UnavailableError):  # this server tells nobody why: it ends the stream
        await collect(model, ask("word " * 3000))
    with contextlib.suppress(UnavailableError):  # and once in a while the next one too
        assert await collect(model, ask("Hello", max_tokens=4))
        return
    assert await collect(model, ask("Hello", max_tokens=4))


async def test_cancelled_in_the_midst_of_a_reply_the_server_serves_the_next(
    make: Callable[..., LanguageModel],
) -> None:
    model = make()
    begun = asyncio.Event()

    async def consume() -> None:
        async for _ in model.reply(ask("Tell me a story.", max_tokens=1500)):
            begun.set()

    task = asyncio.create_task(consume())
    await asyncio.wait_for(begun.wait(), 10)
    started = time.monotonic()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert time.monotonic() - started < 0.02
    assert await asyncio.wait_for(collect(model, ask("Hello", max_tokens=4)), 10)
