# SPDX-License-Identifier: GPL-3.0-or-later
"""The SIP transport: brings calls from PJSIP's threads to the host's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import uuid
from collections import Counter
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from appliance.plugin import (
    Answered,
    ConfigurationError,
    DialRequest,
    Direction,
    InvalidRequestError,
    Leg,
    LegEnded,
    LegEvent,
    LegInfo,
    Ringing,
    TransportCapabilities,
    TransportHost,
    TransportStatus,
    TrunkStatus,
    UnavailableError,
)
from trunkline_sip import CAPABILITIES, messages, setup
from trunkline_sip.calls import CallControl
from trunkline_sip.leg import SipLeg
from trunkline_sip.library import Library
from trunkline_sip.media import Ticks
from trunkline_sip.settings import SipSettings, TrunkSettings
from trunkline_sip.stack import Stack
from trunkline_sip.trunks import TrunkTable, server_hosts

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger("trunkline.sip")
T = TypeVar("T")

RESOLVE_S = 300.0
"""How often the names of registrars and peers are looked up again."""


class SipTransport:
    """See the contract `appliance.plugin.Transport`. One a process: PJSIP keeps global state."""

    capabilities: TransportCapabilities = CAPABILITIES

    def __init__(self, settings: SipSettings, library: Library) -> None:
        self._settings = settings
        self._library = library
        self._table = TrunkTable(settings.trunks)
        self._limit = min(settings.max_calls or library.capacity, library.capacity)
        self._counters: Counter[str] = Counter()
        self._legs: set[SipLeg] = set()
        self._up: list[SipLeg] = []
        self._host: TransportHost | None = None
        self._stack: Stack | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._resolver: asyncio.Task[None] | None = None

    # Contract

    async def start(self, host: TransportHost) -> None:  # noqa: D102
        if self._stack is not None:
            raise ConfigurationError("the SIP transport is started already")
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._ticks = Ticks(lambda: self._soon(self._ticks.run), self._tick)
        await self._resolve()
        stack = Stack(self._settings, self._library, self._ticks, self._table, self, self._limit)
        self._stack = stack  # calls may come before `start` returns
        try:
            await asyncio.to_thread(stack.start)
        except BaseException:
            self._stack = None
            raise
        self._resolver = asyncio.create_task(self._resolve_again(), name="sip-resolver")
        log.info(
            "sip_started",
            library=stack.version,
            capacity=stack.capacity,
            listening=stack.listening,
            trunks=list(self._settings.trunks),
        )

    async def dial(self, request: DialRequest) -> Leg:  # noqa: D102
        stack = self._running()
        name = request.trunk or next(iter(stack.trunks))
        if name not in stack.trunks:
            raise InvalidRequestError(f"no trunk `{name}`", remedy="see `trunks` in the settings")
        leg = await self._ask(lambda: self._place(stack, name, request))
        self._legs.add(leg)
        # What happened meanwhile was kept back, so that the caller has its leg before its events.
        for event in leg.release():
            self._loop_running().call_soon(self._event, leg, event)
        return leg

    def status(self) -> TransportStatus:  # noqa: D102
        stack = self._stack
        counters = dict(self._counters)
        if stack is not None:
            counters["frames_late"] = self._ticks.late
            counters["frames_lost"] = self._ticks.lost
        return TransportStatus(
            capacity=self._limit,
            calls=len(self._legs),
            library=f"PJSIP {stack.version}" if stack else "PJSIP",
            listening=stack.listening if stack else (),
            trunks=tuple(self._trunk_status(stack)) if stack else (),
            counters=counters,
        )

    async def aclose(self) -> None:  # noqa: D102
        stack, self._stack = self._stack, None
        if stack is None:
            return
        if self._resolver is not None:
            self._resolver.cancel()
            await asyncio.gather(self._resolver, return_exceptions=True)
        await asyncio.to_thread(stack.stop)
        await asyncio.sleep(0)  # events that the SIP thread left behind

    # Status

    def _trunk_status(self, stack: Stack) -> list[TrunkStatus]:
        made = []
        for name, trunk in list(stack.trunks.items()):
            state = trunk.registration
            parts = [state.detail if state else "", trunk.qualify]
            made.append(
                TrunkStatus(
                    name, state.registered if state else None, "; ".join(p for p in parts if p)
                )
            )
        return made

    def count(self, counter: str) -> None:
        """Add one to a counter (any thread: the interpreter lock covers it)."""
        self._counters[counter] += 1

    # Names to addresses

    async def _resolve(self) -> None:
        loop = asyncio.get_running_loop()
        for name, trunk in self._settings.trunks.items():
            found: set[str] = set()
            for host in server_hosts(trunk):
                try:
                    found.add(str(ipaddress.ip_address(host)))
                    continue
                except ValueError:
                    pass
                try:
                    found |= {str(info[4][0]) for info in await loop.getaddrinfo(host, None)}
                except OSError as error:
                    log.warning("sip_name_unknown", trunk=name, host=host, reason=str(error))
            if found:
                self._table.set_servers(name, found)

    async def _resolve_again(self) -> None:
        while True:
            await asyncio.sleep(RESOLVE_S)
            await self._resolve()

    # Calls, on the SIP thread

    def invited(
        self, trunk: str | None, account: Any, call_id: int, message: str, source: str
    ) -> None:
        """An INVITE arrived: refuse it, or make a leg of it."""
        stack = self._running()
        if trunk is None:
            self.count("rejected_unknown_source")
            log.warning("sip_unknown_source", source=source)
            self._refuse(stack, account, call_id, 403, {})
            return
        if len(stack.calls) >= self._limit:
            self.count("rejected_capacity")
            retry = {"Retry-After": str(self._settings.retry_after_s)}
            self._refuse(stack, account, call_id, self._settings.full_code, retry)
            return
        self.count("calls_in")
        leg, _ = self._make(stack, self._facts(trunk, message), account, call_id)
        leg.release()
        self._soon(self._incoming, leg)

    def _facts(self, trunk: str, message: str) -> LegInfo:
        settings = self._settings.trunks.get(trunk, TrunkSettings())
        by_to = settings.called_from == "to"
        dialled = messages.header(message, "To") if by_to else messages.request_uri(message)
        from_header = messages.header(message, "From")
        return LegInfo(
            id=uuid.uuid4().hex,
            transport="sip",
            trunk=trunk,
            direction=Direction.INBOUND,
            remote=messages.bare(from_header),
            called=messages.user(dialled),
            remote_name=messages.display_name(from_header),
            protocol_id=messages.header(message, "Call-ID"),
            headers=messages.headers(message, settings.pass_headers),
        )

    @staticmethod
    def _refuse(
        stack: Stack, account: Any, call_id: int, code: int, headers: dict[str, str]
    ) -> None:
        """Refuse an INVITE for which there will be no leg."""
        from trunkline_sip import directors  # noqa: PLC0415  after the library was chosen

        control = CallControl(stack, Direction.INBOUND, None, lambda _: None)
        control.call = directors.Call(account, control, call_id)
        stack.calls.add(control)
        control.reject(code, "", headers)

    def _make(
        self, stack: Stack, info: LegInfo, account: Any, call_id: int | None
    ) -> tuple[SipLeg, CallControl]:
        from trunkline_sip import directors  # noqa: PLC0415  after the library was chosen

        line = stack.lines.take()
        leg = SipLeg(info, line, self._ask_or_ended)
        line.begin(leg)
        control = CallControl(stack, info.direction, line, partial(self._told, leg))
        leg.control = control
        control.call = directors.Call(account, control, call_id)
        stack.calls.add(control)
        return leg, control

    def _place(self, stack: Stack, name: str, request: DialRequest) -> SipLeg:
        try:
            uri = setup.target_uri(stack, name, request.target)
        except ValueError as error:
            raise InvalidRequestError(str(error)) from None
        if len(stack.calls) >= self._limit:
            self.count("dial_capacity")
            raise UnavailableError("no line is free")
        info = LegInfo(
            id=uuid.uuid4().hex,
            transport="sip",
            trunk=name,
            direction=Direction.OUTBOUND,
            remote=messages.bare(uri),
            called=messages.user(uri),
        )
        leg, control = self._make(stack, info, stack.trunks[name].account, None)
        try:
            control.dial(uri, self._caller(stack, name, request), request.headers)
        except self._library.pj.Error as error:
            control.ended = True
            stack.forget(control)
            raise InvalidRequestError(f"cannot dial {uri}: {error.reason}") from None
        self.count("calls_out")
        leg.info = leg.with_protocol_id(control.call_id())
        return leg

    def _caller(self, stack: Stack, name: str, request: DialRequest) -> str:
        """Return the From address of a call out, or "" for the account's own."""
        settings = self._settings.trunks.get(name, TrunkSettings())
        user = request.caller_id or settings.caller_id
        if not user:
            return ""
        if user.startswith("sip:"):
            return user
        return f"sip:{user}@{messages.host(stack.trunks[name].config.idUri)}"

    def _told(self, leg: SipLeg, event: LegEvent) -> None:
        self._soon(self._event, leg, event)

    # Calls, on the event loop

    def _incoming(self, leg: SipLeg) -> None:
        self._legs.add(leg)
        if leg.ended or self._host is None:
            return
        try:
            self._host.incoming(leg)
        except Exception:
            log.exception("sip_host_failed", leg=leg.info.id)
            self._ask_or_ended(partial(leg.control.reject, 500, "", {}))

    def _event(self, leg: SipLeg, event: LegEvent) -> None:
        if leg.keep(event):
            return
        self._legs.add(leg)
        if (
            isinstance(event, Answered) or event == Ringing(early_media=True)
        ) and leg not in self._up:
            self._up.append(leg)
        if isinstance(event, LegEnded):
            self._ended(leg)
        if self._host is None:
            return
        try:
            self._host.event(leg, event)
        except Exception:
            log.exception("sip_host_failed", leg=leg.info.id, sip_event=type(event).__name__)

    def _ended(self, leg: SipLeg) -> None:
        leg.ended = True
        self._legs.discard(leg)
        if leg in self._up:
            self._up.remove(leg)

    def _tick(self, tick: int) -> None:
        if self._host is None:
            return
        self._host.media([leg.line.media_frame(tick) for leg in self._up])
        for leg in self._up:
            if leg.leaving:
                leg.leave_when_played()

    # Between the threads

    def _running(self) -> Stack:
        if self._stack is None:
            raise UnavailableError("the SIP transport is not started")
        return self._stack

    def _loop_running(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None
        return self._loop

    def _soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop_running().call_soon_threadsafe(callback, *arguments)

    async def _ask(self, request: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._running().ask(request))

    def _ask_or_ended(self, request: Callable[[], None]) -> Future[None]:
        """Ask for something of a leg; once the transport is closed its legs have ended: no effect."""
        if self._stack is not None:
            return self._stack.ask(request)
        done: Future[None] = Future()
        done.set_result(None)
        return done
