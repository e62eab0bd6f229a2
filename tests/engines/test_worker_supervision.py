# SPDX-License-Identifier: Apache-2.0
"""Workers that crash, hang, grow and are replaced: real processes, real signals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from appliance.engines.chain import (
    Health,
    LanguageModelChain,
    Member,
    SpeechToTextChain,
    TextToSpeechChain,
)
from appliance.engines.worker.base import WorkerState
from appliance.engines.worker.local import LocalWorker, back_off_s
from appliance.engines.worker.pulse import PulseLimits
from appliance.engines.worker.supervisor import Supervisor
from appliance.plugin import (
    BuildContext,
    ConfigurationError,
    Flush,
    Kind,
    LlmDelta,
    LlmRequest,
    Message,
    ModelNotFoundError,
    Pcm,
    Role,
    SttRequest,
    TextDelta,
    TtsRequest,
    UnavailableError,
)
from tests.engines.worker_providers import OFFERS, PuppetSettings
from tests.engines.worker_specs import spec
from tests.lab.process import ROOT
from tests.telephony.peers import until

PATIENT = 90.0
"""For a process to start on a machine that does much else."""


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    made = Supervisor()
    yield made
    await made.aclose()


def inline(kind: Kind, **settings: Any) -> Any:
    return OFFERS[kind].build(PuppetSettings(name="spare", **settings), BuildContext(Path, Path()))


def health(*providers: Any) -> Health[Any]:
    members = [Member(f"p{number}", provider) for number, provider in enumerate(providers)]
    return Health(members, asyncio.get_running_loop().time)


def asked(text: str) -> LlmRequest:
    return LlmRequest((Message(Role.USER, text),))


async def reply(model: Any, text: str) -> list[LlmDelta]:
    return [delta async for delta in model.reply(asked(text))]


def said(deltas: list[LlmDelta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


class Lateness:
    """How late this process's own event loop is at worst: what a busy machine adds to every time."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._looking: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._looking = asyncio.ensure_future(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.02
            await asyncio.sleep(0.02)
            self.worst_s = max(self.worst_s, loop.time() - due)


async def ready(worker: LocalWorker, restarts: int) -> None:
    """Wait until it serves again after so many restarts."""
    await until(
        lambda: worker.status().state is WorkerState.READY and worker.status().restarts >= restarts,
        PATIENT,
        "ready",
    )


