# SPDX-License-Identifier: Apache-2.0
"""The hub's part of the demonstration, with a real hub and a box whose phone line is in memory."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from appliance.box import Box
from appliance.demo import arrival as arrival_module
from appliance.demo.arrival import CALL, RECORDING, TRANSCRIPT, USAGE, Arrival, AtBox
from appliance.demo.hub import DATA, HubError, environment, hub_process
from appliance.demo.owner import Owner
from appliance.sync.hub import FOLDER
from appliance.sync.identity import HubFiles
from tests.engines.memory_line import AGENT, Caller, MemoryLine, start_box
from tests.lab.process import ROOT, poll
from tests.telephony.peers import until

LEFT_S = 180.0


def running_in(folder: Path) -> list[str]:
    """Return the command lines of processes that have to do with a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in words and process.name != str(os.getpid()):
            found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the box record its calls, as the demonstration's does."""
    monkeypatch.setenv("TRUNKLINE__RECORDING__ENABLED", "true")


async def one_call(box: Box, line: MemoryLine) -> str:
    caller = Caller(box.switchboard, 0)
    line.callers.append(caller)
    box.switchboard.incoming(caller)
    await until(lambda: caller.asked > 1, 60)
    caller.stopping = True
    await until(lambda: box.switchboard.active == 0, 60)
    await box.store.sync()
    return box.store.calls()[0].id


@pytest.mark.slow
@pytest.mark.usefixtures("recorded")
async def test_a_box_gets_its_agent_from_the_hub_and_its_call_is_found_there_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, shown = MemoryLine(1), io.StringIO()
    file = tmp_path / "lab.yaml"
    file.write_text(AGENT.replace("Hello there.", "Hello from the hub."))
    (tmp_path / "box").mkdir()
    async with hub_process(tmp_path) as hub:
        box = await start_box(
            tmp_path / "box",
            line,
            placements=("inline", "inline"),
            transport='use = "memory"\n[hub]\nenabled = true',
        )
        try:
            async with Owner(await hub.ready()) as owner:
                await owner.move_in(tmp_path / "owner.json")
                codes: list[str] = []
                files = HubFiles(box.config.box.data_dir / FOLDER)
                box_id = await owner.claim(files, codes.append)
                deployed = await owner.deploy(file, box_id)
                agent = box.agent_for("100")
                assert agent is not None
                assert agent.greeting == "Hello from the hub."
                here = AtBox.read(box.store, await one_call(box, line))
                assert here is not None
                console = Console(file=shown, width=100)
                arrival = Arrival(console, owner, box_id)
                found = await arrival.follow(here, deployed)
                assert found == {CALL: True, TRANSCRIPT: True, USAGE: True, RECORDING: True}
                monkeypatch.setattr(arrival_module, "CALL_S", 0.5)
                key = next(iter(here.usage))
                other = replace(
                    here,
                    lines=here.lines[:-1],
                    usage={**here.usage, key: here.usage[key] + 1},
                )
                found = await arrival.follow(other, replace(deployed, version_id="another"))
                assert found == {CALL: False, TRANSCRIPT: False, USAGE: False, RECORDING: True}
        finally:
            await box.aclose()
    assert len(codes) == 1
    assert "Hello from the hub." in shown.getvalue()
    assert not running_in(tmp_path)
    assert (tmp_path / "owner.json").stat().st_mode & 0o077 == 0


async def test_a_hub_that_does_not_start_is_shown_with_its_own_last_words(tmp_path: Path) -> None:
    (tmp_path / DATA).write_text("no folder")
    with pytest.raises(HubError, match=r"(?s)ended with code 1 .*The hub does not start: .*exists"):
        async with hub_process(tmp_path) as hub:
            await hub.ready()
    assert not running_in(tmp_path)


@pytest.mark.slow
def test_without_its_hub_the_demonstration_says_why_and_stops_the_box(tmp_path: Path) -> None:
    (tmp_path / "cloud_hub").mkdir()
    (tmp_path / "cloud_hub" / "__main__.py").write_text('raise SystemExit("no room on the disk")')
    done = subprocess.run(
        [sys.executable, "-m", "appliance.demo"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        timeout=LEFT_S,
    )
    assert done.returncode == 1
    assert "the hub ended with code 1 at its start" in done.stdout
    assert "no room on the disk" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert not running_in(tmp_path)


def test_what_the_environment_says_of_a_real_hub_is_kept_from_the_demonstrations() -> None:
    real = {"TRUNKLINE_HUB_DATABASE_OWNER_URL": "real", "trunkline_hub_nats_urls": "real", "A": "b"}
    made = environment(Path("data"), real)
    assert "real" not in made.values()
    assert made["A"] == "b"
    assert made["TRUNKLINE_HUB_DATA_FOLDER"] == str(Path("data").absolute())


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The demonstration, just begun, in a session of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "appliance.demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_told_to_stop_the_demonstration_leaves_nothing_running(
    demo: subprocess.Popen[str], tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    postmaster = f"*/{DATA}/postgres/data/postmaster.pid"
    place = tmp_path / "var" / "demo"
    poll(lambda: list(place.glob(postmaster)), bool, LEFT_S, "the database of the hub")
    demo.send_signal(sent)
    said, _ = demo.communicate(timeout=LEFT_S)
    assert demo.returncode == code, said
    assert "Traceback" not in said
    assert not running_in(tmp_path)
