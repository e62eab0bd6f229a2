# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of the SIP transport that need no network."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from trunkline_sip import SipSettings, messages
from trunkline_sip.calls import end_cause
from trunkline_sip.media import FRAME_BYTES, QUEUE_SAMPLES, RING_TICKS, Line, Ticks
from trunkline_sip.settings import TrunkSettings
from trunkline_sip.trunks import OPEN_TRUNK, Registration, TrunkTable
from trunkline_sip.vectors import memmove

from appliance.plugin import FRAME_SAMPLES, Direction, EndCause

INVITE = (
    "INVITE sip:4711@box:5060;user=phone SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1\r\n"
    'f: "Ann \\"A\\" Lee" <sip:ann:secret@pbx.example:5070>;tag=1\r\n'
    "To: <sip:%2B4930@box>\r\n"
    "Call-ID: abc@pbx\r\n"
    "X-Customer: 12\r\n  34\r\n\r\nTo: body\r\n"
)


def test_headers_are_found_long_compact_and_folded() -> None:
    assert messages.header(INVITE, "From").endswith("tag=1")
    assert messages.header(INVITE, "x-customer") == "12 34"
    assert messages.header(INVITE, "Missing") == ""
    assert messages.headers(INVITE, ["X-Customer", "No"]) == {"X-Customer": "12 34"}


@pytest.mark.parametrize(
    ("address", "user", "host", "bare"),
    [
        ("<sip:ann:secret@pbx.example:5070>;tag=1", "ann", "pbx.example", "sip:ann@pbx.example"),
        ("sip:%2B4930@box;user=phone", "+4930", "box", "sip:+4930@box"),
        ("sip:pbx.example", "", "pbx.example", "sip:pbx.example"),
        ("<sips:100@[2001:db8::1]:5061>", "100", "2001:db8::1", "sip:100@[2001:db8::1]"),
        ("tel:+4930123", "+4930123", "+4930123", "sip:+4930123@+4930123"),
        ("nonsense", "", "", ""),
    ],
)
def test_addresses_are_taken_apart_without_credentials(
    address: str, user: str, host: str, bare: str
) -> None:
    assert messages.user(address) == user
    if not address.startswith("tel"):
        assert (messages.host(address), messages.bare(address)) == (host, bare)


def test_request_uri_and_display_name() -> None:
    assert messages.user(messages.request_uri(INVITE)) == "4711"
    assert messages.display_name(messages.header(INVITE, "From")) == 'Ann "A" Lee'
    assert messages.split_port("[::1]:5060") == ("::1", 5060)
    assert messages.split_port("10.0.0.1") == ("10.0.0.1", None)


def table(**trunks: dict[str, Any]) -> TrunkTable:
    made = TrunkTable({name: TrunkSettings.model_validate(t) for name, t in trunks.items()})
    made.set_servers("pbx", ["10.0.0.1"])
    return made


def test_a_trunk_is_found_by_source_and_among_equals_by_the_called_user() -> None:
    known = table(
        pbx={"registrars": ["sip:pbx"], "username": "200"},
        second={"accept_from": ["10.0.0.0/24"], "username": "201"},
        v6={"accept_from": ["2001:db8::/32"]},
    )
    assert known.find("10.0.0.1:5060", "200") == "pbx"
    assert known.find("10.0.0.1:5060", "201") == "second"
    assert known.find("10.0.0.1:5060", "999") == "pbx"
    assert known.find("[2001:db8::7]:5060", "1") == "v6"
    assert known.find("[::ffff:10.0.0.9]:1", "") == "second"
    assert known.find("192.0.2.1:5060", "200") is None
    assert known.find("nonsense", "200") is None
    assert TrunkTable({}).find("192.0.2.1:5060", "200") == OPEN_TRUNK


def test_registration_moves_to_the_next_registrar_and_pauses_after_the_last() -> None:
    state = Registration(("sip:a", "sip:b"), "200", retry_s=30)
    assert state.due(0) is True
    assert state.due(0) is False
    state.result(503, "Service Unavailable", 0, now=5)
    assert (state.registrar, state.due(5)) == ("sip:b", True)
    state.result(408, "Timeout", 0, now=10)
    assert (state.registrar, state.due(39), state.due(40)) == ("sip:a", False, True)
    state.result(200, "OK", 300, now=41)
    assert (state.registered, state.detail, state.due(1e9)) == (True, "registered at sip:a", False)
    state.result(503, "gone", 0, now=400)  # PJSIP's own renewal failed
    assert (state.registered, state.registrar, state.due(400)) == (False, "sip:b", True)


