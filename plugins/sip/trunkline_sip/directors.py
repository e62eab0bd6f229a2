# SPDX-License-Identifier: GPL-3.0-or-later
"""Our subclasses of pjsua2's classes: each callback becomes one plain call, and none ever raises.

An exception that leaves a callback would unwind through C code and end the process, so every one is
caught and reported here. Objects of these classes are used and deleted on the SIP thread only.

Imported after `library.load`, which decides which pjsua2 it is.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any, Protocol

import pjsua2 as pj  # type: ignore[import-untyped,import-not-found,unused-ignore]
import structlog

from trunkline_sip.calls import DigitPart
from trunkline_sip.media import Line, Ticks

log = structlog.get_logger("trunkline.sip")

DTMF_IS_UPDATE, DTMF_IS_END = 1, 2
"""`pjmedia_stream_dtmf_event_flags`, which the binding leaves out."""


class CallEvents(Protocol):
    """What a call tells (SIP thread)."""

    def state_changed(self) -> None:
        """The INVITE session changed its state."""

    def media_changed(self) -> None:
        """An offer and answer took effect."""

    def digit(self, part: DigitPart) -> None:
        """Part of a DTMF digit came."""

    def refer_progress(self, status: int, *, final: bool) -> None:
        """The far end tells how a transfer goes."""


class EndpointEvents(Protocol):
    """What the endpoint and its accounts tell (SIP thread)."""

    def incoming(self, account: str, call_id: int, message: str, source: str) -> None:
        """An INVITE arrived at an account."""

    def registration(self, account: str, code: int, reason: str, expires_s: int) -> None:
        """A registrar answered, or did not."""

    def qualified(self, account: str, code: int) -> None:
        """An OPTIONS was answered, or was not."""

    def choose_account(self, message: str, source: str) -> int | None:
        """Return PJSIP's number of the account that a request belongs to."""
        ...

    def refused_by_library(self, code: int) -> None:
        """PJSIP refused an INVITE by itself."""

    def library_log(self, level: int, text: str) -> None:
        """PJSIP logs a line."""


def guarded(callback: Callable[..., None]) -> Callable[..., None]:
    """Report what `callback` raises instead of letting it through."""

    @functools.wraps(callback)
    def safe(*arguments: Any) -> None:
        try:
            callback(*arguments)
        except Exception:
            log.exception("sip_callback_failed", callback=callback.__qualname__)

    return safe


class Writer(pj.LogWriter):  # type: ignore[misc]
    """PJSIP's log."""

    def __init__(self, events: EndpointEvents) -> None:
        super().__init__()
        self._events = events

    @guarded
    def write(self, entry: Any) -> None:  # noqa: D102
        self._events.library_log(entry.level, entry.msg)


class Endpoint(pj.Endpoint):  # type: ignore[misc]
    """The one SIP stack of the process."""

    def __init__(self, events: EndpointEvents) -> None:
        super().__init__()
        self._events = events

    @guarded
    def onSelectAccount(self, prm: Any) -> None:  # noqa: N802, D102
        chosen = self._events.choose_account(prm.rdata.wholeMsg, prm.rdata.srcAddress)
        if chosen is not None:
            prm.accountIndex = chosen

    @guarded
    def onRejectedIncomingCall(self, prm: Any) -> None:  # noqa: N802, D102
        self._events.refused_by_library(prm.statusCode)


class Account(pj.Account):  # type: ignore[misc]
    """One trunk."""

    def __init__(self, name: str, events: EndpointEvents) -> None:
        super().__init__()
        self._name = name
        self._events = events

    @guarded
    def onIncomingCall(self, prm: Any) -> None:  # noqa: N802, D102
        self._events.incoming(self._name, prm.callId, prm.rdata.wholeMsg, prm.rdata.srcAddress)

    @guarded
    def onRegState(self, prm: Any) -> None:  # noqa: N802, D102
        self._events.registration(self._name, prm.code, prm.reason, prm.expiration)

    @guarded
    def onSendRequest(self, prm: Any) -> None:  # noqa: N802, D102
        self._events.qualified(self._name, prm.e.body.tsxState.tsx.statusCode)


