# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest
from structlog.testing import capture_logs

from appliance.plugin import observers
from appliance.plugin.manager import PluginManager
from tests.plugin.conftest import Site, until

NOTES = """
import threading
from appliance.plugin import hookimpl

notes = []

@hookimpl
def call_ringing(call):
    notes.append(("ringing", call["id"], threading.current_thread() is threading.main_thread()))

@hookimpl
def call_ended(call):
    notes.append(("ended", call["id"], threading.current_thread() is threading.main_thread()))
"""

RAISES = """
from appliance.plugin import hookimpl

@hookimpl
def call_ringing(call):
    raise ValueError("no ear for this")
"""

BLOCKS = """
import threading
from appliance.plugin import hookimpl

gate = threading.Event()
told = []

@hookimpl
def call_ringing(call):
    told.append(call["id"])
    gate.wait()
"""


def notes(module: str) -> list[Any]:
    return sys.modules[module].notes  # type: ignore[no-any-return]


async def test_observers_are_told_in_order_and_beside_the_event_loop(site: Site) -> None:
    module = site.install("notes", NOTES)
    manager = PluginManager.discover(["notes"])
    manager.notify("call_ringing", call={"id": "c1"})
    manager.notify("call_ended", call={"id": "c1"})
    assert notes(module) == []
    await manager.aclose()
    assert notes(module) == [("ringing", "c1", False), ("ended", "c1", False)]


async def test_an_observer_that_raises_is_logged_by_name_and_others_are_told(site: Site) -> None:
    site.install("angry", RAISES)
    module = site.install("notes", NOTES)
    manager = PluginManager.discover(["angry", "notes"])
    with capture_logs() as logged:
        manager.notify("call_ringing", call={"id": "c1"})
        await manager.aclose()
    assert len(notes(module)) == 1
    failed = [line for line in logged if line["event"] == "observer_failed"]
    assert failed[0]["plugin"] == "angry"
    assert "no ear for this" in failed[0]["error"]


async def test_an_observer_that_hangs_is_reported_and_told_no_more(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observers, "HOOK_TIMEOUT_S", 0.1)
    stuck = site.install("stuck", BLOCKS)
    module = site.install("notes", NOTES)
    manager = PluginManager.discover(["stuck", "notes"])
    manager.notify("call_ringing", call={"id": "c1"})
    manager.notify("call_ringing", call={"id": "c2"})
    await until(lambda: len(notes(module)) == 2)
    await manager.aclose()
    sys.modules[stuck].gate.set()
    assert sys.modules[stuck].told == ["c1"]
    assert [fault.plugin for fault in manager.faults] == ["stuck"]
    assert manager.faults[0].stage == "observer"


async def test_a_full_queue_drops_the_newest_and_counts_them(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observers, "CAPACITY", 3)
    module = site.install("notes", NOTES)
    manager = PluginManager.discover(["notes"])
    with capture_logs() as logged:
        for number in range(10):
            manager.notify("call_ringing", call={"id": number})
    await manager.aclose()
    assert [note[1] for note in notes(module)] == [0, 1, 2]
    assert manager.observers_dropped == 7
    assert [line["dropped"] for line in logged] == [1, 2, 4]


async def test_nobody_listening_costs_no_task(site: Site) -> None:
    site.install("deaf")
    manager = PluginManager.discover(["deaf"])
    before = asyncio.all_tasks()
    manager.notify("call_ringing", call={"id": "c1"})
    assert asyncio.all_tasks() == before
    await manager.aclose()


async def test_closing_leaves_no_thread_and_may_be_repeated(site: Site) -> None:
    site.install("notes", NOTES)
    manager = PluginManager.discover(["notes"])
    before = set(threading.enumerate())
    manager.notify("call_ringing", call={"id": "c1"})
    await manager.aclose()
    await manager.aclose()
    await until(lambda: not set(threading.enumerate()) - before)


def test_a_hook_that_is_no_observer_cannot_be_notified(site: Site) -> None:
    site.install("notes", NOTES)
    with pytest.raises(ValueError, match="call_rang"):
        PluginManager.discover(["notes"]).notify("call_rang", call={})
