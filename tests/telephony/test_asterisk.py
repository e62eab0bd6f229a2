# SPDX-License-Identifier: GPL-3.0-or-later
"""The transport at a real PBX: Asterisk 22, with the example configuration that users get."""

from __future__ import annotations

import base64
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from tests.telephony.asterisk_lab import CONFIGS, Asterisk
from tests.telephony.peers import Line, free_port, strongest_hz

StartLine = Callable[..., Awaitable[Line]]
pytestmark = pytest.mark.slow

EXTENSION = """
[{number}]
type=endpoint
context=from-trunkline
disallow=all
allow=ulaw
auth={number}
aors={number}
direct_media=no
moh_passthrough=yes
[{number}]
type=auth
auth_type=userpass
username={number}
password=secret-{number}
[{number}]
type=aor
max_contacts=1
"""


@pytest.fixture
async def pbx() -> AsyncIterator[Asterisk]:
    made = Asterisk()
    yield made
    await made.stop()


def trunk(pbx: Asterisk, username: str, password: str, **more: Any) -> dict[str, Any]:
    registrar = f"sip:127.0.0.1:{pbx.port}"
    return {"registrars": [registrar], "username": username, "password": password, **more}


async def registered(line: Line, name: str) -> None:
    for _ in range(100):
        state = (await line.status())["trunks"][name]
        if state[0]:
            return
    raise AssertionError(state)


async def phone(line: StartLine, pbx: Asterisk, **options: Any) -> Line:
    made = await line(trunks={"pbx": trunk(pbx, "100", "change-me-100")}, **options)
    await pbx.shows("pjsip show contacts", "100/sip:")
    return made


async def test_the_box_registers_as_the_example_says_and_answers_options(
    pbx: Asterisk, line: StartLine
) -> None:
    example = tomllib.loads((CONFIGS / "trunkline.toml").read_text())
    extension = example["transport"]["phone"]["trunks"]["extension"]
    await pbx.start()
    extension["registrars"] = [f"sip:127.0.0.1:{pbx.port}"]
    extension["qualify_s"] = 1
    box = await line(mode="echo", trunks={"extension": extension})
    await pbx.shows("pjsip show contacts", "Contact:  200/sip:200@127.0.0.1")
    await pbx.shows("pjsip show contacts", "Avail")  # Asterisk's own OPTIONS were answered
    status = await box.status()
    assert status["trunks"]["extension"][0] is True
    assert "; answers OPTIONS" in status["trunks"]["extension"][1]  # Asterisk wants a login: 401


@pytest.mark.parametrize("codec", ["PCMU", "PCMA", "G722"])
async def test_a_call_through_the_pbx_has_audio_both_ways_digits_and_a_hold(
    pbx: Asterisk, line: StartLine, codec: str
) -> None:
    await pbx.start()
    box = await line(
        mode="echo", codecs=[codec], trunks={"pbx": trunk(pbx, "200", "change-me-200")}
    )
    await pbx.shows("pjsip show contacts", "200/sip:")
    caller = await phone(line, pbx, codecs=[codec])
    leg = (await caller.do("dial", target="200"))["leg"]
    incoming = await box.event("incoming")
    assert (incoming["called"], incoming["trunk"]) == ("200", "pbx")
    assert (await caller.event("Answered"))["codec"] == codec
    answered = await box.event("Answered")
    assert answered["codec"] == codec
    await both_ways(caller, leg)
    await caller.do("dtmf", leg=leg, digits="42#")
    assert [(await box.event("DtmfReceived"))["digit"] for _ in range(3)] == ["4", "2", "#"]
    await caller.do("hold", leg=leg, held=True)
    assert (await box.event("HoldChanged"))["held"] is True
    await caller.do("hold", leg=leg, held=False)
    assert (await box.event("HoldChanged"))["held"] is False
    await both_ways(caller, leg)
    await box.do("dtmf", leg=answered["leg"], digits="7")
    assert (await caller.event("DtmfReceived"))["digit"] == "7"
    await caller.do("hang_up", leg=leg)
    assert (await box.event("LegEnded"))["cause"] == "remote_hangup"


async def both_ways(caller: Line, leg: str, hz: float = 700) -> None:
    """The box echoes: what the caller says must come back."""
    await caller.do("record", leg=leg)
    before = (await caller.do("heard", leg=leg))["loud"]
    await caller.do("play", leg=leg, hz=hz, ms=800)
    await caller.heard(leg, loud_at_least=before + 25)
    reply = await caller.do("recorded", leg=leg)
    heard, _ = np.frombuffer(base64.b64decode(reply["audio"]), np.int16).reshape(2, -1)
    loud = heard[np.flatnonzero(np.abs(heard) > 500)[0] :][:6400]
    assert abs(strongest_hz(loud, 16_000) - hz) < 10


