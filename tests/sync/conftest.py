# SPDX-License-Identifier: Apache-2.0
"""A box's store, a real broker, and a small hub."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from appliance.store import Store
from appliance.sync import hub as hub_module
from appliance.sync import link as link_module
from tests.hub.servers import Nats, nats_running
from tests.sync.lab import BOX
from tests.sync.small_hub import SmallHub


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "RECONNECT_S", 0.05)
    monkeypatch.setattr(link_module, "RECONNECT_MAX_S", 0.3)
    monkeypatch.setattr(link_module, "NOTE_AFTER_S", 0.05)
    monkeypatch.setattr(hub_module, "LOOK_EVERY_S", 0.05)


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[Nats]:
    folder = tmp_path / "nats"
    folder.mkdir()
    with nats_running(folder, "max_payload: 4MB") as server:
        yield server


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store.open(tmp_path / "box.db", outbox=True)
    await store.own_outbox(BOX)
    yield store
    await store.aclose()


@pytest.fixture
def hub(tmp_path: Path, nats: Nats) -> SmallHub:
    return SmallHub(nats.url, tmp_path / "hub.db")
