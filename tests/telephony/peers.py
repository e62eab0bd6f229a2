# SPDX-License-Identifier: GPL-3.0-or-later
"""Far ends of test calls: line processes, RTP ends that can be measured, and SIPp."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from appliance.audio.g711 import decode_ulaw, encode_ulaw

LINE_HOST = Path(__file__).with_name("line_host.py")
LOOPBACK = "127.0.0.1"


async def until(condition: Callable[[], Any], timeout_s: float = 20.0, what: str = "") -> Any:
    """Poll `condition` until it holds; return its value."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what or condition}")
        await asyncio.sleep(0.01)
    return value


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """Return a port that is free now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def free_range(count: int) -> int:
    """Return the first of `count` UDP ports in a row that are free now, an even one."""
    for start in range(30000 + (os.getpid() * 64) % 20000, 60000, count + count % 2):
        probes = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
        try:
            for offset, probe in enumerate(probes):
                probe.bind((LOOPBACK, start + offset))
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
        return start + start % 2
    raise AssertionError("no free ports")


class Line:
    """A process that runs `line_host.py`: one SIP transport and a host that echoes or plays a tone."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.errors = ""
        self.port = 0
        self.started: dict[str, Any] = {}
        self._process: asyncio.subprocess.Process
        self._readers: list[asyncio.Task[None]] = []
        self._ended = False

    async def start(
        self,
        *,
        mode: str = "silent",
        answer: str = "at_once",
        library: str = "",
        **settings: Any,
    ) -> Line:
        first = free_range(200)
        defaults = {
            "bind": LOOPBACK,
            "udp_port": 0,
            "tcp_port": None,
            "rtp_port_start": first,
            "rtp_port_end": first + 199,
        }
        options = {"settings": {**defaults, **settings}, "mode": mode, "answer": answer}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(LINE_HOST),
            json.dumps(options),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **({"TRUNKLINE_PJSUA2": library} if library else {})},
            limit=1 << 28,
        )
        self._readers = [
            asyncio.create_task(self._read_events()),
            asyncio.create_task(self._read_errors()),
        ]
        self.started = await self.event("started", timeout_s=60)
        self.port = int(self.started["listening"][0].rpartition(":")[2])
        return self

    async def _read_events(self) -> None:
        assert self._process.stdout
        async for line in self._process.stdout:
            self.events.append(json.loads(line))
        self._ended = True

    async def _read_errors(self) -> None:
        assert self._process.stderr
        async for line in self._process.stderr:
            self.errors += line.decode(errors="replace")

    def _find(self, wanted: dict[str, Any]) -> dict[str, Any] | None:
        for event in self.events:
            if all(event.get(key) == value for key, value in wanted.items()):
                self.events.remove(event)
                return event
        if self._ended:
            raise AssertionError(f"the line ended while {wanted} was awaited:\n{self.errors}")
        return None

    async def event(self, name: str, timeout_s: float = 20.0, **fields: Any) -> dict[str, Any]:
        """Wait for an event, and take it."""
        wanted = {"event": name, **fields}
        try:
            found: dict[str, Any] = await until(lambda: self._find(wanted), timeout_s)
        except AssertionError as error:
            raise AssertionError(
                f"no {wanted} within {timeout_s} s; had {self.events}\n{self.errors}"
            ) from error
        return found

    async def do(self, what: str, timeout_s: float = 20.0, **fields: Any) -> dict[str, Any]:
        """Give a command and return the reply."""
        assert self._process.stdin
        self._process.stdin.write((json.dumps({"do": what, **fields}) + "\n").encode())
        found: dict[str, Any] = await until(lambda: self._find({"reply": what}), timeout_s, what)
        return found

    async def status(self) -> dict[str, Any]:
        return await self.do("status")

    async def counter(self, name: str) -> int:
        return int((await self.status())["counters"].get(name, 0))

    async def counted(self, name: str, at_least: int, timeout_s: float = 20.0) -> None:
        """Wait until a counter has reached a value."""
        deadline = time.monotonic() + timeout_s
        while (value := await self.counter(name)) < at_least:
            assert time.monotonic() < deadline, f"{name} stayed at {value}\n{self.errors}"
            await asyncio.sleep(0.05)

    async def heard(self, leg: str, loud_at_least: int, timeout_s: float = 20.0) -> dict[str, Any]:
        """Wait until a leg has heard so many loud frames."""
        deadline = time.monotonic() + timeout_s
        while (reply := await self.do("heard", leg=leg))["loud"] < loud_at_least:
            assert time.monotonic() < deadline, f"{reply}\n{self.errors}"
            await asyncio.sleep(0.05)
        return reply

    async def close(self) -> None:
        """Close it in good order; it must end with 0 and have logged no failure."""
        if self._process.returncode is None and self._process.stdin:
            self._process.stdin.close()
        try:
            code = await asyncio.wait_for(self._process.wait(), 20)
        except TimeoutError:
            self._process.kill()
            raise
        await asyncio.gather(*self._readers)
        assert code == 0, f"ended with {code}\n{self.errors}"
        for word in (
            "sip_callback_failed",
            "sip_media_failed",
            "sip_host_failed",
            "never retrieved",
        ):
            assert word not in self.errors, self.errors

    @property
    def pid(self) -> int:
        return self._process.pid


class RtpEnd(asyncio.DatagramProtocol):
    """One end of a mu-law RTP stream: sends a tone, keeps what comes with its time of arrival."""

    def __init__(self, hz: float) -> None:
        self.hz = hz
        self.port = 0
        self.packets: list[tuple[float, bytes]] = []
        self.sending: asyncio.Task[None] | None = None
        self._transport: asyncio.DatagramTransport
        self._peer: tuple[str, int] | None = None

    @classmethod
    async def open(cls, hz: float) -> RtpEnd:
        loop = asyncio.get_running_loop()
        transport, end = await loop.create_datagram_endpoint(
            lambda: cls(hz), local_addr=(LOOPBACK, 0)
        )
        end.port = transport.get_extra_info("sockname")[1]
        return end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if len(data) > 12 and data[1] & 0x7F == 0:
            self.packets.append((time.monotonic(), data))
            if self._peer is None:  # symmetric: talk to where it comes from
                self._peer = addr
                self.sending = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        samples = np.arange(8000) * (2 * np.pi * self.hz / 8000)
        second = encode_ulaw((8000 * np.sin(samples)).astype(np.int16)).tobytes()
        at, sequence = loop.time(), 0
        while True:
            start = 160 * sequence
            head = struct.pack(">BBHII", 0x80, 0, sequence & 0xFFFF, start, id(self) & 0xFFFFFFFF)
            self._transport.sendto(head + second[start % 8000 : start % 8000 + 160], self._peer)
            sequence += 1
            at += 0.02
            await asyncio.sleep(max(0.0, at - loop.time()))

    def audio(self) -> NDArray[np.int16]:
        """Return what came, decoded, at 8 kHz, in order of arrival."""
        payload = b"".join(data[12:] for _, data in self.packets)
        return decode_ulaw(np.frombuffer(payload, np.uint8))

    async def close(self) -> None:
        if self.sending:
            self.sending.cancel()
            await asyncio.gather(self.sending, return_exceptions=True)
        self._transport.close()


def strongest_hz(pcm: NDArray[np.int16], rate: int) -> float:
    """Return the frequency with the most energy."""
    power = np.abs(np.fft.rfft(pcm * np.hanning(pcm.size)))
    return float(np.argmax(power) * rate / pcm.size)
