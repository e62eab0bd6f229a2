# SPDX-License-Identifier: Apache-2.0
"""A box follows the hub's configuration, refuses what is bad, gives up what fails, survives being killed."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.call.agent import Agent
from appliance.sync import desired as module
from appliance.sync.desired import DesiredState
from appliance.sync.trial import CALLS, FAILURES
from appliance.wire import Bundle, Desired
from tests.sync.offers import Offers, agent_yaml

ONE, TWO = agent_yaml("desk", "One."), agent_yaml("desk", "Two.")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(module, "TRY_AGAIN_S", 0.02)


async def until(what: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.005)


class BoxUnderTest:
    """The desired state of a box, and what it reported."""

    def __init__(self, folder: Path, offers: Offers) -> None:
        self.reports: list[dict[str, Any]] = []
        self.folder = folder
        self.offers = offers
        self.desired = self._make()

    def _make(self) -> DesiredState:
        return DesiredState(
            self.folder / "hub",
            self.offers.identity,
            lambda stream, kind, data: self.reports.append({"kind": kind, **data}),
            self.offers.fetch,
            self.unfit,
        )

    @staticmethod
    def unfit(bundle: Bundle, agents: Mapping[str, Agent]) -> list[str]:
        return [f"trunks: {name}" for name in bundle.trunks] + [
            f"{agent.name}: no such engine"
            for agent in agents.values()
            if agent.engines.language_model == ("nowhere",)
        ]

    async def restart(self) -> None:
        """What a new process does with what it finds on the disk."""
        await self.desired.aclose()
        self.desired = self._make()
        self.desired.start()

    async def takes(self, offer: Desired) -> dict[str, Any]:
        """Hear an offer, and return what is reported of it."""
        self.desired.received(offer.encode())
        await until(lambda: self.reports and self.reports[-1]["version"] == offer.version)
        return self.reports[-1]

    def says(self, name: str = "desk") -> str:
        agent = self.desired.agent(name)
        return agent.greeting if agent is not None else ""

    async def calls(self, *failed: bool) -> None:
        agent = self.desired.agent("desk")
        assert agent is not None
        for each in failed:
            self.desired.call_ended(agent.revision(), failed=each)
        await until(lambda: not self.desired._ended and self.desired.state.trial is None)

    def edit(self, text: str, name: str = "desk") -> Path:
        running = self.desired.state.running
        assert running is not None
        release = f"{running.version}-{running.sha256[:12]}"
        path = self.folder / "hub" / "releases" / release / "agents" / f"{name}.yaml"
        path.write_text(text)
        return path


@pytest.fixture
def offers(tmp_path: Path) -> Offers:
    return Offers(tmp_path)


@pytest.fixture
async def box(tmp_path: Path, offers: Offers) -> AsyncIterator[BoxUnderTest]:
    box = BoxUnderTest(tmp_path, offers)
    box.desired.start()
    yield box
    await box.desired.aclose()


async def test_the_next_call_gets_what_the_hub_wants(box: BoxUnderTest, offers: Offers) -> None:
    report = await box.takes(offers.offer(1, ONE))
    assert (report["status"], report["state"]["running"], box.says()) == ("applied", 1, "One.")
    await box.restart()
    assert box.says() == "One."


@pytest.mark.parametrize(
    ("text", "more", "told"),
    [
        (agent_yaml("desk", more="colour: red\n"), {}, "colour"),
        ("version: 1\nname: desk\nprompt: [", {}, "YAML"),
        (agent_yaml("desk", more="engines: {language_model: [nowhere]}\n"), {}, "no such engine"),
        (ONE, {"trunks": {"isdn": {}}}, "isdn"),
    ],
)
async def test_what_this_box_cannot_run_is_refused_and_what_runs_goes_on(
    box: BoxUnderTest, offers: Offers, text: str, more: dict[str, Any], told: str
) -> None:
    await box.takes(offers.offer(1, ONE))
    report = await box.takes(offers.offer(2, text, **more))
    assert (report["status"], report["state"]["running"]) == ("refused", 1)
    assert told in " ".join(report["errors"])
    assert box.says() == "One."
    assert (await box.takes(offers.offer(3, TWO)))["status"] == "applied"
    assert box.says() == "Two."


async def test_a_bundle_that_is_not_the_hubs_is_refused(
    box: BoxUnderTest, offers: Offers, tmp_path: Path
) -> None:
    await box.takes(offers.offer(1, ONE))
    offer = offers.offer(2, TWO)
    offers.files[offer.bundle_url] += b" "
    assert (await box.takes(offer))["status"] == "refused"
    stranger = Offers(tmp_path / "stranger")
    stranger.box_id = offers.box_id
    theirs = stranger.offer(3, TWO)
    mixed = offers.announce(3, stranger.files[theirs.bundle_url])
    assert (await box.takes(mixed))["status"] == "refused"
    other = Offers(tmp_path)
    foreign = other.offer(4, TWO)
    assert (await box.takes(offers.announce(4, other.files[foreign.bundle_url])))[
        "status"
    ] == "refused"
    assert box.says() == "One."


async def test_a_forged_announcement_is_not_even_looked_at(
    box: BoxUnderTest, offers: Offers, tmp_path: Path
) -> None:
    await box.takes(offers.offer(1, ONE))
    fetched = offers.fetched
    stranger = Offers(tmp_path / "stranger")
    stranger.box_id = offers.box_id
    box.desired.received(stranger.offer(9, TWO).encode())
    box.desired.received(offers.offer(9, TWO).model_copy(update={"version": 8}).encode())
    box.desired.received(b"\xff")
    assert (await box.takes(offers.offer(2, TWO)))["version"] == 2
    assert offers.fetched == fetched + 1


async def test_an_old_announcement_brings_nothing_back(box: BoxUnderTest, offers: Offers) -> None:
    first, second = offers.offer(1, ONE), offers.offer(2, TWO)
    await box.takes(first)
    await box.takes(second)
    told = len(box.reports)
    box.desired.received(first.encode())
    await until(lambda: len(box.reports) > told)
    assert (box.says(), box.reports[-1]["version"]) == ("Two.", 2)


async def test_a_bundle_that_cannot_be_had_now_is_fetched_later(
    box: BoxUnderTest, offers: Offers
) -> None:
    offers.down = httpx.ConnectError("down")
    box.desired.received(offers.offer(1, ONE).encode())
    await until(lambda: offers.fetched > 2)
    assert not box.reports
    offers.down = None
    await until(lambda: box.says() == "One.")


async def test_when_the_first_calls_fail_the_former_configuration_comes_back_by_itself(
    box: BoxUnderTest, offers: Offers
) -> None:
    await box.takes(offers.offer(1, ONE))
    await box.calls(*[False] * CALLS)
    await box.takes(offers.offer(2, TWO))
    held = box.desired.agent("desk")
    await box.calls(*[True] * FAILURES)
    await until(lambda: box.reports[-1]["status"] == "rolled_back")
    assert box.says() == "One."
    assert held is not None
    assert held.greeting == "Two."  # a call that is under way keeps its agent
    assert box.reports[-1]["version"] == 2
    await box.restart()
    assert box.says() == "One."
    assert box.reports[-1]["status"] == "rolled_back"


async def test_an_edit_on_the_box_takes_effect_is_reported_and_stays_with_the_next_release(
    box: BoxUnderTest, offers: Offers
) -> None:
    other = agent_yaml("night", "Good night.")
    await box.takes(offers.offer(1, ONE, other))
    mine = agent_yaml("desk", "Mine.")
    box.edit(mine)
    await until(lambda: box.says() == "Mine.")
    await until(lambda: box.reports[-1]["drift"])
    assert box.reports[-1]["drift"]["agents"]["desk"]["yaml"] == mine
    report = await box.takes(offers.offer(2, ONE, agent_yaml("night", "Sleep well.")))
    assert (box.says(), box.says("night")) == ("Mine.", "Sleep well.")
    assert report["drift"]["agents"]["desk"]["change"] == "edited"


async def test_an_edit_that_the_hub_overrules_is_kept_and_reported(
    box: BoxUnderTest, offers: Offers, tmp_path: Path
) -> None:
    await box.takes(offers.offer(1, ONE))
    await box.calls(*[False] * CALLS)
    mine = agent_yaml("desk", "Mine.")
    box.edit(mine)
    report = await box.takes(offers.offer(2, TWO))
    assert box.says() == "Two."
    [name] = report["drift"]["kept"]
    await box.calls(*[False] * CALLS)
    await box.takes(offers.offer(3, ONE))
    await box.calls(*[False] * CALLS)
    assert (tmp_path / "hub" / "kept" / name).read_text() == mine
    await until(lambda: len(list((tmp_path / "hub" / "releases").iterdir())) == 1)


@pytest.mark.parametrize(
    "text", ["broken: [", agent_yaml("desk", more="engines: {language_model: [nowhere]}\n")]
)
async def test_a_broken_edit_stops_nothing(box: BoxUnderTest, offers: Offers, text: str) -> None:
    await box.takes(offers.offer(1, ONE))
    box.edit(text)
    assert box.says() == "One."
    await box.restart()
    assert box.says() == "One."
    box.edit(text).unlink()
    assert box.says() == "One."


async def test_damage_on_the_disk_brings_the_proven_release_back(
    box: BoxUnderTest, offers: Offers
) -> None:
    await box.takes(offers.offer(1, ONE))
    await box.calls(*[False] * CALLS)
    await box.takes(offers.offer(2, TWO))
    (box.edit(TWO).parent.parent / "bundle.json").write_bytes(b"{}")
    await box.restart()
    assert box.says() == "One."
    assert box.reports[-1]["status"] == "rolled_back"


class Killed(BaseException):
    """The process ends here."""


class Killer:
    """Ends the process at the n-th thing it does with files under a folder."""

    def __init__(self) -> None:
        self.folder = ""
        self.left = 0
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.left or not event.startswith(("open", "os.", "shutil.")):
            return
        if any(isinstance(each, (str, Path)) and self.folder in str(each) for each in arguments):
            self.left -= 1
            if not self.left:
                raise Killed


KILLER = Killer()


@pytest.mark.parametrize("bad", [False, True])
async def test_a_box_killed_at_any_point_comes_up_with_the_old_or_the_new_and_gets_on(
    box: BoxUnderTest, offers: Offers, tmp_path: Path, bad: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)  # no power is cut here: the process ends
    await box.takes(offers.offer(1, ONE, agent_yaml("old", "Old.")))
    await box.calls(*[False] * CALLS)
    box.edit(agent_yaml("old", "Mine."), "old")
    await box.desired.aclose()
    offer = offers.offer(2, agent_yaml("desk", more="colour: red\n") if bad else TWO)
    deaths, survived = 0, False
    while not survived:
        deaths += 1
        folder = tmp_path / str(deaths)
        shutil.copytree(tmp_path / "hub", folder / "hub")
        victim = BoxUnderTest(folder, offers)
        victim.desired.start()
        await victim.desired.aclose()
        KILLER.folder, KILLER.left = str(folder / "hub"), deaths
        with contextlib.suppress(Killed):
            await victim.desired._take(offer)
        survived, KILLER.left = KILLER.left > 0, 0
        heir = BoxUnderTest(folder, offers)
        heir.desired.start()
        assert heir.says() in {"One.", "One." if bad else "Two."}
        assert (await heir.takes(offer))["status"] == ("refused" if bad else "applied")
        assert heir.says() == ("One." if bad else "Two.")
        await heir.desired.aclose()
        kept = list((folder / "hub").rglob("old*.yaml"))
        assert any("Mine." in path.read_text() for path in kept)
        shutil.rmtree(folder)
    assert deaths > 10