async def test_a_wrong_password_is_said_clearly(pbx: Asterisk, line: StartLine) -> None:
    await pbx.start()
    box = await line(trunks={"pbx": trunk(pbx, "200", "wrong")})
    for _ in range(200):
        state, detail = (await box.status())["trunks"]["pbx"]
        if detail != "not tried yet":
            break
    assert state is False
    assert "refused user 200: 401" in detail
    assert "check username and password" in detail


async def test_when_the_first_registrar_refuses_the_second_is_used(
    pbx: Asterisk, line: StartLine
) -> None:
    await pbx.start()
    dead = f"sip:127.0.0.1:{free_port()};transport=tcp"
    both = trunk(pbx, "200", "change-me-200")
    both["registrars"] = [dead, *both["registrars"]]
    box = await line(trunks={"pbx": both}, tcp_port=0)
    await pbx.shows("pjsip show contacts", "200/sip:", timeout_s=20)
    assert (await box.status())["trunks"]["pbx"][1].endswith(f"127.0.0.1:{pbx.port}")


async def test_the_box_calls_out_and_transfers_to_another_phone(
    pbx: Asterisk, line: StartLine
) -> None:
    await pbx.start(EXTENSION.format(number="101"))
    box = await line(mode="silent", trunks={"pbx": trunk(pbx, "200", "change-me-200")})
    await pbx.shows("pjsip show contacts", "200/sip:")
    caller = await phone(line, pbx)
    other = await line(mode="tone", trunks={"pbx": trunk(pbx, "101", "secret-101")})
    await pbx.shows("pjsip show contacts", "101/sip:")
    leg = (await box.do("dial", target="100"))["leg"]  # digest on INVITE as well
    called = await caller.event("incoming")
    await box.event("Answered", leg=leg)
    refused = await box.do("transfer", leg=leg, target="no number")
    assert refused["error"] == "InvalidRequestError"
    await box.do("transfer", leg=leg, target="101")
    await other.event("incoming", timeout_s=15)
    ended = await box.event("LegEnded", timeout_s=15)
    assert ended["cause"] == "transferred"
    await caller.heard(called["leg"], loud_at_least=20)  # now hears the other phone's tone


async def test_a_trunk_by_address_takes_any_number_and_calls_out(
    pbx: Asterisk, line: StartLine
) -> None:
    port = free_port()
    await pbx.start(box=f"127.0.0.2:{port}")
    example = tomllib.loads((CONFIGS / "trunkline.toml").read_text())
    by_address = example["transport"]["phone"]["trunks"]["by_address"]
    by_address["accept_from"] = ["127.0.0.1"]
    by_address["peer"] = f"sip:127.0.0.1:{pbx.port}"
    trunks = {"by_address": by_address}
    box = await line(mode="echo", bind="127.0.0.2", udp_port=port, trunks=trunks)
    caller = await phone(line, pbx)
    leg = (await caller.do("dial", target="801"))["leg"]
    incoming = await box.event("incoming")
    assert (incoming["called"], incoming["trunk"]) == ("801", "by_address")
    await caller.event("Answered", leg=leg)
    await both_ways(caller, leg)
    await caller.do("hang_up", leg=leg)
    await box.event("LegEnded")
    out = (await box.do("dial", target="100"))["leg"]
    await caller.event("incoming")
    await box.event("Answered", leg=out)


async def test_a_transfer_that_fails_leaves_the_call_up_and_says_why(
    pbx: Asterisk, line: StartLine
) -> None:
    await pbx.start()
    box = await line(mode="tone", trunks={"pbx": trunk(pbx, "200", "change-me-200")})
    await pbx.shows("pjsip show contacts", "200/sip:")
    caller = await phone(line, pbx)
    leg = (await caller.do("dial", target="200"))["leg"]
    answered = (await box.event("Answered"))["leg"]
    await box.do("transfer", leg=answered, target="999")  # not in the dialplan
    while not (progress := await box.event("TransferProgress"))["final"]:
        pass
    assert progress["status"] >= 400
    before = (await caller.do("heard", leg=leg))["loud"]
    await caller.heard(leg, loud_at_least=before + 20)


async def test_an_attended_transfer_joins_the_caller_with_the_second_leg(
    pbx: Asterisk, line: StartLine
) -> None:
    await pbx.start(EXTENSION.format(number="101"))
    box = await line(trunks={"pbx": trunk(pbx, "200", "change-me-200")})
    await pbx.shows("pjsip show contacts", "200/sip:")
    caller = await phone(line, pbx)
    await line(mode="tone", trunks={"pbx": trunk(pbx, "101", "secret-101")})
    await pbx.shows("pjsip show contacts", "101/sip:")
    leg = (await caller.do("dial", target="200"))["leg"]
    first = (await box.event("Answered"))["leg"]
    second = (await box.do("dial", target="101"))["leg"]
    await box.event("Answered", leg=second)
    await box.do("transfer", leg=first, replaces=second)
    causes = {
        e["leg"]: e["cause"] for e in [await box.event("LegEnded", timeout_s=15) for _ in "12"]
    }
    assert causes[first] == "transferred"
    assert causes[second] == "remote_hangup"
    await caller.heard(leg, loud_at_least=20)
