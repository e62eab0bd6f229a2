# SPDX-License-Identifier: Apache-2.0
"""Starts the stub box as a process and asks it questions; reads what a process has used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from appliance.caller import TurnSpec
from appliance.plugin import BuildContext, Kind, TextToSpeech
from appliance.plugin.manager import PluginManager
from tests.telephony.peers import free_port

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
DEMO_CONFIG = ROOT / "configs/demo/appliance.toml"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class StubBox:
    """A stub box in a process of its own; a context manager.

    Args:
        settings: of the sip transport.
        words: how many words the agent says, about 0.3 s each.
    """

    def __init__(self, settings: dict[str, Any], words: int = 400) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.stub_box", json.dumps(settings), str(words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        self.pid = self._process.pid
        self.ready: dict[str, Any] = self._read()["ready"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._write("quit")
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def stats(self) -> dict[str, Any]:
        """Return its counters."""
        self._write("stats")
        return self._read()

    def cpu_s(self) -> float:
        """Return the processor seconds it has used, of all its threads."""
        return cpu_s(self.pid)

    def _write(self, line: str) -> None:
        if self._process.stdin is not None and self._process.poll() is None:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        while self._process.stdout is not None and (line := self._process.stdout.readline()):
            if line.startswith("{"):
                data: dict[str, Any] = json.loads(line)
                return data
        msg = f"the box ended with code {self._process.wait()}"
        raise RuntimeError(msg)


def cpu_s(pid: int) -> float:
    """Return the processor seconds a process has used, user and system, of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


class BoxProcess:
    """The demonstration's box (`trunkline serve`) in a process of its own; a context manager.

    Args:
        folder: for its data.
        config: another configuration file.
    """

    def __init__(self, folder: Path, config: Path = DEMO_CONFIG) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.target = f"sip:100@127.0.0.1:{self.port}"
        self.data = folder / "data"
        environ = {
            **os.environ,
            "TRUNKLINE__BOX__DATA_DIR": str(self.data),
            "TRUNKLINE__BOX__LOG_LEVEL": "info",
            "TRUNKLINE__TRANSPORT__LINE__UDP_PORT": str(self.port),
        }
        self.log = (folder / "box.log").open("w+")
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "appliance.cli",
                "serve",
                "--config",
                str(config),
                "--drain",
                "1",
            ],
            stdout=self.log,
            stderr=self.log,
            env=environ,
            cwd=ROOT,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        deadline = time.monotonic() + 60
        while "ready  " not in Path(self.log.name).read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise RuntimeError(f"the box did not start:\n{Path(self.log.name).read_text()}")
            time.sleep(0.1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.log.close()


def place_call(target: str, turns: list[TurnSpec], folder: Path, *options: str) -> dict[str, Any]:
    """Run `trunkline call` with these turns; return the result of its one call."""
    script = folder / "script.yaml"
    spoken = [
        turn.model_dump(exclude_none=True, exclude_defaults=True, mode="json") for turn in turns
    ]
    script.write_text(json.dumps({"voice": "en-us+f3", "turns": spoken}))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "appliance.cli", "call", target),
            *("--script", str(script), "--json", *options),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=600,
    )
    try:
        result: dict[str, Any] = json.loads(done.stdout)["calls"][0]
    except (ValueError, KeyError, IndexError) as error:
        raise RuntimeError(f"the caller failed: {done.stderr or done.stdout}") from error
    return result


def espeak() -> TextToSpeech:
    """Return the espeak synthesizer with its default settings."""
    offer = PluginManager.discover(["espeak"]).offer(Kind.TEXT_TO_SPEECH, "espeak")
    context = BuildContext(Path, Path(tempfile.gettempdir()))
    made: TextToSpeech = offer.build(offer.settings(), context)
    return made


def poll(read: Callable[[], T], fine: Callable[[T], bool], seconds: float, problem: str) -> T:
    """Read until the value is fine and return it.

    Raises:
        AssertionError: it was not within `seconds`; the message is `problem` and the last value.
    """
    deadline = time.monotonic() + seconds
    while not fine(value := read()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{problem}: {value}")
        time.sleep(0.05)
    return value
