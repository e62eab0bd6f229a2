# SPDX-License-Identifier: Apache-2.0
"""A telephone line without a telephone network: a Unix socket, one connection a call.

Both ends write frames of 640 bytes: 20 ms of 16 kHz mono s16le. The caller writes one every 20 ms, silence
too; the agent may leave silence out. An end hangs up by closing. Only the standard library is used, so
that agents in environments of their own can import this.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

RATE = 16_000
FRAME_S = 0.02
FRAME_BYTES = 640
SILENCE = bytes(FRAME_BYTES)


class Line:
    """One end of one call.

    Args:
        reader: what comes from the other end.
        writer: what goes to it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self) -> bytes | None:
        """Return the next frame, or None when the other end has hung up."""
        try:
            return await self._reader.readexactly(FRAME_BYTES)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def send(self, frame: bytes) -> None:
        """Send one frame now."""
        if not self._writer.is_closing():
            self._writer.write(frame)

    async def aclose(self) -> None:
        """Hang up."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class Playout:
    """The agent's loudspeaker: takes audio of any size, and the line gets a frame every 20 ms.

    It runs at most `ahead` frames before the wire, as any transport to a telephone does. What is
    cleared was not heard.

    Args:
        line: where frames go.
        ahead: frames that may be under way.
    """

    def __init__(self, line: Line, ahead: int = 1) -> None:
        self._line = line
        self._ahead = ahead * FRAME_S
        self._clock = asyncio.get_running_loop().time
        self._next = 0.0

    async def frame(self, frame: bytes) -> None:
        """Send a frame when its time has come."""
        now = self._clock()
        if self._next < now - FRAME_S:
            self._next = now
        wait = self._next - self._ahead - now
        if wait > 0:
            await asyncio.sleep(wait)
        self._line.send(frame)
        self._next += FRAME_S


async def serve(path: str, call: Callable[[Line], Awaitable[None]]) -> asyncio.Server:
    """Answer every call at `path` by `call`, which returns when it is over."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer)
        try:
            await call(line)
        finally:
            await line.aclose()

    return await asyncio.start_unix_server(connected, path)


async def dial(path: str) -> Line:
    """Call the agent at `path`.

    Raises:
        OSError: nobody is there.
    """
    reader, writer = await asyncio.open_unix_connection(path)
    return Line(reader, writer)
