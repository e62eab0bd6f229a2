# SPDX-License-Identifier: Apache-2.0
"""Building the engines of a box: what fails is named and left out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.config import BoxConfig, load
from appliance.engines import pool
from appliance.engines.pool import EnginePool
from appliance.plugin import (
    BuildContext,
    ConfigurationError,
    Kind,
    LlmRequest,
    ModelNotFoundError,
    Offer,
    Settings,
    TextDelta,
)
from tests.call import fakes


class Offers:
    """Stands for the plugins: offers whose build is a function."""

    def __init__(self, **builds: Callable[[Settings, BuildContext], Any]) -> None:
        self.builds = builds

    def offer(self, kind: Kind, id: str) -> Offer:  # noqa: A002
        return Offer(id, kind, Settings, self.builds[id], None, "")


def no_models(name: str) -> Path:
    raise ModelNotFoundError(f"no model {name}", remedy="pull it")


def broken(settings: Settings, context: BuildContext) -> Any:
    raise RuntimeError("bug in the plugin")


def missing(settings: Settings, context: BuildContext) -> Any:
    return context.model_path("small/llm")


def config(tmp_path: Path, offers: Offers, *models: str) -> BoxConfig:
    sections = "".join(f'[language_model.{use}]\nuse = "{use}"\n' for use in models)
    path = tmp_path / "appliance.toml"
    path.write_text(f'{sections}[voice_activity]\nuse = "vad"\n')
    return load(path, offers)


def vad(settings: Settings, context: BuildContext) -> Any:
    return fakes.LevelVad()


async def test_an_engine_that_fails_is_named_and_the_others_serve(tmp_path: Path) -> None:
    offers = Offers(bug=broken, gone=missing, good=lambda *_: fakes.always("Fine."), vad=vad)
    engines = EnginePool(config(tmp_path, offers, "bug", "gone", "good"), no_models)
    await engines.start()
    assert [(fault.name, str(fault.error)) for fault in engines.faults] == [
        ("bug", "RuntimeError: bug in the plugin"),
        ("gone", "no model small/llm (pull it)"),
    ]
    chain = engines.language_model(["bug", "gone", "good"])
    deltas = [delta async for delta in chain.reply(LlmRequest(()), lambda _: None)]
    assert deltas[0] == TextDelta("Fine.")
    await engines.aclose()


async def test_an_engine_that_hangs_while_loading_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "BUILD_S", 0.05)
    offers = Offers(slow=lambda *_: time.sleep(0.3), vad=vad)
    engines = EnginePool(config(tmp_path, offers, "slow"), no_models)
    began = asyncio.get_running_loop().time()
    await engines.start()
    assert asyncio.get_running_loop().time() - began < 0.25
    assert [fault.name for fault in engines.faults] == ["slow"]
    await engines.aclose()


async def test_without_voice_activity_detection_the_box_does_not_start(tmp_path: Path) -> None:
    engines = EnginePool(config(tmp_path, Offers(vad=broken)), no_models)
    with pytest.raises(ConfigurationError, match="no voice activity detection: RuntimeError: bug"):
        await engines.start()


async def test_every_engine_is_run_once_before_the_first_call(tmp_path: Path) -> None:
    model = fakes.always("Hello.")
    offers = Offers(good=lambda *_: model, vad=vad)
    engines = EnginePool(config(tmp_path, offers, "good"), no_models)
    await engines.start()
    assert [request.call_id for request in model.requests] == ["warm-up"]
    await engines.aclose()
