# SPDX-License-Identifier: Apache-2.0
"""A box does each command once, in time, and reports what came of it, also through a crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.sync.commands import Action, CommandError, Commands, Done
from appliance.wire import Command, new_id, to_text
from tests.sync.offers import Offers
from tests.sync.test_desired import until

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class BoxUnderTest:
    """Commands of a box, and what it reported."""

    def __init__(self, folder: Path, offers: Offers) -> None:
        self.path = folder / "commands.json"
        self.offers = offers
        self.results: list[dict[str, Any]] = []
        self.done: list[Mapping[str, Any]] = []
        self.restarted = 0
        self.now = NOW
        self.hold = asyncio.Event()
        self.commands = self.make()

    def make(self) -> Commands:
        actions: dict[str, Action] = {
            "drain": self._drain,
            "restart": self._restart,
            "collect_logs": self._wait,
        }
        return Commands(self.path, self.offers.identity, self, actions, lambda: self.now)

    def report(self, stream: str, kind: str, data: Mapping[str, Any]) -> None:
        assert (stream, kind) == ("fleet", "command.result")
        self.results.append(dict(data))

    async def sync(self) -> None:
        pass

    async def _drain(self, parameters: Mapping[str, Any]) -> Done:
        self.done.append(parameters)
        if parameters.get("fail"):
            raise CommandError("cannot")
        if parameters.get("breaks"):
            raise RuntimeError("broken")
        return Done({"calls": 0})

    async def _restart(self, parameters: Mapping[str, Any]) -> Done:
        def then() -> None:
            assert self.results, "restarted before the result was on its way"
            self.restarted += 1

        return Done(then=then)

    async def _wait(self, parameters: Mapping[str, Any]) -> Done:
        await self.hold.wait()
        return Done()

    def command(self, kind: str = "drain", **parameters: Any) -> Command:
        return self.offers.key.sign(
            Command(
                id=new_id(),
                box_id=self.offers.box_id,
                kind=kind,
                parameters=parameters,
                issued_at=to_text(NOW),
                expires_at=to_text(NOW + timedelta(minutes=5)),
            )
        )

    async def does(self, command: Command) -> dict[str, Any]:
        self.commands.received(command.encode())
        await until(lambda: any(each["id"] == command.id for each in self.results))
        return next(each for each in self.results if each["id"] == command.id)

    async def restart(self) -> None:
        await self.commands.aclose()
        self.commands = self.make()
        self.commands.start()


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[BoxUnderTest]:
    box = BoxUnderTest(tmp_path, Offers(tmp_path))
    box.commands.start()
    yield box
    await box.commands.aclose()


async def test_a_command_is_done_once_however_often_it_comes(box: BoxUnderTest) -> None:
    command = box.command(timeout_s=3)
    result = await box.does(command)
    assert (result["status"], result["output"]) == ("done", {"calls": 0})
    await until(lambda: b'"reported":true' in box.path.read_bytes())
    box.commands.received(command.encode())
    await box.restart()
    box.commands.received(command.encode())
    await box.does(box.command())
    assert len(box.done) == 2
    assert len(box.results) == 2


async def test_what_a_command_runs_into_is_told(box: BoxUnderTest) -> None:
    assert (await box.does(box.command(fail=True)))["detail"] == "cannot"
    assert "broken" in (await box.does(box.command(breaks=True)))["detail"]
    unknown = await box.does(box.command("dance"))
    assert (unknown["status"], "dance" in unknown["detail"]) == ("failed", True)


async def test_a_command_that_comes_too_late_is_not_done(box: BoxUnderTest) -> None:
    box.now = NOW + timedelta(minutes=6)
    assert (await box.does(box.command()))["status"] == "expired"
    box.now = NOW - timedelta(days=3650)
    assert "clock" in (await box.does(box.command()))["detail"]
    assert not box.done


async def test_commands_of_strangers_and_for_others_are_not_done(
    box: BoxUnderTest, tmp_path: Path
) -> None:
    command = box.command()
    stranger = Offers(tmp_path / "stranger")
    box.commands.received(stranger.key.sign(command).encode())
    box.commands.received(command.model_copy(update={"kind": "restart"}).encode())
    other = command.model_copy(update={"box_id": new_id()})
    box.commands.received(box.offers.key.sign(other).encode())
    box.commands.received(b"{}")
    assert (await box.does(command))["status"] == "done"
    assert len(box.results) == len(box.done) == 1


async def test_the_result_of_a_restart_is_on_its_way_before_the_box_goes(
    box: BoxUnderTest,
) -> None:
    assert (await box.does(box.command("restart")))["status"] == "done"
    await until(lambda: box.restarted == 1)


async def test_a_command_cut_short_by_a_crash_is_reported_after_it(box: BoxUnderTest) -> None:
    command = box.command("collect_logs")
    box.commands.received(command.encode())
    await until(box.path.exists)
    await box.restart()
    await until(lambda: box.results)
    assert (box.results[0]["id"], box.results[0]["status"]) == (command.id, "failed")
