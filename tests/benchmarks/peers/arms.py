# SPDX-License-Identifier: Apache-2.0
"""The arms of the comparison: how each agent is started, where it is called, and which processes it is."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from trunkline_starter_models import pack_dir

from appliance.call.agent import Agent, BookAppointment
from appliance.call.agent_file import AgentLibrary
from appliance.call.tools import BookAppointmentTool, EndCallTool
from appliance.plugin import ToolSpec
from appliance.store import Store
from tests.benchmarks.peers.environments import Peer, prepare, python_path
from tests.benchmarks.peers.order import Order
from tests.benchmarks.peers.transport import socket_path
from tests.lab.process import DEMO_CONFIG, ROOT, BoxProcess
from tests.telephony.peers import free_port

START_S = 180.0
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Running(ABC):
    """An arm that takes calls. A context manager: leaving it ends its processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.targets: list[str] = []
        self._processes: list[subprocess.Popen[str]] = []

    @property
    def pids(self) -> list[int]:
        """The processes that were started."""
        return [process.pid for process in self._processes]

    @property
    def ended(self) -> list[int]:
        """Exit codes of processes that ended by themselves."""
        codes = [process.poll() for process in self._processes]
        return [code for code in codes if code is not None]

    @abstractmethod
    def start(self) -> None:
        """Start all processes and wait until calls can be taken."""

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def spawn(
        self, command: list[str], environ: Mapping[str, str], name: str
    ) -> subprocess.Popen[str]:
        """Start a process whose errors go to a file of its own."""
        with (self.folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **ONE_THREAD, **environ},
                cwd=ROOT,
                text=True,
            )
        self._processes.append(process)
        return process

    def wait_ready(self, process: subprocess.Popen[str], name: str) -> None:
        """Wait for the line `ready`.

        Raises:
            RuntimeError: it ended or took too long; with the end of what it said.
        """
        deadline = time.monotonic() + START_S
        assert process.stdout is not None
        while time.monotonic() < deadline and process.poll() is None:
            if (
                select.select([process.stdout], [], [], 1)[0]
                and "ready" in process.stdout.readline()
            ):
                return
        said = (self.folder / f"{name}.log").read_text()[-2000:]
        raise RuntimeError(f"{name} did not start:\n{said}")


class TrunklineWire(Running):
    """The whole box, fed by the same frames as the peers."""

    def __init__(self, folder: Path, calls: int, config: Path) -> None:
        super().__init__(folder)
        self._calls = calls
        self._config = config

    def start(self) -> None:
        path = socket_path(self.folder, "box")
        command = [sys.executable, "-m", "tests.benchmarks.peers.trunkline_agent"]
        environ = {
            "TRUNKLINE__BOX__DATA_DIR": str(self.folder / "data"),
            "TRUNKLINE__RECORDING__ENABLED": "false",
        }
        process = self.spawn([*command, str(self._config), path], environ, "trunkline")
        self.wait_ready(process, "trunkline")
        self.targets = [path] * self._calls


class TrunklineSip(Running):
    """The box as a customer runs it, `trunkline serve`, called over SIP."""

    def __init__(self, folder: Path, calls: int, config: Path) -> None:
        super().__init__(folder)
        self._calls = calls
        self._config = config
        self._box: BoxProcess | None = None

    @property
    def pids(self) -> list[int]:
        return [] if self._box is None else [self._box.pid]

    def start(self) -> None:
        with _environment(TRUNKLINE__RECORDING__ENABLED="false", **ONE_THREAD):
            self._box = BoxProcess(self.folder, self._config)
        self._box.__enter__()
        self.targets = [self._box.target] * self._calls

    def stop(self) -> None:
        if self._box is not None:
            self._box.__exit__(None, None, None)


class PeerAgents(Running):
    """A peer: one server that holds the language model, and agents.

    Args:
        folder: for logs and sockets.
        calls: how many there will be at once.
        peer: what it is.
        order: see `peer_order`; with `tuned`.
        shared: one process for all calls, in place of one for each.
    """

    def __init__(
        self,
        folder: Path,
        calls: int,
        peer: Peer,
        order: Mapping[str, Any],
        *,
        shared: bool = False,
    ) -> None:
        super().__init__(folder)
        self._calls = calls
        self._shared = shared
        self._peer = peer
        self._order = dict(order)

    def start(self) -> None:
        environment = prepare(self._peer)
        url = self._language_model()
        started = []
        for number in range(1 if self._shared else self._calls):
            name = f"{self._peer.name}-{number}"
            order = Order(path=socket_path(self.folder, name), llm_url=url, **self._order)
            command = [str(environment.python), "-m", self._peer.module, order.dump()]
            started.append((self.spawn(command, {"PYTHONPATH": python_path()}, name), name))
            self.targets += [order.path] * (self._calls if self._shared else 1)
        for process, name in started:
            self.wait_ready(process, name)

    def _language_model(self) -> str:
        port = free_port()
        model = next((pack_dir() / "llm").glob("*.gguf"))
        options = {
            "--model": str(model),
            "--host": "127.0.0.1",
            "--port": str(port),
            "--n_ctx": "2048",
            "--n_threads": "1",
            "--n_threads_batch": "1",
            "--logits_all": "False",
            "--interrupt_requests": "False",  # else a second call cuts off the first one's answer
            "--verbose": "False",
        }
        flat = [word for pair in options.items() for word in pair]
        process = self.spawn([sys.executable, "-m", "llama_cpp.server", *flat], {}, "llm")
        address = f"http://127.0.0.1:{port}/v1"
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{address}/models", timeout=2),
            ):
                return address
            time.sleep(0.2)
        said = (self.folder / "llm.log").read_text()[-2000:]
        raise RuntimeError(f"the language model's server did not start:\n{said}")


def peer_order(config_folder: Path = DEMO_CONFIG.parent.parent / "agents") -> dict[str, Any]:
    """Return the example agent for an agent that is not Trunkline's: all of `Order` but its places."""
    agent = AgentLibrary(config_folder).get("reception")
    if agent is None:
        raise RuntimeError(f"there is no agent `reception` in {config_folder}")
    now = datetime.now().astimezone()
    return {
        "recognizer": str(pack_dir() / "asr"),
        "system": agent.render(agent.prompt, now),
        "greeting": agent.render(agent.greeting, now),
        "tools": [_definition(spec) for spec in _tools(agent)],
        "voice": agent.voice.name or "en-us",
        "max_tokens": agent.limits.reply_tokens,
        "end_of_turn_s": agent.turn_taking.end_of_turn_ms / 1000,
    }


def _tools(agent: Agent) -> list[ToolSpec]:
    specs = []
    for tool in agent.tools:
        if isinstance(tool, BookAppointment):
            store: Any = Store  # never used: only the specification is read
            specs.append(BookAppointmentTool(tool, store, "", datetime.now).spec)
        elif tool.type == "end_call":
            specs.append(EndCallTool(tool).spec)
    return specs


def _definition(spec: ToolSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "description": spec.description,
        "parameters": dict(spec.parameters),
    }


@contextlib.contextmanager
def _environment(**changes: str) -> Any:
    before = {key: os.environ.get(key) for key in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