async def test_a_killed_model_is_continued_by_the_next_one_and_is_started_again(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    worker = await supervisor.add_local("m", spec(Kind.LANGUAGE_MODEL, tmp_path, word_s=0.05))
    chain = LanguageModelChain(health(worker.provider, inline(Kind.LANGUAGE_MODEL)))
    loop = asyncio.get_running_loop()
    used: list[str] = []
    text, gap, last = "", 0.0, 0.0
    async with Lateness() as late:
        async for delta in chain.reply(asked("say one two three four five six"), used.append):
            text += delta.text if isinstance(delta, TextDelta) else ""
            gap, last = max(gap, loop.time() - last if last else 0.0), loop.time()
            if text == "one two " and used == ["p0"]:
                os.kill(worker.status().pid, signal.SIGKILL)
    assert text == "one two three four five six "
    assert used == ["p0", "p1"]
    assert gap < 1.0 + 3 * late.worst_s
    await ready(worker, restarts=1)
    assert "ended with code -9" in worker.status().trouble
    assert said(await reply(worker.provider, "say again")) == "again "


async def test_a_killed_synthesizer_is_continued_at_the_word(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    worker = await supervisor.add_local("t", spec(Kind.TEXT_TO_SPEECH, tmp_path, word_s=0.05))
    chain = TextToSpeechChain(health(worker.provider, inline(Kind.TEXT_TO_SPEECH, rate=16000)))
    text = "one two three four five"
    rates: set[int] = set()
    words: list[str] = []
    async for rate, chunk in chain.speak(text, TtsRequest(), lambda _: None):
        rates.add(rate)
        words += [text[mark.char :].partition(" ")[0] for mark in chunk.marks]
        if words == ["one", "two"]:
            os.kill(worker.status().pid, signal.SIGKILL)
    assert rates == {22050}
    assert words[2:] in (text.split()[1:], text.split()[2:]), "at the word in which it broke off"


async def test_a_killed_recognizer_loses_no_word_of_the_caller(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    worker = await supervisor.add_local("s", spec(Kind.SPEECH_TO_TEXT, tmp_path))
    chain = SpeechToTextChain(health(worker.provider, inline(Kind.SPEECH_TO_TEXT)))

    async def audio() -> AsyncIterator[Pcm | Flush]:
        yield np.zeros(800, np.int16)
        yield Flush()
        await until(lambda: finals)
        yield np.zeros(400, np.int16)
        os.kill(worker.status().pid, signal.SIGKILL)
        yield np.zeros(400, np.int16)
        yield Flush()

    finals: list[str] = []
    async for transcript in chain.transcribe(audio(), SttRequest(), lambda _: None):
        finals += [" ".join(transcript.text.split()[:2])] * transcript.is_final
    assert finals == ["puppet 800", "spare 1600"]


async def test_a_hung_worker_is_given_up_within_a_second_then_killed_and_started_again(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    limits = PulseLimits(hang_s=1.5)
    worker = await supervisor.add_local("m", spec(Kind.LANGUAGE_MODEL, tmp_path), limits)
    chain = LanguageModelChain(health(worker.provider, inline(Kind.LANGUAGE_MODEL)))
    pid = worker.status().pid
    loop = asyncio.get_running_loop()
    deltas = chain.reply(asked("say one two " + "more " * 100), lambda _: None)
    assert await anext(deltas) == TextDelta("one ")
    os.kill(pid, signal.SIGSTOP)
    began = last = loop.time()
    longest = 0.0
    async with Lateness() as late:
        async for _ in deltas:
            longest, last = max(longest, loop.time() - last), loop.time()
    assert longest < 1.0 + 3 * late.worst_s, "the next model goes on within a second"
    assert loop.time() - began > longest
    with pytest.raises(UnavailableError):
        await asyncio.wait_for(reply(worker.provider, "who"), 0.5)
    await ready(worker, restarts=1)
    assert worker.status().pid != pid
    assert not Path(f"/proc/{pid}").exists()
    assert "has not answered" in worker.status().trouble


async def test_a_worker_that_was_only_slow_is_used_again_and_not_restarted(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    worker = await supervisor.add_local("m", spec(Kind.LANGUAGE_MODEL, tmp_path))
    pid = worker.status().pid
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: worker.status().state is WorkerState.SILENT, 5)
    os.kill(pid, signal.SIGCONT)
    await until(lambda: worker.status().state is WorkerState.READY, 5)
    assert said(await reply(worker.provider, "say back")) == "back "
    assert (worker.status().pid, worker.status().restarts) == (pid, 0)


async def test_a_worker_that_grows_beyond_its_memory_is_replaced_and_the_reply_goes_on(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    wanted = spec(Kind.LANGUAGE_MODEL, tmp_path, memory_mib=120)
    worker = await supervisor.add_local("m", wanted)

    class Calm:
        capabilities = worker.provider.capabilities

        async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
            yield TextDelta("calm")

        async def aclose(self) -> None: ...

    chain = LanguageModelChain(health(worker.provider, Calm()), first_s=PATIENT)
    got = [d async for d in chain.reply(asked("grow"), lambda _: None)]
    assert got == [TextDelta("calm")]
    assert "MiB of memory, 120 are allowed" in worker.status().trouble
    await ready(worker, restarts=1)


async def test_a_worker_that_does_not_come_up_is_tried_again_after_longer_and_longer_waits(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [back_off_s(failures) for failures in (1, 2, 3, 4)] == [0.0, 0.5, 1.0, 2.0]
    assert back_off_s(1000) == 30.0
    waits: list[int] = []

    def noted(failures: int) -> float:
        waits.append(failures)
        return 0.01

    monkeypatch.setattr("appliance.engines.worker.local.back_off_s", noted)
    stop = tmp_path / "fail"
    wanted = spec(Kind.LANGUAGE_MODEL, tmp_path, fail_first=stop)
    worker = await supervisor.add_local("m", wanted)
    stop.touch()
    os.kill(worker.status().pid, signal.SIGKILL)
    await until(lambda: len(waits) >= 3, PATIENT)
    with pytest.raises(UnavailableError, match="m is restarting"):
        await reply(worker.provider, "who")
    assert "ended with code 8" in worker.status().trouble
    stop.unlink()
    await ready(worker, restarts=1)
    assert waits == sorted(waits)


async def test_replacing_a_worker_loses_no_stream_and_new_requests_go_to_the_new_one(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    first = spec(Kind.LANGUAGE_MODEL, tmp_path, name="old", word_s=0.05)
    worker = await supervisor.add_local("m", first)
    old = worker.status().pid
    words = " ".join(str(number) for number in range(400))
    running = asyncio.ensure_future(reply(worker.provider, f"say {words}"))
    await until(lambda: worker.status().streams == 1)
    await worker.replace(spec(Kind.LANGUAGE_MODEL, tmp_path, name="new"))
    assert not running.done()
    assert said(await reply(worker.provider, "who")) == "new "
    assert said(await running) == words + " "
    await until(lambda: not Path(f"/proc/{old}").exists(), 10)
    with pytest.raises(ModelNotFoundError):
        await worker.replace(spec(Kind.LANGUAGE_MODEL, tmp_path, name="missing"))
    assert said(await reply(worker.provider, "who")) == "new ", (
        "a failed replacement changes nothing"
    )
    assert worker.status().restarts == 0


async def test_a_replacement_with_another_sample_rate_is_refused(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    worker = await supervisor.add_local("t", spec(Kind.TEXT_TO_SPEECH, tmp_path))
    with pytest.raises(ConfigurationError, match="sample_rate would change"):
        await worker.replace(spec(Kind.TEXT_TO_SPEECH, tmp_path, rate=8000))
    assert worker.status().state is WorkerState.READY


BOX = """
import asyncio, sys
from pathlib import Path
from appliance.engines.worker.supervisor import Supervisor
from appliance.plugin import Kind
from tests.engines.worker_specs import spec

async def main():
    worker = await Supervisor().add_local("m", spec(Kind.LANGUAGE_MODEL, Path(sys.argv[1])))
    print(worker.status().pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_worker_dies_with_its_box_even_when_that_is_killed(tmp_path: Path) -> None:
    box = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BOX, str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert box.stdout is not None
    pid = int(await box.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    os.kill(pid, signal.SIGSTOP)  # not even a hung one is left
    box.kill()
    await box.wait()
    await until(lambda: not Path(f"/proc/{pid}").exists(), 10)
