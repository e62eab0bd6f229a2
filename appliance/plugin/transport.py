# SPDX-License-Identifier: Apache-2.0
"""Contract of a transport: what brings calls to the box (SIP, WebRTC, carrier WebSocket).

A transport turns its protocol into *legs*. It calls its host on the event loop's thread only, never
blocks there, and delivers media once per 20 ms tick for all legs together, so that the core can score
voice activity in one batch and keep exact media time:

    every 20 ms:  host.media([MediaFrame(leg, heard, sent), ...])   one entry for each leg that is up

`heard` is what came from the far end in that tick (silence when nothing did, or while on hold);
`sent` is what the wire took from the playout queue in the same tick (silence when it was empty).
So a recording of both is aligned, and playout position is counted, not guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

from appliance.plugin.speech import SAMPLE_RATE, Pcm

FRAME_MS = 20
FRAME_SAMPLES = SAMPLE_RATE * FRAME_MS // 1000
"""Samples of one media frame (320 at 16 kHz)."""


class Direction(StrEnum):
    """Who placed the call, seen from the box."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class EndCause(StrEnum):
    """Why a leg ended."""

    LOCAL_HANGUP = "local_hangup"
    REMOTE_HANGUP = "remote_hangup"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    MEDIA_TIMEOUT = "media_timeout"
    TRANSFERRED = "transferred"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class LegInfo:
    """Facts of a leg that never change.

    Attributes:
        id: unique on this box.
        transport: offer id of the transport.
        trunk: name of the configured trunk it came by.
        remote: address of the far party (`sip:4711@pbx`), without credentials.
        called: the number or user that was dialled: it picks the agent.
        protocol_id: the protocol's own call identifier (SIP Call-ID), for correlation.
        headers: protocol headers that the trunk's settings let through.
    """

    id: str
    transport: str
    trunk: str
    direction: Direction
    remote: str
    called: str
    remote_name: str = ""
    protocol_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answered:
    """Media flows from here. `codec` by its RTP name (`PCMU`, `PCMA`, `G722`, `opus`)."""

    codec: str


@dataclass(frozen=True, slots=True)
class Ringing:
    """An outbound leg rings at the far end; `early_media` when audio already flows."""

    early_media: bool = False


@dataclass(frozen=True, slots=True)
class HoldChanged:
    """The far end put the leg on hold, or took it off."""

    held: bool


@dataclass(frozen=True, slots=True)
class DtmfReceived:
    """A digit (`0-9*#A-D`) by RFC 4733, SIP INFO or in-band tone."""

    digit: str
    duration_ms: int
    method: str = "rfc4733"


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """The far end reports on a transfer that the box asked for (RFC 3515 NOTIFY)."""

    status: int
    final: bool


@dataclass(frozen=True, slots=True)
class LegEnded:
    """The leg is gone; nothing follows. `code` is the SIP status where there is one."""

    cause: EndCause
    code: int = 0
    reason: str = ""


LegEvent: TypeAlias = Answered | Ringing | HoldChanged | DtmfReceived | TransferProgress | LegEnded


class Leg(Protocol):
    """One call leg. Methods are called on the event loop's thread.

    Every coroutine returns when the protocol layer took the request; the outcome comes as an event.
    On a leg that has ended all of them do nothing.
    """

    info: LegInfo

    def play(self, pcm: Pcm) -> None:
        """Append audio (16 kHz) to the playout queue. The core keeps it at most 60 ms full."""

    def queued(self) -> int:
        """Samples given to `play` and not yet taken by the wire."""
        ...

    def drop(self) -> int:
        """Discard the queued samples, at once; return how many they were."""
        ...

    async def ring(self) -> None:
        """Tell an inbound caller that it rings (SIP 180)."""

    async def answer(self) -> None:
        """Accept an inbound leg."""

    async def reject(
        self, code: int, *, reason: str = "", retry_after_s: int | None = None
    ) -> None:
        """Refuse an inbound leg (SIP 4xx-6xx; 486 and 503 may carry Retry-After, RFC 3261 20.33)."""

    async def hang_up(self) -> None:
        """End the leg, after the queued audio when it is up."""

    async def hold(self, held: bool) -> None:
        """Put the far end on hold or take it off (RFC 3264 8.4)."""

    async def send_dtmf(self, digits: str, *, duration_ms: int = 160) -> None:
        """Send digits by RFC 4733."""

    async def transfer(self, target: str, *, replaces: Leg | None = None) -> None:
        """Refer the far end to `target` (RFC 3515), or to the far end of `replaces` (RFC 3891)."""


@dataclass(frozen=True, slots=True)
class MediaFrame:
    """20 ms of one leg, both directions: arrays of shape (FRAME_SAMPLES,), valid during the call
    of `media` only (copy what you keep).
    """

    leg: Leg
    heard: Pcm
    sent: Pcm


class TransportHost(Protocol):
    """What a transport calls. All on the event loop's thread; none of them blocks."""

    def incoming(self, leg: Leg) -> None:
        """A new inbound leg asks to be answered; nothing was sent to the caller yet but 100."""

    def media(self, frames: Sequence[MediaFrame]) -> None:
        """One media tick of all legs that are up. Called every 20 ms, also with no legs."""

    def event(self, leg: Leg, event: LegEvent) -> None:
        """Something happened to a leg."""


@dataclass(frozen=True, slots=True)
class TrunkStatus:
    """State of one trunk: `registered` is None for a trunk that does not register."""

    name: str
    registered: bool | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TransportStatus:
    """For `doctor`, the admin page and admission.

    Attributes:
        capacity: calls that the library can hold at once.
        calls: legs that exist now.
        library: name and version of what does the protocol work.
        listening: addresses that accept calls (`udp 0.0.0.0:5060`).
        counters: protocol counters (`malformed`, `rejected_capacity`, `frames_late`, ...).
    """

    capacity: int
    calls: int
    library: str
    listening: tuple[str, ...] = ()
    trunks: tuple[TrunkStatus, ...] = ()
    counters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DialRequest:
    """An outbound call wanted. `target` is what the trunk dials (`sip:100@10.0.0.5` or a number)."""

    target: str
    trunk: str = ""
    caller_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TransportCapabilities:
    """What a transport can do beyond answering a call."""

    outbound: bool = True
    hold: bool = True
    transfer: bool = False
    dtmf: bool = True
    codecs: tuple[str, ...] = ()


class Transport(Protocol):
    """Brings calls. One object a configured transport."""

    capabilities: TransportCapabilities

    async def start(self, host: TransportHost) -> None:
        """Bind, register, and begin to deliver. Returns when calls can arrive.

        Raises:
            ConfigurationError: a port is taken or a trunk's settings cannot work.
        """

    async def dial(self, request: DialRequest) -> Leg:
        """Place an outbound call; events tell how it goes.

        Raises:
            UnavailableError: no line is free.
            InvalidRequestError: the target cannot be dialled.
        """
        ...

    def status(self) -> TransportStatus:
        """Return a snapshot; cheap, does no I/O."""
        ...

    async def aclose(self) -> None:
        """End all legs, unregister, release sockets and threads. Idempotent."""
