# SPDX-License-Identifier: Apache-2.0
"""The network between boxes and broker, as bad as it is told to be: a TCP proxy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Literal

State = Literal["good", "cut", "still", "deaf", "mute", "slow"]
"""How the network is.

    good    all is forwarded
    cut     connections end, new ones are refused
    still   nothing moves; it waits, and arrives when the network is good again
    deaf    what the broker sends vanishes; connections end with this state
    mute    what the boxes send vanishes; likewise
    slow    all is forwarded after `SLOW_S`
"""

SLOW_S = 0.3
PIECE = 65536


class Network:
    """Forwards what comes to `port` to one of the servers that listens; a load balancer, too.

    Args:
        ports: of the servers, on the loopback.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = list(ports)
        self._server: asyncio.Server | None = None
        self._state: State = "good"
        self._changed = asyncio.Condition()
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.swallowed = 0
        """Bytes that vanished."""

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End all connections."""
        if self._server is not None:
            self._server.close()
            self._end_all()
            await self._server.wait_closed()

    async def become(self, state: State) -> None:
        """Change how the network is."""
        lossy = self._state in {"deaf", "mute"} or state == "cut"
        async with self._changed:
            self._state = state
            self._changed.notify_all()
        if lossy:  # a stream with a hole in it is of no use to anybody
            self._end_all()

    def _end_all(self) -> None:
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = None if self._state == "cut" else await self._upstream()
        if upstream is None:
            writer.transport.abort()
            return
        theirs, ours = upstream
        self._open |= {writer, ours}
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.wait(
                [
                    asyncio.create_task(self._forward(reader, ours, "mute")),
                    asyncio.create_task(self._forward(theirs, writer, "deaf")),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        for each in (writer, ours):
            each.transport.abort()
            self._open.discard(each)

    async def _upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        self._ports.append(self._ports.pop(0))
        for port in self._ports:
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        return None

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost_when: State
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE):
                if self._state == "slow":
                    await asyncio.sleep(SLOW_S)
                async with self._changed:
                    await self._changed.wait_for(lambda: self._state != "still")
                if self._state == lost_when:
                    self.swallowed += len(piece)
                    continue
                writer.write(piece)
                await writer.drain()
