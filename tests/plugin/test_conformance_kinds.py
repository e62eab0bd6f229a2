# SPDX-License-Identifier: Apache-2.0
"""The kit on the kinds that no plugin of the repository offers yet, and on transports."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.plugin import (
    Action,
    ConfigurationError,
    DialRequest,
    EmbedderCapabilities,
    GuardrailCapabilities,
    InvalidRequestError,
    Kind,
    Leg,
    Offer,
    RecordingCapabilities,
    Stage,
    ToolCapabilities,
    ToolContext,
    ToolResult,
    ToolSpec,
    TransportCapabilities,
    TransportHost,
    TransportStatus,
    TurnCapabilities,
    TurnContext,
    Verdict,
)
from appliance.plugin.conformance import Finding, Outcome, Subject, check_offer
from tests.plugin.fakes import FakeSettings


class Base:
    async def aclose(self) -> None:
        """Nothing is held open."""


class Turn(Base):
    capabilities = TurnCapabilities()

    async def end_of_turn(self, context: TurnContext) -> float:
        return 0.9 if context.text.endswith(".") else 0.2


class Overconfident(Turn):
    async def end_of_turn(self, context: TurnContext) -> float:
        return 1.5


class Embed(Base):
    capabilities = EmbedderCapabilities(dimensions=8)

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        counts = np.array([[text.count(c) for c in " aeiourt"] for text in texts], np.float32)
        counts = counts.reshape(len(texts), 8) + 0.1
        unit: NDArray[np.float32] = counts / np.linalg.norm(counts, axis=1, keepdims=True)
        return unit


class NotUnit(Embed):
    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return await super().embed(texts) * 3


class Calendar(Base):
    spec = ToolSpec(
        "opening_hours",
        "Tell when the shop is open.",
        {"type": "object", "properties": {"day": {"type": "string", "description": "A day."}}},
    )
    capabilities = ToolCapabilities(changes_the_world=False)

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        return ToolResult({"opens": "09:00"})


class BadSchema(Calendar):
    spec = ToolSpec("opening_hours", "Tell when the shop is open.", {"type": "objekt"})


class Polite(Base):
    capabilities = GuardrailCapabilities(stages=frozenset({Stage.REPLY}))

    async def check(self, stage: Stage, text: str, call_id: str) -> Verdict:
        return Verdict()


class Late(Polite):
    async def check(self, stage: Stage, text: str, call_id: str) -> Verdict:
        await asyncio.sleep(0.3)
        return Verdict()


class BlocksSilently(Polite):
    async def check(self, stage: Stage, text: str, call_id: str) -> Verdict:
        return Verdict(Action.BLOCK)


class Shelf(Base):
    """Keeps recordings in a folder; copies in a thread."""

    capabilities = RecordingCapabilities()

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def put(self, call_id: str, wav: Path) -> str:
        await asyncio.to_thread(shutil.copyfile, wav, self.folder / call_id)
        return call_id

    async def fetch(self, uri: str, to: Path) -> None:
        if not (self.folder / uri).exists():
            raise InvalidRequestError("no such recording")
        await asyncio.to_thread(shutil.copyfile, self.folder / uri, to)

    async def delete(self, uri: str) -> None:
        (self.folder / uri).unlink(missing_ok=True)


class NeverForgets(Shelf):
    async def delete(self, uri: str) -> None:
        """Keep it."""


class Ticker(Base):
    """A transport without a protocol: it listens nowhere and ticks."""

    capabilities = TransportCapabilities()
    every_s = 0.02

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None

    async def start(self, host: TransportHost) -> None:
        self.task = asyncio.create_task(self.tick(host))

    async def tick(self, host: TransportHost) -> None:
        due = time.perf_counter()
        for _ in range(10_000):
            due += self.every_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            host.media([])

    async def dial(self, request: DialRequest) -> Leg:
        raise InvalidRequestError(f"{request.target} cannot be dialled")

    def status(self) -> TransportStatus:
        return TransportStatus(1, 0, "none", ("nowhere",))

    async def aclose(self) -> None:
        if self.task is not None:
            self.task.cancel()


class TicksSlowly(Ticker):
    every_s = 0.03


class TicksOn(Ticker):
    async def aclose(self) -> None:
        """Forget to stop."""


class TicksElsewhere(Ticker):
    async def start(self, host: TransportHost) -> None:
        self.stop = threading.Event()

        def run() -> None:
            while not self.stop.wait(self.every_s):
                host.media([])

        threading.Thread(target=run, daemon=True).start()

    async def aclose(self) -> None:
        self.stop.set()


class PortTaken(Ticker):
    async def start(self, host: TransportHost) -> None:
        raise ConfigurationError("port 5060 is taken")


KINDS: dict[type, Kind] = {
    Turn: Kind.TURN_DETECTOR,
    Embed: Kind.EMBEDDER,
    Calendar: Kind.TOOL,
    Polite: Kind.GUARDRAIL,
    Shelf: Kind.RECORDING_STORE,
    Ticker: Kind.TRANSPORT,
}


async def check(provider: type[Any], folder: Path) -> list[Finding]:
    kind = next(kind for base, kind in KINDS.items() if issubclass(provider, base))

    def build(settings: Any, context: Any) -> Any:
        return provider(folder) if issubclass(provider, Shelf) else provider()

    offer = Offer("fake", kind, FakeSettings, build, provider.capabilities, "A fake.")
    return [one async for one in check_offer(Subject(offer))]


@pytest.mark.parametrize("provider", [Turn, Embed, Calendar, Polite, Shelf, Ticker])
async def test_a_provider_that_keeps_its_contract_passes(
    provider: type[Any], tmp_path: Path
) -> None:
    found = await check(provider, tmp_path)
    assert {one.name: one.detail for one in found if one.outcome is Outcome.FAILED} == {}


@pytest.mark.parametrize(
    ("provider", "detail"),
    [
        (Overconfident, "it answered [1.5"),
        (NotUnit, "lengths ["),
        (BadSchema, "not a JSON Schema"),
        (Late, "took longer than 0.2 s"),
        (BlocksSilently, "block without a reason"),
        (NeverForgets, "a deleted recording can still be fetched"),
        (TicksSlowly, "ticks came every 30"),
        (TicksOn, "media came after aclose"),
        (TicksElsewhere, "another thread than the event loop's"),
        (PortTaken, "port 5060 is taken"),
    ],
)
async def test_a_broken_provider_fails_with_its_fault_named(
    provider: type[Any], detail: str, tmp_path: Path
) -> None:
    found = await check(provider, tmp_path)
    failed = [one.detail for one in found if one.outcome is Outcome.FAILED]
    assert any(detail in one for one in failed), failed
