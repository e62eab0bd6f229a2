# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls between two SIP transports, each in a process of its own."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.telephony.peers import LOOPBACK, Line, free_port

StartLine = Callable[..., Awaitable[Line]]


async def call(caller: Line, box: Line, user: str = "100", **more: Any) -> tuple[str, str]:
    """Place a call that is answered; return both ends' leg ids."""
    leg = (await caller.do("dial", target=f"sip:{user}@{LOOPBACK}:{box.port}", **more))["leg"]
    other = (await box.event("incoming"))["leg"]
    await caller.event("Answered", leg=leg)
    await box.event("Answered", leg=other)
    return leg, other


@pytest.mark.parametrize("library", ["installed", ""])
async def test_a_call_out_is_placed_held_resumed_and_ended_with_either_library(
    line: StartLine, library: str
) -> None:
    box = await line(mode="tone", library=library)
    caller = await line(library=library)
    leg, other = await call(caller, box)
    await caller.heard(leg, loud_at_least=10)
    await caller.do("dtmf", leg=leg, digits="1#D")
    digits = [await box.event("DtmfReceived") for _ in range(3)]
    assert [d["digit"] for d in digits] == ["1", "#", "D"]
    assert all(d["method"] == "rfc4733" and 100 <= d["duration_ms"] <= 220 for d in digits)
    await caller.do("hold", leg=leg, held=True)
    assert (await box.event("HoldChanged", leg=other))["held"] is True
    before = (await caller.do("heard", leg=leg))["loud"]
    await caller.do("hold", leg=leg, held=False)
    assert (await box.event("HoldChanged", leg=other))["held"] is False
    await caller.heard(leg, loud_at_least=before + 10)
    await box.do("hang_up", leg=other)
    assert (await caller.event("LegEnded"))["cause"] == "remote_hangup"
    assert (await box.event("LegEnded"))["cause"] == "local_hangup"
    assert not [e for e in box.events if e["event"] == "DtmfReceived"]


async def test_a_busy_far_end_a_refusal_and_one_that_never_answers_differ(line: StartLine) -> None:
    box = await line(answer="by_hand")
    caller = await line()
    target = f"sip:100@{LOOPBACK}:{box.port}"
    for code, cause in [(486, "busy"), (603, "rejected"), (480, "no_answer"), (503, "failed")]:
        await caller.do("dial", target=target)
        await box.do("reject", leg=(await box.event("incoming"))["leg"], code=code)
        ended = await caller.event("LegEnded")
        assert (ended["cause"], ended["code"]) == (cause, code)
        assert (await box.event("LegEnded"))["cause"] == "rejected"


async def test_a_call_out_that_rings_can_be_given_up(line: StartLine) -> None:
    box = await line(answer="ring_only")
    caller = await line()
    leg = (await caller.do("dial", target=f"sip:100@{LOOPBACK}:{box.port}"))["leg"]
    assert (await caller.event("Ringing", leg=leg))["early_media"] is False
    await caller.do("hang_up", leg=leg)
    assert (await box.event("LegEnded"))["cause"] == "cancelled"
    assert (await caller.event("LegEnded"))["cause"] == "local_hangup"


async def test_what_cannot_be_dialled_is_an_error_that_says_so(line: StartLine) -> None:
    caller = await line(max_calls=1)
    for target, wanted in [("4711", "neither registrar nor peer"), ("a b", "neither a number")]:
        reply = await caller.do("dial", target=target)
        assert reply["error"] == "InvalidRequestError"
        assert wanted in reply["message"]
    assert (await caller.do("dial", target="1", trunk="nope"))["error"] == "InvalidRequestError"
    await caller.do("dial", target=f"sip:1@{LOOPBACK}:{free_port()}")
    reply = await caller.do("dial", target=f"sip:2@{LOOPBACK}:{free_port()}")
    assert reply["error"] == "UnavailableError"
    assert (await caller.status())["calls"] == 1


async def test_caller_id_and_chosen_headers_reach_the_far_end(line: StartLine) -> None:
    trunk = {"accept_from": ["127.0.0.0/8"], "pass_headers": ["X-Customer"]}
    box = await line(trunks={"pbx": trunk})
    caller = await line()
    target = f"sip:100@{LOOPBACK}:{box.port}"
    await caller.do(
        "dial", target=target, caller_id="4930123", headers={"X-Customer": "7", "X-Other": "8"}
    )
    incoming = await box.event("incoming")
    assert incoming["remote"].startswith("sip:4930123@")
    assert incoming["headers"] == {"X-Customer": "7"}


