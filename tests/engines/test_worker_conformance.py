# SPDX-License-Identifier: Apache-2.0
"""Providers in workers keep the contract of their kind: the whole conformance kit, over real gRPC."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.engines.worker.process import WorkerSpec
from appliance.engines.worker.supervisor import Supervisor
from appliance.plugin import BuildContext, Kind, Offer
from appliance.plugin.conformance import Outcome, Subject, check_offer
from appliance.plugin.manager import PluginManager
from tests.engines.worker_providers import OFFERS

pytestmark = pytest.mark.slow

CASES = {
    "scripted model": (Kind.LANGUAGE_MODEL, "scripted", {"word_delay_s": 0.01}),
    "scripted recognizer": (Kind.SPEECH_TO_TEXT, "scripted", {"delay_s": 0.05}),
    "espeak": (Kind.TEXT_TO_SPEECH, "espeak", {}),
    "puppet embedder": (Kind.EMBEDDER, "puppet", {}),
}


class InWorker:
    """A provider in a worker whose `aclose` ends the worker too, as that of an inline one would."""

    def __init__(self, supervisor: Supervisor, kind: Kind, name: str, provider: Any) -> None:
        self._supervisor, self._kind, self._name = supervisor, kind, name
        self._provider = provider

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._provider, attribute)

    async def aclose(self) -> None:
        await self._supervisor.remove(self._kind, self._name)


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    made = Supervisor()
    yield made
    await made.aclose()


def in_worker(offer: Offer, supervisor: Supervisor, loop: asyncio.AbstractEventLoop) -> Offer:
    """Return an offer that builds the same provider in a worker."""
    numbers = itertools.count()

    def build(settings: Any, context: BuildContext) -> InWorker:
        # The kit's own context cannot be pickled; none of these providers looks for a model.
        spec = WorkerSpec(offer, settings, replace(context, model_path=Path))
        name = f"{offer.id}{next(numbers)}"
        adding = asyncio.run_coroutine_threadsafe(supervisor.add_local(name, spec), loop)
        return InWorker(supervisor, offer.kind, name, adding.result().provider)

    return replace(offer, build=build)


@pytest.mark.parametrize("case", CASES)
async def test_a_provider_in_a_worker_keeps_its_contract(
    case: str, supervisor: Supervisor, tmp_path: Path
) -> None:
    kind, name, settings = CASES[case]
    plugins = PluginManager.discover(["scripted", "espeak"])
    offer = OFFERS[kind] if name == "puppet" else plugins.offer(kind, name)
    manifest = None if name == "puppet" else plugins.plugins[name].manifest
    loop = asyncio.get_running_loop()
    subject = Subject(
        in_worker(offer, supervisor, loop),
        settings,
        BuildContext(Path, tmp_path),
        manifest,
        explicit=True,
    )
    findings = [finding async for finding in check_offer(subject)]
    described = "settings describe every field"  # the puppet's are for tests alone
    failed = [
        f"{finding.name}: {finding.detail}"
        for finding in findings
        if finding.outcome is Outcome.FAILED and (name, finding.name) != ("puppet", described)
    ]
    assert not failed
    assert sum(finding.outcome is Outcome.PASSED for finding in findings) > 8
