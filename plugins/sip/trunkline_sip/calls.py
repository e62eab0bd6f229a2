# SPDX-License-Identifier: GPL-3.0-or-later
"""One call as PJSIP sees it: turns its callbacks into leg events. Lives on the SIP thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from appliance.plugin import (
    Answered,
    Direction,
    DtmfReceived,
    EndCause,
    HoldChanged,
    InvalidRequestError,
    LegEnded,
    LegEvent,
    Ringing,
    TransferProgress,
)
from trunkline_sip import messages, setup

if TYPE_CHECKING:
    from trunkline_sip.media import Line
    from trunkline_sip.stack import Stack

log = structlog.get_logger("trunkline.sip")

DIGIT_MAX_S = 1.0
"""A digit whose end packets were lost counts as ended after this."""


def end_cause(direction: Direction, code: int, *, answered: bool) -> EndCause:
    """Return why a leg ended that we did not end ourselves, from its last SIP status."""
    if answered:
        return EndCause.REMOTE_HANGUP
    if direction is Direction.INBOUND:
        return EndCause.CANCELLED
    if code in {486, 600}:
        return EndCause.BUSY
    if code in {408, 480, 487}:
        return EndCause.NO_ANSWER
    return EndCause.FAILED if code // 100 in {0, 2, 3, 5} else EndCause.REJECTED


@dataclass(frozen=True, slots=True)
class DigitPart:
    """What one RFC 4733 packet, or one SIP INFO, says of a DTMF digit.

    Attributes:
        timestamp: RTP time of the digit's begin: the same in all packets of one digit.
        begins: PJSIP has not told of this digit before.
        ends: the duration is final.
    """

    digit: str
    duration_ms: int
    timestamp: int
    info: bool
    begins: bool
    ends: bool


class CallControl:
    """State of one call, and the requests that change it."""

    def __init__(
        self,
        stack: Stack,
        direction: Direction,
        line: Line | None,
        tell: Callable[[LegEvent], None],
    ) -> None:
        self._stack = stack
        self._pj = stack.library.pj
        self._direction = direction
        self.line = line
        self._tell = tell
        self.call: Any = None
        self.ended = False
        self._confirmed = False
        self._answered = False
        self._early = False
        self._media_index = -1
        self._active = False
        self._held = False
        self._holding = False
        self._referred = False
        self._cause: EndCause | None = None
        self._received = 0
        self._received_at = 0.0
        self._digit = ""
        self._digit_at = 0.0
        self._digit_stamp = -1

    # Callbacks

    def state_changed(self) -> None:
        """The INVITE session changed its state."""
        info = self.call.getInfo()
        state = info.state
        if state == self._pj.PJSIP_INV_STATE_EARLY and self._direction is Direction.OUTBOUND:
            self._tell(Ringing(early_media=self._active))
        elif state == self._pj.PJSIP_INV_STATE_CONFIRMED:
            self._confirmed = True
            self._maybe_answered()
        elif state == self._pj.PJSIP_INV_STATE_DISCONNECTED:
            self._finish(info.lastStatusCode, info.lastReason)

    def media_changed(self) -> None:
        """An offer and answer took effect: connect the audio, or hold it."""
        pj = self._pj
        info = self.call.getInfo()  # named: what lies inside lives as long as it
        audio = [m for m in info.media if m.type == pj.PJMEDIA_TYPE_AUDIO]
        media = next((m for m in audio if m.status != pj.PJSUA_CALL_MEDIA_NONE), None)
        self._active = media is not None and media.status == pj.PJSUA_CALL_MEDIA_ACTIVE
        if media is not None:
            self._media_index = media.index
        if media is not None and self._active and self.line is not None:
            self._stack.lines.connect(self.line, self.call.getAudioMedia(media.index))
        self._received_at = time.monotonic()
        held = media is not None and media.status == pj.PJSUA_CALL_MEDIA_REMOTE_HOLD
        if held != self._held:
            self._held = held
            if self._answered:
                self._tell(HoldChanged(held))
        self._maybe_answered()

    def _maybe_answered(self) -> None:
        if self._answered or not self._confirmed or self._media_index < 0:
            return
        self._answered = True
        self._received_at = time.monotonic()
        self._tell(Answered(self.call.getStreamInfo(self._media_index).codecName.upper()))
        if self._held:
            self._tell(HoldChanged(held=True))

    def digit(self, part: DigitPart) -> None:
        """Part of a DTMF digit came. It counts when it ends, once."""
        digit, duration_ms = part.digit, max(0, part.duration_ms)
        if part.info:
            self._tell(DtmfReceived(digit, duration_ms, "info"))
            return
        if part.begins:
            if part.timestamp == self._digit_stamp:
                return  # a repeated end packet of a digit that was counted
            self._flush_digit()
            self._digit, self._digit_at = digit, time.monotonic()
            self._digit_stamp = part.timestamp
        if part.ends and self._digit:
            self._digit = ""
            self._tell(DtmfReceived(digit, duration_ms))

    def _flush_digit(self) -> None:
        if self._digit:
            length = int(1000 * (time.monotonic() - self._digit_at))
            self._tell(DtmfReceived(self._digit, length))
            self._digit = ""

    def refer_progress(self, status: int, *, final: bool) -> None:
        """The far end tells how a transfer goes; when it worked, this leg has done its part."""
        self._tell(TransferProgress(status, final))
        if final and status // 100 == 2:
            self.hang_up(EndCause.TRANSFERRED)
        elif final:
            self._referred = False

    def _finish(self, code: int, reason: str) -> None:
        if self.ended:
            return
        self.ended = True
        self._flush_digit()
        cause = self._cause or end_cause(self._direction, code, answered=self._answered)
        if self._referred and cause is EndCause.REMOTE_HANGUP:
            cause = EndCause.TRANSFERRED  # some PBXs hang up instead of reporting
        self._stack.forget(self)
        self._tell(LegEnded(cause, code, reason))

    # Every second

    def check(self, now: float, media_timeout_s: float) -> None:
        """End the call when its media went away; end a digit whose end was lost."""
        if self._digit and now - self._digit_at > DIGIT_MAX_S:
            self._flush_digit()
        if not self._answered or not media_timeout_s or self._cause:
            return
        if self._held or self._holding or not self._active:
            self._received_at = now
            return
        stat = self.call.getStreamStat(self._media_index)  # named: see `media_changed`
        rtcp = stat.rtcp
        received = rtcp.rxStat.pkt
        if received != self._received:
            self._received, self._received_at = received, now
        elif now - self._received_at > media_timeout_s:
            self.hang_up(EndCause.MEDIA_TIMEOUT)

    def flowing(self) -> bool:
        """Return whether audio goes to the far end now (any thread)."""
        return self._active and not self.ended

    # Requests

    def dial(self, uri: str, caller: str, headers: Mapping[str, str]) -> None:
        """INVITE."""
        param = self._param(0, headers=headers)
        param.txOption.localUri = caller
        self.call.makeCall(uri, param)

    def call_id(self) -> str:
        """Return the Call-ID."""
        return str(self.call.getInfo().callIdString)

    def ring(self) -> None:
        """180."""
        self.call.answer(self._param(180))

    def answer(self) -> None:
        """200."""
        self.call.answer(self._param(200))

    def reject(self, code: int, reason: str, headers: Mapping[str, str]) -> None:
        """4xx to 6xx."""
        self._cause = EndCause.REJECTED
        self.call.answer(self._param(code, reason, headers))

    def hang_up(self, cause: EndCause = EndCause.LOCAL_HANGUP) -> None:
        """BYE, CANCEL or a refusal, as the state demands."""
        if self.ended or self._cause:
            return
        self._cause = cause
        refused = self._direction is Direction.INBOUND and not self._confirmed
        self.call.hangup(self._param(480 if refused else 0))

    def hold(self, held: bool) -> None:
        """Send a re-INVITE that holds or resumes (RFC 3264 8.4)."""
        self._holding = held
        if held:
            self.call.setHold(self._param(0))
            return
        param = self._param(0)
        param.opt.flag = self._pj.PJSUA_CALL_UNHOLD
        self.call.reinvite(param)

    def send_dtmf(self, digits: str, duration_ms: int) -> None:
        """RFC 4733 events."""
        param = self._pj.CallSendDtmfParam()
        param.method = self._pj.PJSUA_DTMF_METHOD_RFC2833
        param.digits, param.duration = digits, duration_ms
        self.call.sendDtmf(param)

    def transfer(self, trunk: str, target: str, replaces: CallControl | None) -> None:
        """REFER, with Replaces for an attended transfer.

        Raises:
            InvalidRequestError: `target` is no number and no address, or `replaces` has ended.
        """
        if replaces is None:
            remote = str(self.call.getInfo().remoteUri)
            try:
                uri = setup.refer_uri(self._stack, trunk, target, messages.bare(remote))
            except ValueError as error:
                raise InvalidRequestError(str(error)) from None
            self.call.xfer(uri, self._param(0))
        elif replaces.ended:
            raise InvalidRequestError("the leg to replace has ended")
        else:
            self.call.xferReplaces(replaces.call, self._param(0))
        self._referred = True

    def _param(self, code: int, reason: str = "", headers: Mapping[str, str] | None = None) -> Any:
        param = self._pj.CallOpParam(True)
        param.opt.audioCount, param.opt.videoCount = 1, 0
        if hasattr(param.opt, "textCount"):  # PJSIP 2.16 and later would offer real-time text too
            param.opt.textCount = 0
        param.statusCode, param.reason = code, reason
        for name, value in (headers or {}).items():
            param.txOption.headers.append(self._stack.header(name, value))
        return param