def test_a_refused_password_is_not_tried_in_quick_succession() -> None:
    state = Registration(("sip:a", "sip:b"), "200", retry_s=1)
    state.due(0)
    state.result(401, "Unauthorized", 0, now=1)
    assert "refused user 200: 401 Unauthorized (check username and password)" in state.detail
    assert (state.registrar, state.due(60), state.due(61)) == ("sip:a", False, True)


@pytest.mark.parametrize(
    ("direction", "code", "answered", "cause"),
    [
        (Direction.INBOUND, 487, False, EndCause.CANCELLED),
        (Direction.INBOUND, 200, True, EndCause.REMOTE_HANGUP),
        (Direction.OUTBOUND, 486, False, EndCause.BUSY),
        (Direction.OUTBOUND, 408, False, EndCause.NO_ANSWER),
        (Direction.OUTBOUND, 404, False, EndCause.REJECTED),
        (Direction.OUTBOUND, 503, False, EndCause.FAILED),
    ],
)
def test_the_cause_of_an_end_follows_from_the_last_status(
    direction: Direction, code: int, answered: bool, cause: EndCause
) -> None:
    assert end_cause(direction, code, answered=answered) is cause


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trunks": {"a": {"registrars": ["pbx"]}}}, "write it as a SIP address"),
        ({"trunks": {"a": {"registrars": ["sip:pbx"]}}}, "needs `username`"),
        ({"trunks": {"a": {"accept_from": ["10.0.0.300"]}}}, "10.0.0.300"),
        ({"trunks": {"a": {"protocol": "tls"}}}, "`tls_port` is off"),
        ({"tls_port": 5061}, "needs `tls_certificate`"),
        ({"rtp_port_start": 20000, "rtp_port_end": 20000}, "must be above"),
        ({"udp_port": None, "tcp_port": None}, "must be set"),
        ({"jitter_max_ms": 20, "jitter_min_ms": 100}, "must not be below"),
        ({"codecs": ["opus"]}, "codecs"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_the_reason(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        SipSettings.model_validate(settings)


def test_a_password_is_never_printed() -> None:
    settings = SipSettings.model_validate({"trunks": {"a": {"password": "hunter2"}}})
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()


class Frame:
    """Stands for PJSIP's frame: bytes at an address of ours."""

    def __init__(self, value: int = 0) -> None:
        self.data = np.full(FRAME_SAMPLES, value, np.int16)
        self.type = 1
        self.size = FRAME_BYTES


class PlainMover:
    fast = True

    def read(self, frame: Frame, to: int, size: int) -> None:
        memmove(to, int(frame.data.ctypes.data), size)

    def out(self, size: int) -> tuple[Any, int]:
        buffer = np.zeros(size // 2, np.int16)
        return buffer, int(buffer.ctypes.data)

    def write(self, frame: Frame, vector: Any, address: int, size: int) -> None:
        del address, size
        frame.data = vector.copy()


def a_line() -> tuple[Line, Ticks, list[int]]:
    seen: list[int] = []
    ticks = Ticks(lambda: None, seen.append)
    line = Line(PlainMover(), ticks, audio_type=1)
    line.begin(types.SimpleNamespace())
    return line, ticks, seen


@given(st.lists(st.integers(0, 3 * QUEUE_SAMPLES // 2), max_size=8), st.randoms())
def test_what_is_sent_is_exactly_what_was_played_in_order(sizes: list[int], random: Any) -> None:
    line, ticks, _ = a_line()
    played, sent = [], []
    for number, size in enumerate(sizes):
        pcm = (np.arange(size) * 7 + number).astype(np.int16)
        line.play(pcm)
        played.append(pcm)
        sent += [tick(line, ticks) for _ in range(random.randrange(6))]
    while line.queued():
        sent.append(tick(line, ticks))
    whole = np.concatenate([*played, np.zeros(0, np.int16)])
    out = np.concatenate([*sent, np.zeros(0, np.int16)])
    assert out.size >= whole.size
    if len(sizes) <= 1:
        assert np.array_equal(out[: whole.size], whole)
    assert np.array_equal(out[out != 0], whole[whole != 0])


def tick(line: Line, ticks: Ticks) -> np.ndarray:
    frame = Frame()
    line.asked(frame)
    now = ticks.now
    ticks.done()
    ticks.run()
    assert np.array_equal(line.media_frame(now).sent, frame.data)
    return frame.data


def test_silence_stands_where_nothing_came() -> None:
    line, ticks, seen = a_line()
    line.given(Frame(5))
    ticks.done()
    ticks.done()  # the far end sent nothing in this one
    ticks.run()
    assert seen == [0, 1]
    assert line.media_frame(0).heard[0] == 5
    assert not line.media_frame(1).heard.any()


def test_a_late_loop_gets_every_tick_in_order_and_counts_what_was_overwritten() -> None:
    _, ticks, seen = a_line()
    for _ in range(10):
        ticks.done()
    ticks.run()
    assert (seen, ticks.late, ticks.lost) == (list(range(10)), 9, 0)
    for _ in range(RING_TICKS + 10):
        ticks.done()
    seen.clear()
    ticks.run()
    assert ticks.lost == 12
    assert seen == list(range(22, 10 + RING_TICKS + 10))


def test_dropping_returns_exactly_what_was_not_taken() -> None:
    line, ticks, _ = a_line()
    line.play(np.ones(QUEUE_SAMPLES + 1000, np.int16))
    tick(line, ticks)
    assert line.drop() == QUEUE_SAMPLES + 1000 - FRAME_SAMPLES
    assert line.queued() == 0
    assert not tick(line, ticks).any()


def test_audio_of_another_shape_is_refused() -> None:
    line, _, _ = a_line()
    with pytest.raises(ValueError, match="int16"):
        line.play(np.zeros(320))  # type: ignore[arg-type]


PROBE = """
import json
from trunkline_sip.library import load
from trunkline_sip.vectors import SlowMover, mover
import numpy as np
library = load()
results = {"capacity": library.capacity, "fast": mover(library.pj).fast}
slow = SlowMover(library.pj)
vector, at = slow.out(640)
vector[:] = np.arange(640) % 251
frame = library.pj.MediaFrame()
slow.write(frame, vector, at, 640)
back = np.zeros(640, np.uint8)
slow.read(frame, int(back.ctypes.data), 640)
results["slow"] = bool((back == vector).all())
print(json.dumps(results))
"""


@pytest.mark.parametrize(("library", "capacity"), [("installed", 4), ("", 256)])
def test_both_libraries_allow_the_fast_way_and_the_slow_way_is_right_too(
    library: str, capacity: int
) -> None:
    env = {"PATH": "/usr/bin:/bin", **({"TRUNKLINE_PJSUA2": library} if library else {})}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, env=env, check=True
    )
    assert json.loads(done.stdout) == {"capacity": capacity, "fast": True, "slow": True}


RESTART = """
import asyncio
from trunkline_sip import SipSettings
from trunkline_sip.library import load
from trunkline_sip.transport import SipTransport
class Host:
    ticks = 0
    def media(self, frames): self.ticks += 1
    def incoming(self, leg): ...
    def event(self, leg, event): ...
async def main():
    for _ in range(3):
        host = Host()
        sip = SipTransport(SipSettings(bind="127.0.0.1", udp_port=0, tcp_port=None), load())
        await sip.start(host)
        while host.ticks < 5: await asyncio.sleep(0.01)
        try:
            await SipTransport(SipSettings(bind="127.0.0.1"), load()).start(host)
        except Exception as error:
            print(type(error).__name__)
        await sip.aclose()
        await sip.aclose()
asyncio.run(main())
"""


@pytest.mark.parametrize("library", ["installed", ""])
def test_a_transport_can_be_closed_and_started_again_and_a_second_one_is_refused(
    library: str,
) -> None:
    env = {"PATH": "/usr/bin:/bin", **({"TRUNKLINE_PJSUA2": library} if library else {})}
    done = subprocess.run(
        [sys.executable, "-c", RESTART], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines().count("ConfigurationError") == 3


def test_a_port_that_is_taken_is_named(taken_port: int) -> None:
    code = RESTART.replace("udp_port=0", f"udp_port={taken_port}")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"cannot listen for SIP on udp 127.0.0.1:{taken_port}" in done.stderr
    assert "free the port" in done.stderr
