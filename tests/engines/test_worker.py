# SPDX-License-Identifier: Apache-2.0
"""Providers in worker processes do what the same ones do inline: real processes, real gRPC."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from appliance.engines.worker.process import WorkerSpec
from appliance.engines.worker.supervisor import Supervisor
from appliance.plugin import (
    BuildContext,
    ConfigurationError,
    Flush,
    InvalidRequestError,
    Kind,
    LlmDelta,
    LlmRequest,
    Message,
    ModelNotFoundError,
    Offer,
    Pcm,
    ProviderError,
    RateLimitedError,
    ReplyPace,
    Role,
    SttRequest,
    TextDelta,
    ToolCall,
    ToolSpec,
    TtsRequest,
    UnavailableError,
)
from appliance.plugin.conformance.drive import collect
from tests.engines.worker_providers import OFFERS, PuppetSettings
from tests.engines.worker_specs import spec
from tests.telephony.peers import until


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    made = Supervisor()
    yield made
    await made.aclose()


def asked(text: str, **fields: Any) -> LlmRequest:
    return LlmRequest((Message(Role.USER, text),), **fields)


async def reply(model: Any, text: str, **fields: Any) -> list[LlmDelta]:
    return [delta async for delta in model.reply(asked(text, **fields))]


async def given(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def test_every_interface_answers_as_it_does_inline(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    async def both(kind: Kind) -> tuple[Any, Any]:
        inline = OFFERS[kind].build(PuppetSettings(), BuildContext(Path, tmp_path))
        worker = await supervisor.add_local(kind.value, spec(kind, tmp_path))
        assert worker.provider.capabilities == inline.capabilities
        return inline, worker.provider

    (stt, far_stt), (llm, far_llm), (tts, far_tts), (embedder, far_embedder) = await asyncio.gather(
        both(Kind.SPEECH_TO_TEXT),
        both(Kind.LANGUAGE_MODEL),
        both(Kind.TEXT_TO_SPEECH),
        both(Kind.EMBEDDER),
    )
    audio: list[Pcm | Flush] = [
        *(np.full(160, level, np.int16) for level in (-9, 300)),
        *(Flush(), np.zeros(0, np.int16), np.full(1 << 20, -32768, np.int16)),
    ]
    request = SttRequest("call", "nl", ("Trunkline", "Ön"))

    async def finals(provider: Any) -> list[Any]:
        stream = provider.transcribe(given(audio), request)
        return [item async for item in stream if item.is_final]

    assert await finals(far_stt) == await finals(stt)
    tools = (ToolSpec("book", "Books.", {"type": "object", "required": ["day"]}),)
    for text in ("say héllo there", "tool book", "nothing"):
        assert await reply(far_llm, text, tools=tools, seed=0) == await reply(
            llm, text, tools=tools, seed=0
        )
    for provider in (far_tts, tts):
        chunks = [c async for c in provider.speak(given(["one two", "three"]), TtsRequest())]
        assert [mark for chunk in chunks for mark in chunk.marks][2].char == 8
        assert [(len(c.pcm), int(c.pcm[0]), c.pcm.dtype) for c in chunks] == [
            (2205, level, np.int16) for level in (1003, 1003, 1005)
        ]
    texts = ["a", "bcd"]
    assert np.array_equal(await far_embedder.embed(texts), await embedder.embed(texts))
    assert (await far_embedder.embed([])).shape == (0, 3)


async def test_secrets_reach_the_provider_and_stand_on_no_command_line(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    wanted = spec(Kind.LANGUAGE_MODEL, tmp_path, key=SecretStr("hunter2"), name="Ann")
    worker = await supervisor.add_local("m", wanted)
    assert (await reply(worker.provider, "who"))[0] == TextDelta("Ann hunter2")
    process = Path(f"/proc/{worker.status().pid}")
    shown = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    assert b"hunter2" not in shown


async def test_the_socket_lies_where_nobody_else_may_look(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stale = tmp_path / "trunkline-engines-4194304-dead"  # above the highest process id
    stale.mkdir()
    await supervisor.add_local("m", spec(Kind.LANGUAGE_MODEL, tmp_path))
    [folder] = tmp_path.glob("trunkline-engines-*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.name.startswith(f"trunkline-engines-{os.getpid()}-")
    await supervisor.aclose()
    assert not folder.exists()


async def test_errors_come_out_as_they_were_raised(supervisor: Supervisor, tmp_path: Path) -> None:
    model = (await supervisor.add_local("m", spec(Kind.LANGUAGE_MODEL, tmp_path))).provider
    with pytest.raises(RateLimitedError, match="slow down") as limited:
        await reply(model, "refuse")
    assert limited.value.retry_after_s == 1.5
    with pytest.raises(InvalidRequestError) as invalid:
        await reply(model, "invalid")
    assert (invalid.value.message, invalid.value.remedy) == ("too long", "say less")
    with pytest.raises(UnavailableError, match="KeyError: 'x'"):
        await reply(model, "bug x")
    with pytest.raises(UnavailableError, match="MemoryError"):
        await reply(model, "huge")


async def test_what_building_raised_is_told_and_a_process_that_dies_is_named(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no model \(pull it\)"):
        await supervisor.add_local("m", spec(Kind.LANGUAGE_MODEL, tmp_path, name="missing"))
    with pytest.raises(UnavailableError, match="ended with code 7 at its start"):
        await supervisor.add_local("m", spec(Kind.LANGUAGE_MODEL, tmp_path, name="suicidal"))
    local = Offer("x", Kind.LANGUAGE_MODEL, PuppetSettings, lambda *_: None, None, "")
    with pytest.raises(ConfigurationError, match="cannot run in a worker"):
        await supervisor.add_local(
            "m", WorkerSpec(local, PuppetSettings(), BuildContext(Path, tmp_path))
        )
    assert supervisor.status() == []


async def test_a_cancelled_reply_is_cancelled_in_the_worker(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    worker = await supervisor.add_local("m", spec(Kind.LANGUAGE_MODEL, tmp_path, diary=diary))
    loop = asyncio.get_running_loop()
    for command in ("hang", "say " + "word " * 1000):
        diary.write_text("")
        task = asyncio.ensure_future(reply(worker.provider, command))
        await until(lambda: "asked" in diary.read_text())
        began = loop.time()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert loop.time() - began < 0.1
        await until(lambda: "cancelled" in diary.read_text(), 2)
    stream = worker.provider.reply(asked("say " + "word " * 1000))
    await anext(stream)
    diary.write_text("")
    await stream.aclose()  # what leaves a loop early does the same
    await until(lambda: "cancelled" in diary.read_text(), 2)
    assert worker.status().streams == 0


async def test_a_running_reply_is_told_how_urgent_it_is(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    model = (await supervisor.add_local("m", spec(Kind.LANGUAGE_MODEL, tmp_path))).provider
    pace = ReplyPace(committed=False)
    seen: list[str] = []

    async def read() -> None:
        async for delta in model.reply(asked("pace", pace=pace)):
            seen.extend([delta.text] if isinstance(delta, TextDelta) else [])

    reading = asyncio.ensure_future(read())
    await until(lambda: seen == ["False 0;"])
    pace.commit()
    await until(lambda: seen[1:] == ["True 0;"])
    for centiseconds in range(200):
        pace.played(centiseconds / 100)
        await asyncio.sleep(0)
    await asyncio.wait_for(reading, 5)
    assert seen[-1] > "True 1.0", "what was said last is not lost"
    assert len(seen) < 50, "not a message for every frame"


async def test_a_source_that_breaks_off_ends_the_stream_with_its_error(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    stt = (await supervisor.add_local("s", spec(Kind.SPEECH_TO_TEXT, tmp_path))).provider

    async def audio() -> AsyncIterator[Pcm | Flush]:
        yield np.zeros(160, np.int16)
        raise OSError("the line is dead")

    with pytest.raises(OSError, match="the line is dead"):
        await collect(stt.transcribe(audio(), SttRequest()))


async def test_a_worker_takes_so_many_streams_and_refuses_the_next_at_once(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    wanted = spec(Kind.LANGUAGE_MODEL, tmp_path, streams=2)
    worker = await supervisor.add_local("m", wanted)
    running = [asyncio.ensure_future(reply(worker.provider, "hang")) for _ in range(2)]
    await until(lambda: worker.status().streams == 2)
    with pytest.raises(RateLimitedError, match="2 streams"):
        await asyncio.wait_for(reply(worker.provider, "who"), 2)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await until(lambda: worker.status().streams == 0)
    assert await reply(worker.provider, "who")


async def test_a_reader_that_stops_reading_stops_the_writer(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    worker = await supervisor.add_local("m", spec(Kind.LANGUAGE_MODEL, tmp_path))
    before = worker.status().memory_mib
    stream = worker.provider.reply(asked("flood 200000"))  # 200 MB
    assert await anext(stream) == TextDelta("x" * 1000)
    for _ in range(50):
        assert await reply(worker.provider, "who"), "others are served meanwhile"
    assert worker.status().memory_mib < before + 50
    await stream.aclose()


async def test_a_message_beyond_the_limit_is_an_error_and_not_a_dead_worker(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    worker = await supervisor.add_local("m", spec(Kind.LANGUAGE_MODEL, tmp_path))
    with pytest.raises(ProviderError):
        await reply(worker.provider, "who" + "x" * (9 << 20))
    assert await reply(worker.provider, "who")
    assert worker.status().restarts == 0


async def test_a_tool_call_arrives_whole(supervisor: Supervisor, tmp_path: Path) -> None:
    model = (await supervisor.add_local("m", spec(Kind.LANGUAGE_MODEL, tmp_path))).provider
    assert (await reply(model, "tool book"))[0] == ToolCall("1", "book", '{"a": 1}')