async def test_queued_audio_is_counted_and_dropped_to_the_sample(line: StartLine) -> None:
    box = await line()
    caller = await line()
    leg, _ = await call(caller, box)
    queued = (await caller.do("play", leg=leg, hz=500, ms=2000))["queued"]
    assert queued == 32_000
    await caller.do("record", leg=leg)
    await box.heard((await box.do("all_heard"))["legs"].popitem()[0], loud_at_least=10)
    reply = await caller.do("drop", leg=leg)
    assert 0 < reply["dropped"] < queued
    assert reply["queued"] == 0
    recorded = await caller.do("recorded", leg=leg)
    _, sent = np.frombuffer(base64.b64decode(recorded["audio"]), np.int16).reshape(2, -1)
    loud = np.flatnonzero(sent)
    assert loud[-1] - loud[0] <= queued - reply["dropped"]


async def test_the_way_from_one_call_to_the_next_and_back_takes_under_120_ms(
    line: StartLine,
) -> None:
    box = await line(mode="echo")
    caller = await line()
    leg, _ = await call(caller, box)
    delays = []
    for _ in range(3):
        await caller.do("record", leg=leg)
        before = (await caller.do("heard", leg=leg))["loud"]
        await caller.do("play", leg=leg, hz=500, ms=200)
        await caller.heard(leg, loud_at_least=before + 9)
        reply = await caller.do("recorded", leg=leg)
        both = np.frombuffer(base64.b64decode(reply["audio"]), np.int16).reshape(2, -1)
        heard, sent = (np.flatnonzero(np.abs(side) > 500)[0] / 16 for side in both)
        delays.append(heard - sent)
    assert np.median(delays) < 120, delays  # 60 ms each way


def certificate(folder: Path) -> dict[str, str]:
    """Make a self-signed certificate; return the settings that name it."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return {"tls_certificate": str(cert), "tls_key": str(key), "tls_ca": str(cert)}


@pytest.mark.parametrize("library", ["installed", ""])
async def test_a_call_by_tls_with_srtp_required_is_encrypted_and_heard(
    line: StartLine, tmp_path: Path, library: str
) -> None:
    tls = {**certificate(tmp_path), "udp_port": None, "tls_port": 0, "library": library}
    trunk = {"srtp": "required", "protocol": "tls"}
    box = await line(mode="tone", trunks={"t": {**trunk, "accept_from": ["127.0.0.1"]}}, **tls)
    peer = f"sip:{LOOPBACK}:{box.port}"
    caller = await line(trunks={"t": {**trunk, "peer": peer}}, **tls)
    leg = (await caller.do("dial", target="100"))["leg"]
    await caller.event("Answered", leg=leg)
    await caller.heard(leg, loud_at_least=20)


async def test_plain_rtp_is_refused_where_srtp_is_required(line: StartLine) -> None:
    box = await line(trunks={"t": {"srtp": "required", "accept_from": ["127.0.0.1"]}})
    caller = await line()
    await caller.do("dial", target=f"sip:1@{LOOPBACK}:{box.port}")
    assert (await caller.event("LegEnded"))["code"] in {406, 488}


async def test_a_call_by_tcp_uses_g711_a_law_when_that_is_preferred(line: StartLine) -> None:
    box = await line(mode="tone", tcp_port=0, udp_port=None)
    trunk = {"protocol": "tcp", "peer": f"sip:{LOOPBACK}:{box.port}"}
    caller = await line(tcp_port=0, udp_port=None, codecs=["PCMA", "PCMU"], trunks={"t": trunk})
    leg = (await caller.do("dial", target="100"))["leg"]
    assert (await caller.event("Answered", leg=leg))["codec"] == "PCMA"
    await caller.heard(leg, loud_at_least=20)


async def test_calls_that_are_up_end_when_the_transport_closes(line: StartLine) -> None:
    box = await line()
    caller = await line()
    leg, _ = await call(caller, box)
    await box.close()
    assert (await caller.event("LegEnded", leg=leg))["cause"] == "remote_hangup"
    assert box.events[-1] == {"event": "closed"}
    assert [e["cause"] for e in box.events if e["event"] == "LegEnded"] == ["local_hangup"]
