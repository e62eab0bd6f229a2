# SPDX-License-Identifier: Apache-2.0
"""The same line as a Trunkline transport: at the box's end it takes calls, at the callers' end it dials.

Frames that come late are played late, as a telephone's jitter buffer does; silence that waits in the queue
is skipped, so that a hiccup does not delay all that follows.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from pathlib import Path

import numpy as np
from pydantic import Field

from appliance.audio.types import Pcm, silence
from appliance.plugin import (
    FRAME_SAMPLES,
    Answered,
    BuildContext,
    DialRequest,
    Direction,
    EndCause,
    Kind,
    Leg,
    LegEnded,
    LegInfo,
    MediaFrame,
    Offer,
    Settings,
    TransportCapabilities,
    TransportHost,
    TransportStatus,
    UnavailableError,
)
from tests.benchmarks.peers.wire import FRAME_S, SILENCE, Line, dial, serve

CALLS = 256
CAPABILITIES = TransportCapabilities(outbound=True, hold=False, dtmf=False, codecs=("L16",))
_QUIET = silence(FRAME_SAMPLES)


class WireSettings(Settings):
    """Settings of the transport `wire`."""

    path: str = Field("", description="Socket at which calls arrive; empty: it only dials.")


class WireLeg:
    """One call; see `appliance.plugin.Leg`."""

    def __init__(self, transport: WireTransport, line: Line, info: LegInfo) -> None:
        self.info = info
        self.up = False
        self._transport = transport
        self._line = line
        self._out: deque[Pcm] = deque()
        self._queued = 0
        self._in: deque[bytes] = deque()
        self.reading = asyncio.get_running_loop().create_task(self._read())

    def play(self, pcm: Pcm) -> None:
        self._out.append(pcm)
        self._queued += pcm.size

    def queued(self) -> int:
        return self._queued

    def drop(self) -> int:
        dropped, self._queued = self._queued, 0
        self._out.clear()
        return dropped

    async def ring(self) -> None:
        """A socket does not ring."""

    async def answer(self) -> None:
        if not self.up:
            self.up = True
            self._transport.answered(self)

    async def reject(
        self, code: int, *, reason: str = "", retry_after_s: int | None = None
    ) -> None:
        del code, reason, retry_after_s
        await self.hang_up()

    async def hang_up(self) -> None:
        self._transport.ended(self, EndCause.LOCAL_HANGUP)
        await self._line.aclose()

    async def hold(self, held: bool) -> None:
        """There is no hold."""

    async def send_dtmf(self, digits: str, *, duration_ms: int = 160) -> None:
        """There are no digits."""

    async def transfer(self, target: str, *, replaces: Leg | None = None) -> None:
        """There is no transfer."""

    def tick(self) -> MediaFrame:
        """Exchange 20 ms with the other end."""
        sent = self._next_out()
        self._line.send(SILENCE if sent is _QUIET else sent.tobytes())
        while len(self._in) > 1 and not any(self._in[0]):
            self._in.popleft()
        heard = np.frombuffer(self._in.popleft(), np.int16) if self._in else _QUIET
        return MediaFrame(self, heard, sent)

    def _next_out(self) -> Pcm:
        if not self._queued:
            return _QUIET
        frame = np.zeros(FRAME_SAMPLES, np.int16)
        filled = 0
        while filled < FRAME_SAMPLES and self._out:
            part = self._out[0]
            used = part[: FRAME_SAMPLES - filled]
            frame[filled : filled + used.size] = used
            filled += used.size
            if used.size == part.size:
                self._out.popleft()
            else:
                self._out[0] = part[used.size :]
        self._queued -= filled
        return frame

    async def _read(self) -> None:
        while (frame := await self._line.receive()) is not None:
            self._in.append(frame)
        self._transport.ended(self, EndCause.REMOTE_HANGUP)


class WireTransport:
    """Calls over Unix sockets; see `appliance.plugin.Transport`.

    Attributes:
        late_s: how late each media tick was: what a busy machine does to the measurement itself.
    """

    capabilities = CAPABILITIES

    def __init__(self, settings: WireSettings) -> None:
        self._path = settings.path
        self._legs: dict[str, WireLeg] = {}
        self._numbers = itertools.count(1)
        self._host: TransportHost
        self._server: asyncio.Server | None = None
        self._clock: asyncio.Task[None] | None = None
        self.late_s: list[float] = []

    async def start(self, host: TransportHost) -> None:
        self._host = host
        if self._path:
            self._server = await serve(self._path, self._incoming)
        self._clock = asyncio.get_running_loop().create_task(self._tick())

    async def dial(self, request: DialRequest) -> Leg:
        try:
            line = await dial(request.target)
        except OSError as error:
            raise UnavailableError(f"nobody answers at {request.target}") from error
        leg = self._leg(line, Direction.OUTBOUND, request.target)
        asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(leg.answer()))
        return leg

    def status(self) -> TransportStatus:
        listening = (f"unix {self._path}",) if self._path else ()
        return TransportStatus(CALLS, len(self._legs), "a Unix socket", listening)

    async def aclose(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
        for leg in list(self._legs.values()):
            await leg.hang_up()
        if self._server is not None:
            self._server.close()

    def answered(self, leg: WireLeg) -> None:
        """Tell the host that a leg is up."""
        self._host.event(leg, Answered("L16"))

    def ended(self, leg: WireLeg, cause: EndCause) -> None:
        """Tell the host that a leg is gone; the first cause counts."""
        if self._legs.pop(leg.info.id, None) is not None:
            self._host.event(leg, LegEnded(cause))

    def _leg(self, line: Line, direction: Direction, called: str) -> WireLeg:
        name = f"wire-{next(self._numbers)}"
        leg = WireLeg(self, line, LegInfo(name, "wire", "", direction, "caller", called))
        self._legs[name] = leg
        return leg

    async def _incoming(self, line: Line) -> None:
        leg = self._leg(line, Direction.INBOUND, "100")
        self._host.incoming(leg)
        await leg.reading

    async def _tick(self) -> None:
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            due += FRAME_S
            await asyncio.sleep(max(0.0, due - clock()))
            self.late_s.append(clock() - due)
            self._host.media([leg.tick() for leg in self._legs.values() if leg.up])


def offer() -> Offer:
    """Return the transport as a plugin offers it."""

    def build(settings: WireSettings, context: BuildContext) -> WireTransport:
        del context
        return WireTransport(settings)

    return Offer(
        "wire", Kind.TRANSPORT, WireSettings, build, CAPABILITIES, "Calls over a Unix socket."
    )


def socket_path(folder: Path, name: str) -> str:
    """Return where an agent listens."""
    return str(folder / f"{name}.sock")
