# SPDX-License-Identifier: GPL-3.0-or-later
"""The SIP stack: one thread that owns PJSIP, from `libCreate` to `libDestroy`.

Everything that calls PJSIP runs here: callbacks (PJSIP has no worker threads of its own for
signalling), what `post` brings from the event loop, and a check every second. PJSIP receives RTP and
runs its bridge on two further threads, in C.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog

from appliance.plugin import ConfigurationError, UnavailableError
from trunkline_sip import setup
from trunkline_sip.library import Library
from trunkline_sip.media import Ticks
from trunkline_sip.settings import SipSettings
from trunkline_sip.trunks import OPEN_TRUNK, Registration, TrunkTable

if TYPE_CHECKING:
    from trunkline_sip.calls import CallControl
    from trunkline_sip.lines import Lines

log = structlog.get_logger("trunkline.sip")
T = TypeVar("T")

POLL_MS = 10
"""Longest wait for packets: a request from the event loop waits no longer than this."""
CHECK_S = 0.5
GOODBYE_S = 2.0
"""Time for BYEs and unregistrations to be answered when the transport closes."""

_one = threading.Lock()  # PJSIP keeps its state in globals: one stack a process


class StackOwner(Protocol):
    """Who hears of the stack (on the SIP thread)."""

    def invited(
        self, trunk: str | None, account: Any, call_id: int, message: str, source: str
    ) -> None:
        """An INVITE arrived; `trunk` is None when no trunk knows its source."""

    def count(self, counter: str) -> None:
        """Add one to a counter."""


class Trunk:
    """A trunk's account in PJSIP and what is known of it."""

    def __init__(self, account: Any, config: Any, registration: Registration | None) -> None:
        self.account = account
        self.config = config
        self.registration = registration
        self.qualify = ""
        self.qualify_at = 0.0


