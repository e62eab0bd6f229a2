# SPDX-License-Identifier: GPL-3.0-or-later
"""A call leg as the core holds it. Lives on the event loop; requests go to the SIP thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from appliance.plugin import InvalidRequestError, Leg, LegEvent, LegInfo, Pcm

if TYPE_CHECKING:
    from trunkline_sip.calls import CallControl
    from trunkline_sip.media import Line

LEAVE_TICKS = 500
"""A leg that waits for its queue to play leaves anyway after this (10 s): a held one never plays."""


class SipLeg:
    """See the contract `appliance.plugin.Leg`.

    Attributes:
        line: its audio. After the end it may serve another leg, so `ended` guards every use.
        leaving: it hangs up when its queue has played.
    """

    def __init__(
        self, info: LegInfo, line: Line, ask: Callable[[Callable[[], None]], Future[None]]
    ) -> None:
        self.info = info
        self.line = line
        self.control: CallControl
        self.ended = False
        self.leaving = False
        self._ask = ask
        self._patience = LEAVE_TICKS
        self._kept: list[LegEvent] | None = []

    def with_protocol_id(self, protocol_id: str) -> LegInfo:
        """Return the leg's facts with the Call-ID, which an outbound call has only once placed."""
        return replace(self.info, protocol_id=protocol_id)

    def keep(self, event: LegEvent) -> bool:
        """Keep an event back until `release`; False when it was released already."""
        if self._kept is None:
            return False
        self._kept.append(event)
        return True

    def release(self) -> list[LegEvent]:
        """Return the events kept back; from now on none is."""
        kept, self._kept = self._kept or [], None
        return kept

    # Audio

    def play(self, pcm: Pcm) -> None:  # noqa: D102
        if not self.ended and not self.leaving:
            self.line.play(pcm)

    def queued(self) -> int:  # noqa: D102
        return 0 if self.ended else self.line.queued()

    def drop(self) -> int:  # noqa: D102
        return 0 if self.ended else self.line.drop()

    # Requests

    async def _do(self, request: Callable[[CallControl], None]) -> None:
        control = self.control

        def run() -> None:
            if not control.ended:
                request(control)

        if not self.ended:
            await asyncio.wrap_future(self._ask(run))

    async def ring(self) -> None:  # noqa: D102
        await self._do(lambda control: control.ring())

    async def answer(self) -> None:  # noqa: D102
        await self._do(lambda control: control.answer())

    async def reject(  # noqa: D102
        self, code: int, *, reason: str = "", retry_after_s: int | None = None
    ) -> None:
        if not 400 <= code <= 699:
            raise InvalidRequestError(f"a call is refused with a status of 400 to 699, not {code}")
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        await self._do(lambda control: control.reject(code, reason, headers))

    async def hang_up(self) -> None:  # noqa: D102
        if self.queued() and self.control.flowing():
            self.leaving = True
            return
        await self._do(lambda control: control.hang_up())

    def leave_when_played(self) -> None:
        """Once a tick while `leaving`: hang up when the queue is empty."""
        self._patience -= 1
        if not self.ended and (not self.queued() or self._patience <= 0):
            self.leaving = False
            self._patience = LEAVE_TICKS
            self._ask(partial(self._hang_up_now, self.control))

    @staticmethod
    def _hang_up_now(control: CallControl) -> None:
        if not control.ended:
            control.hang_up()

    async def hold(self, held: bool) -> None:  # noqa: D102
        await self._do(lambda control: control.hold(held))

    async def send_dtmf(self, digits: str, *, duration_ms: int = 160) -> None:  # noqa: D102
        if not digits or set(digits.upper()) - set("0123456789*#ABCD"):
            raise InvalidRequestError(f"`{digits}` has characters that are no DTMF digits")
        await self._do(lambda control: control.send_dtmf(digits.upper(), duration_ms))

    async def transfer(self, target: str, *, replaces: Leg | None = None) -> None:  # noqa: D102
        other = replaces.control if isinstance(replaces, SipLeg) else None
        if replaces is not None and other is None:
            raise InvalidRequestError("only a SIP leg can replace a SIP leg")
        await self._do(lambda control: control.transfer(self.info.trunk, target, other))
