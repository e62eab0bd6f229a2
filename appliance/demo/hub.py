# SPDX-License-Identifier: Apache-2.0
"""The hub of the demonstration: a process of its own, with its data and log in the demonstration's folder.

    async with hub_process(folder) as hub:
        addresses = await hub.ready()

It is the program that `./run hub` starts, on free ports of this machine. What the environment says of another
hub is kept from it: a demonstration must not touch anybody's real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

PREFIX = "TRUNKLINE_HUB_"
DATA, LOG = "cloud_hub", "cloud_hub.log"
READY = "The hub is ready."
READY_S = 180.0
STOP_S = 60.0
LOOK_EVERY_S = 0.1
SHOWN_LINES = 15

_SAID = {
    "api": r"^API for people and programs: (\S+)/v1$",
    "boxes": r"^Interface for boxes: (\S+)$",
    "fingerprint": r"^Fingerprint of the boxes' authority: (\S+)$",
    "setup_token": r"^Open this once, .*/setup#(\S+)$",
}


class HubError(Exception):
    """The hub did not start, or did not do what was asked; the text is for a person."""


class NotReadyError(HubError):
    """It did not start; the text ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """What the hub says of itself when it is ready.

    Attributes:
        api: for people and programs, `http://host:port`.
        boxes: for boxes, `https://host:port`.
        fingerprint: SHA-256 of the root certificate that boxes are to trust.
        setup_token: of the first owner's link; good once.
    """

    api: str
    boxes: str
    fingerprint: str
    setup_token: str


class HubProcess:
    """A hub that was started. Made by `hub_process`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.pid = process.pid
        self.log = log
        self._process = process

    async def ready(self) -> Addresses:
        """Wait until everything of it runs.

        Raises:
            NotReadyError: it ended or takes too long.
        """
        deadline = asyncio.get_running_loop().time() + READY_S
        while READY not in (said := self._said()).splitlines():
            if self._process.returncode is not None:
                code = self._process.returncode
                raise NotReadyError(
                    f"the hub ended with code {code} at its start{self.last_lines()}"
                )
            if asyncio.get_running_loop().time() > deadline:
                raise NotReadyError(
                    f"the hub was not ready within {READY_S:.0f} s{self.last_lines()}"
                )
            await asyncio.sleep(LOOK_EVERY_S)
        found = {name: re.search(what, said, re.MULTILINE) for name, what in _SAID.items()}
        missing = [name for name, match in found.items() if match is None]
        if missing:
            raise NotReadyError(f"the hub did not say its {', '.join(missing)}{self.last_lines()}")
        return Addresses(**{name: match[1] for name, match in found.items() if match})

    def last_lines(self) -> str:
        """Return the end of the log, to be put after a message."""
        lines = self._said().splitlines()[-SHOWN_LINES:]
        return "".join(f"\n    {line}" for line in [f"{self.log}:", *lines])

    async def stop(self) -> None:
        """Have it stop everything that it started, and wait for that. Idempotent.

        Raises:
            HubError: it had to be killed.
        """
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise HubError(f"the hub did not stop in {STOP_S:.0f} s{self.last_lines()}") from None

    def _said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


@asynccontextmanager
async def hub_process(folder: Path) -> AsyncIterator[HubProcess]:
    """Have a hub run for the length of the block; it is not ready yet when the block begins.

    Args:
        folder: for its data and its log.
    """
    log = folder / LOG
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)  # it holds the link
    try:
        process = await asyncio.create_subprocess_exec(
            *(*_bound_to_this(), sys.executable, "-m", "cloud_hub"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            env=environment(folder / DATA, os.environ),
            start_new_session=True,  # Ctrl-C at a terminal is for the demonstration, which stops it
        )
    finally:
        os.close(descriptor)
    hub = HubProcess(process, log)
    try:
        yield hub
    except NotReadyError:
        raise
    except HubError as error:
        if process.returncode is None:
            raise
        raise HubError(f"{error}; the hub had ended{hub.last_lines()}") from error
    finally:
        await hub.stop()


def environment(data: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a hub that is on its own on this machine.

    Args:
        data: where it keeps everything.
        inherited: of this process; what it says of a hub is left out.
    """
    nats, mqtt, device = free_tcp_ports(3)
    settings = {
        "DATA_FOLDER": str(data.absolute()),
        "API_PORT": "0",
        "NATS_PORT": str(nats),
        "MQTT_PORT": str(mqtt),
        "DEVICE_PORT": str(device),
    }
    kept = {name: value for name, value in inherited.items() if not name.upper().startswith(PREFIX)}
    return kept | {PREFIX + name: value for name, value in settings.items()}


def free_tcp_ports(count: int) -> list[int]:
    """Return as many different ports of the loopback interface that nobody listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _bound_to_this() -> list[str]:
    # When the demonstration is killed, the hub gets SIGTERM and stops by itself (setpriv: util-linux).
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