class Stack:
    """See the module's text. Made by the transport; `start` and `stop` are called off the loop."""

    def __init__(
        self,
        settings: SipSettings,
        library: Library,
        ticks: Ticks,
        table: TrunkTable,
        owner: StackOwner,
        limit: int,
    ) -> None:
        self.settings = settings
        self.library = library
        self.ticks = ticks
        self.table = table
        self.lines: Lines
        self.trunks: dict[str, Trunk] = {}
        self.listening: tuple[str, ...] = ()
        self.version = ""
        self.capacity = library.capacity
        self.calls: set[CallControl] = set()
        self._owner = owner
        self._limit = limit
        self._endpoint: Any = None
        self._writer: Any = None
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._posting = threading.Lock()
        self._gone = False
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._started: Future[None] = Future()

    # From other threads

    def start(self) -> None:
        """Start the thread and wait until calls can arrive.

        Raises:
            ConfigurationError: a port is taken, a file is wrong, or a stack runs already.
        """
        if not _one.acquire(blocking=False):
            raise ConfigurationError(
                "a SIP transport runs in this process already",
                remedy="configure several trunks in one sip transport",
            )
        self._thread = threading.Thread(target=self._run, name="sip", daemon=True)
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self._thread.join()
            raise

    def post(self, request: Callable[[], None]) -> bool:
        """Run `request` on the SIP thread, soon; False when that thread takes no more."""
        with self._posting:
            if not self._gone:
                self._posted.put(request)
            return not self._gone

    def ask(self, request: Callable[[], T]) -> Future[T]:
        """Run `request` on the SIP thread; its result, or `UnavailableError`, comes by the future."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(request())
            except self.library.pj.Error as error:
                future.set_exception(UnavailableError(f"SIP: {error.reason}"))
            except Exception as error:
                future.set_exception(error)

        if not self.post(run):
            future.set_exception(UnavailableError("the SIP transport is closed"))
        return future

    def stop(self) -> None:
        """End all calls, unregister, end the thread."""
        self._stopping = True
        if self._thread is not None:
            self._thread.join()

    # The thread

    def _run(self) -> None:
        try:
            self._open()
        except BaseException as error:
            self._close()
            _one.release()
            self._started.set_exception(self._explained(error))
            return
        self._started.set_result(None)
        try:
            self._serve(lambda: not self._stopping)
            self._say_goodbye()
        finally:
            self._close()
            _one.release()

    def _say_goodbye(self) -> None:
        """Hang up and unregister, and give both a little time to be answered."""
        for control in list(self.calls):
            self._try(control.hang_up)
        registered = [
            t for t in self.trunks.values() if t.registration and t.registration.registered
        ]
        for trunk in registered:
            self._try(lambda t=trunk: t.account.setRegistration(False))  # type: ignore[misc]
        until = time.monotonic() + GOODBYE_S
        self._serve(
            lambda: (
                time.monotonic() < until
                and (
                    bool(self.calls)
                    or any(t.registration and t.registration.registered for t in registered)
                )
            )
        )

    def _explained(self, error: BaseException) -> BaseException:
        if isinstance(error, self.library.pj.Error):
            return ConfigurationError(f"the SIP stack does not start: {error.reason}")
        return error

    def _serve(self, going: Callable[[], bool]) -> None:
        next_check = 0.0
        while going():
            self._try(self._poll)
            self._run_posted()
            now = time.monotonic()
            if now >= next_check:
                next_check = now + CHECK_S
                self._check(now)

    def _run_posted(self) -> None:
        while not self._posted.empty():
            self._try(self._posted.get())

    def _poll(self) -> None:
        self._endpoint.libHandleEvents(POLL_MS)

    def _try(self, request: Callable[[], None]) -> None:
        try:
            request()
        except Exception as error:
            reason = error.reason if isinstance(error, self.library.pj.Error) else str(error)
            log.warning("sip_request_failed", reason=reason, exc_info=not reason)

    def _check(self, now: float) -> None:
        for control in list(self.calls):
            self._try(lambda c=control: c.check(now, self.settings.media_timeout_s))  # type: ignore[misc]
        for name, trunk in self.trunks.items():
            if trunk.registration is not None and trunk.registration.due(now):
                self._try(lambda n=name: setup.register(self, n, now))  # type: ignore[misc]
            every = self.settings.trunks[name].qualify_s if name in self.settings.trunks else 0
            if every and now >= trunk.qualify_at:
                trunk.qualify_at = now + every
                self._try(lambda n=name: setup.qualify(self, n))  # type: ignore[misc]

    def _open(self) -> None:
        from trunkline_sip import directors  # noqa: PLC0415  after the library was chosen
        from trunkline_sip.lines import Lines  # noqa: PLC0415

        endpoint = self._endpoint = directors.Endpoint(self)
        self.library.quiet()
        endpoint.libCreate()
        self._writer = directors.Writer(self)
        config = setup.endpoint_config(self.library, self.settings, self._writer)
        self._writer.__disown__()
        endpoint.libInit(config)
        self.version = endpoint.libVersion().full
        self.listening = setup.listen(self.library.pj, endpoint, self.settings)
        endpoint.libStart()
        endpoint.audDevManager().setNullDev()
        setup.choose_codecs(self.library.pj, endpoint, self.settings)
        self.lines = Lines(self.library.pj, self.ticks, self._limit)
        setup.open_trunks(self)

    def _close(self) -> None:
        pj = self.library.pj
        for trunk in self.trunks.values():
            self._try(trunk.account.shutdown)
        for control in list(self.calls):
            self.forget(control)
        self._run_posted()
        with self._posting:
            self._gone = True
        self._run_posted()
        if hasattr(self, "lines"):
            self.lines.close()
        if self._endpoint is not None:
            # No waiting for answers to what it sends at last: `_say_goodbye` waited for ours.
            self._try(lambda: self._endpoint.libDestroy(pj.PJSUA_DESTROY_NO_RX_MSG))
            pj.Endpoint.__swig_destroy__(self._endpoint)
            self._endpoint = None
        self.trunks.clear()

    def forget(self, control: CallControl) -> None:
        """A call is over: take its line back and delete it once its callback has returned."""
        if control not in self.calls:
            return
        self.calls.discard(control)
        call, control.call = control.call, None
        if call is not None:
            call.silence()
            self.post(lambda: self.library.pj.Call.__swig_destroy__(call))
        if control.line is not None:
            self.lines.give_back(control.line)

    def header(self, name: str, value: str) -> Any:
        """Return a SIP header."""
        made = self.library.pj.SipHeader()
        made.hName, made.hValue = name, value
        return made

    # Callbacks of directors.EndpointEvents

    def incoming(self, account: str, call_id: int, message: str, source: str) -> None:
        """An INVITE arrived at an account."""
        trunk = setup.trunk_of(self.table, message, source)
        self._owner.invited(trunk, self.trunks[trunk or account].account, call_id, message, source)

    def choose_account(self, message: str, source: str) -> int | None:
        """Return the account of the trunk that a request belongs to."""
        name = setup.trunk_of(self.table, message, source)
        return int(self.trunks[name].account.getId()) if name in self.trunks else None

    def registration(self, account: str, code: int, reason: str, expires_s: int) -> None:
        """A registrar answered, or did not."""
        state = self.trunks[account].registration if account in self.trunks else None
        if state is None:
            return
        before = (state.registered, state.detail)
        state.result(code, reason, expires_s, time.monotonic())
        if (state.registered, state.detail) != before:
            say = log.info if state.registered else log.warning
            say("sip_registration", trunk=account, registered=state.registered, detail=state.detail)

    def qualified(self, account: str, code: int) -> None:
        """An OPTIONS was answered (408: was not)."""
        if account in self.trunks:
            self.trunks[account].qualify = (
                "does not answer OPTIONS" if code == 408 else f"answers OPTIONS ({code})"
            )

    def refused_by_library(self, code: int) -> None:
        """PJSIP refused an INVITE before anyone was asked: no room, or nothing to agree on."""
        self._owner.count("rejected_capacity" if code == 486 else "rejected_library")

    def library_log(self, level: int, text: str) -> None:
        """PJSIP logs a line. It counts broken packets there and nowhere else."""
        if "syntax error" in text or "Error processing" in text:
            self._owner.count("malformed")
            return
        say = {1: log.error, 2: log.warning, 3: log.info}.get(level, log.debug)
        say("pjsip", text=text.strip())


__all__ = ["OPEN_TRUNK", "Stack", "StackOwner", "Trunk"]
