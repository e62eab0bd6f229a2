# SPDX-License-Identifier: Apache-2.0
"""What the operator's guide of the hub tells to type, typed."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from appliance.demo.hub import DATA, NotReadyError, hub_process
from appliance.demo.owner import EMAIL, Owner
from cloud_hub.fleet.broker import server_binary
from tests.lab.process import ROOT

GUIDE = ROOT / "docs" / "hub" / "operate.md"
KEPT = ("ca", "signing.key", "api.secret", "postgres/passwords.json")


def block(language: str, holding: str) -> str:
    """Return the guide's one block of a language that holds these words."""
    blocks = re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    found = [each for each in blocks if holding in each]
    assert len(found) == 1
    return str(found[0])


def run(*command: str) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, check=True, timeout=120, cwd=ROOT)


def test_the_configuration_that_the_guide_writes_for_a_cluster_is_one_that_nats_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TRUNKLINE_HUB_DATA_FOLDER", str(tmp_path / "hub"))
    code = block("python", "nats-nodes")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    nodes = sorted((tmp_path / "nats-nodes").iterdir())
    assert len(nodes) == 3
    for node in nodes:
        text = (node / "nats.conf").read_text()
        (node / "nats.conf").write_text(text.replace("/etc/nats", str(node)))
        checked = subprocess.run(
            [server_binary(), "-t", "-c", str(node / "nats.conf")],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert checked.returncode == 0, checked.stderr
        assert stat.S_IMODE((node / "server.key").stat().st_mode) & 0o077 == 0


@pytest.mark.slow
async def test_a_hub_that_is_restored_from_a_copy_taken_while_it_ran_knows_its_people(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    copy = tmp_path / "copy"
    for folder in (first, second):
        folder.mkdir()
    async with hub_process(first) as hub, Owner(await hub.ready()) as owner:
        await owner.move_in(first / "owner.json")
        data = first / DATA / "postgres"
        pid_file = (data / "data" / "postmaster.pid").read_text().splitlines()
        script = block("sh", "pg_basebackup")
        for written, here in (
            ("/var/lib/trunkline-hub/postgres", str(data)),
            (".venv/bin/python", sys.executable),
            ("$DATA/socket", pid_file[4]),
            ("/backup/postgres", str(copy)),
        ):
            assert written in script
            script = script.replace(written, here)
        await asyncio.to_thread(run, "bash", "-euc", script)
    for name in KEPT:
        target = second / DATA / name
        target.parent.mkdir(parents=True, exist_ok=True)
        source = first / DATA / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    copy.rename(second / DATA / "postgres" / "data")
    before = (first / DATA / "postgres" / "data").stat()
    owner_and_group = f"{before.st_uid}:{before.st_gid}"
    await asyncio.to_thread(
        run, "chown", "-R", owner_and_group, str(second / DATA / "postgres" / "data")
    )
    async with hub_process(second) as hub:
        with pytest.raises(NotReadyError, match="did not say its setup_token"):
            await hub.ready()  # it has an owner already
        api = re.search(r"^API for people and programs: (\S+)$", hub.log.read_text(), re.MULTILINE)
        assert api
        password = json.loads((first / "owner.json").read_text())["password"]
        async with httpx.AsyncClient(base_url=api[1], timeout=60) as client:
            answer = await client.post("/sign-in", json={"email": EMAIL, "password": password})
            assert answer.status_code == 200, answer.text