class Call(pj.Call):  # type: ignore[misc]
    """One call."""

    def __init__(self, account: Account, events: CallEvents, call_id: int | None = None) -> None:
        if call_id is None:
            super().__init__(account)
        else:
            super().__init__(account, call_id)
        self._events: CallEvents | None = events

    def silence(self) -> None:
        """Tell nothing any more."""
        self._events = None

    @guarded
    def onCallState(self, _prm: Any) -> None:  # noqa: N802, D102
        if self._events:
            self._events.state_changed()

    @guarded
    def onCallMediaState(self, _prm: Any) -> None:  # noqa: N802, D102
        if self._events:
            self._events.media_changed()

    @guarded
    def onDtmfEvent(self, prm: Any) -> None:  # noqa: N802, D102
        if self._events:
            self._events.digit(
                DigitPart(
                    digit=prm.digit,
                    duration_ms=prm.duration,
                    timestamp=prm.timestamp,
                    info=prm.method == pj.PJSUA_DTMF_METHOD_SIP_INFO,
                    begins=not prm.flags & DTMF_IS_UPDATE,
                    ends=bool(prm.flags & DTMF_IS_END),
                )
            )

    @guarded
    def onCallTransferStatus(self, prm: Any) -> None:  # noqa: N802, D102
        prm.cont = not prm.finalNotify
        if self._events:
            self._events.refer_progress(prm.statusCode, final=bool(prm.finalNotify))

    @guarded
    def onCallTransferRequest(self, prm: Any) -> None:  # noqa: N802, D102
        # PJSIP would dial whatever the far end names: a caller must not make the box place calls.
        prm.statusCode = pj.PJSIP_SC_DECLINE

    @guarded
    def onCallReplaceRequest(self, prm: Any) -> None:  # noqa: N802, D102
        prm.statusCode = pj.PJSIP_SC_DECLINE


class LinePort(pj.AudioMediaPort):  # type: ignore[misc]
    """A line's place in the bridge (media thread)."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    def onFrameRequested(self, frame: Any) -> None:  # noqa: N802, D102
        try:
            self._line.asked(frame)
        except Exception:
            log.exception("sip_media_failed", side="asked")

    def onFrameReceived(self, frame: Any) -> None:  # noqa: N802, D102
        try:
            self._line.given(frame)
        except Exception:
            log.exception("sip_media_failed", side="given")


class TailPort(pj.AudioMediaPort):  # type: ignore[misc]
    """The last port of the bridge: when it is given its frame, the tick is done (media thread)."""

    def __init__(self, ticks: Ticks) -> None:
        super().__init__()
        self._ticks = ticks
        self._pinned = False

    def onFrameReceived(self, _frame: Any) -> None:  # noqa: N802, D102
        try:
            if not self._pinned:
                self._pinned = True
                _keep_thread_state()
            self._ticks.done()
        except Exception:
            log.exception("sip_media_failed", side="tail")


class Plug(pj.AudioMediaPort):  # type: ignore[misc]
    """Holds a slot of the bridge free while the tail takes the one behind."""


def _keep_thread_state() -> None:
    """Keep the interpreter's record of PJSIP's media thread from one callback to the next.

    Each callback takes the interpreter lock by PyGILState_Ensure and gives it back by
    PyGILState_Release, which also destroys the thread's state when that was its last use; so every
    callback would make and destroy one (a quarter of the media plane's cost at 40 calls). One Ensure
    that is never released leaves the count above zero; the lock itself is still given back.
    """
    ctypes.pythonapi.PyGILState_Ensure()


def audio_format() -> Any:
    """Return the bridge's format: 16 kHz, mono, 20 ms, 16 bit."""
    made = pj.MediaFormatAudio()
    made.init(pj.PJMEDIA_FORMAT_PCM, 16_000, 1, 20_000, 16)
    return made
