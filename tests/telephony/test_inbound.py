# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls from a real SIP peer (SIPp) to the SIP transport."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.telephony import sipp as s
from tests.telephony.peers import LOOPBACK, Line, RtpEnd, strongest_hz

StartLine = Callable[..., Awaitable[Line]]


async def test_a_call_is_answered_heard_and_ended_by_the_caller(
    line: StartLine, tmp_path: Path, tone_file: Path
) -> None:
    box = await line(mode="echo")
    steps = [s.invite(), s.trying(), s.expect(200), s.ack(), s.play(tone_file), s.pause(800)]
    caller = await s.sipp(tmp_path, box.port, *steps, s.bye(2), s.expect(200), service="4711")
    incoming = await box.event("incoming")
    assert (incoming["called"], incoming["remote"]) == ("4711", f"sip:tester@{LOOPBACK}")
    answered = await box.event("Answered", leg=incoming["leg"])
    assert answered["codec"] == "PCMU"
    await box.heard(incoming["leg"], loud_at_least=20)
    ended = await box.event("LegEnded")
    assert ended["cause"] == "remote_hangup"
    await caller.done()
    assert (await box.status())["calls"] == 0


async def test_a_caller_who_gives_up_while_it_rings_ends_as_cancelled(
    line: StartLine, tmp_path: Path
) -> None:
    box = await line(answer="ring_only")
    steps = [s.invite(), s.expect(100, optional=True), s.expect(180), s.pause(100), s.cancel()]
    caller = await s.sipp(tmp_path, box.port, *steps, s.expect(200), s.expect(487), s.ack_refusal())
    ended = await box.event("LegEnded")
    assert ended["cause"] == "cancelled"
    await caller.done()


async def test_the_box_hangs_up_after_what_it_had_to_say(line: StartLine, tmp_path: Path) -> None:
    box = await line()
    rtp = await RtpEnd.open(440)
    steps = [s.invite(s.sdp(port="[field0]")), s.trying(), s.expect(200), s.ack()]
    caller = await s.sipp(
        tmp_path, box.port, *steps, s.expect_request("BYE"), fields=[str(rtp.port)]
    )
    leg = (await box.event("Answered"))["leg"]
    await box.do("play", leg=leg, hz=600, ms=700)
    await box.do("hang_up", leg=leg)
    ended = await box.event("LegEnded")
    assert ended["cause"] == "local_hangup"
    await caller.done()
    loud = sum(abs(rtp.audio().astype(int)) > 1000)
    await rtp.close()
    assert loud / 8000 == pytest.approx(0.7 * 0.92, rel=0.05)  # share of a sine above the threshold


async def test_hold_and_resume_are_answered_and_told(
    line: StartLine, tmp_path: Path, tone_file: Path
) -> None:
    box = await line(mode="tone")
    steps = [s.invite(), s.trying(), s.expect(200), s.ack(), s.play(tone_file), s.pause(300)]
    steps += [s.reinvite(2, "sendonly"), s.trying(), s.expect(200, contains="a=recvonly"), s.ack(2)]
    steps += [s.pause(300), s.reinvite(3, "sendrecv"), s.trying()]
    steps += [s.expect(200, contains="a=sendrecv"), s.ack(3), s.pause(500)]
    steps += [s.reinvite(4, "inactive"), s.trying(), s.expect(200, contains="a=inactive"), s.ack(4)]
    steps += [s.bye(5), s.expect(200)]
    caller = await s.sipp(tmp_path, box.port, *steps)
    leg = (await box.event("Answered"))["leg"]
    assert (await box.event("HoldChanged"))["held"] is True
    before = await box.do("heard", leg=leg)
    assert (await box.event("HoldChanged"))["held"] is False
    await box.heard(leg, loud_at_least=before["loud"] + 10)
    assert (await box.event("HoldChanged"))["held"] is True
    assert (await box.event("LegEnded"))["cause"] == "remote_hangup"
    await caller.done()


async def test_digits_by_sip_info_are_heard_once_each(line: StartLine, tmp_path: Path) -> None:
    box = await line()
    steps = [s.invite(), s.trying(), s.expect(200), s.ack()]
    for cseq, digit in enumerate("5#", start=2):
        steps += [s.info(cseq, f"Signal={digit}\nDuration=250\n"), s.expect(200)]
    caller = await s.sipp(tmp_path, box.port, *steps, s.bye(4), s.expect(200))
    await box.event("LegEnded")
    await caller.done()
    digits = [e for e in box.events if e.get("event") == "DtmfReceived"]
    assert [(d["digit"], d["duration_ms"], d["method"]) for d in digits] == [
        ("5", 250, "info"),
        ("#", 250, "info"),
    ]


async def test_a_caller_that_vanishes_is_ended_but_not_one_on_hold(
    line: StartLine, tmp_path: Path, tone_file: Path
) -> None:
    box = await line(media_timeout_s=1)
    talk = [s.invite(), s.trying(), s.expect(200), s.ack(), s.play(tone_file), s.pause(300)]
    held = [*talk, s.stop_playing(), s.reinvite(2, "inactive"), s.trying(), s.expect(200), s.ack(2)]
    holder = await s.sipp(tmp_path, box.port, *held, s.pause(3500), s.bye(3), s.expect(200))
    on_hold = (await box.event("Answered"))["leg"]
    await box.event("HoldChanged", leg=on_hold)
    vanisher = await s.sipp(tmp_path, box.port, *talk, s.stop_playing(), s.expect_request("BYE"))
    ended = await box.event("LegEnded")
    assert (ended["cause"], ended["leg"] != on_hold) == ("media_timeout", True)
    await vanisher.done()
    ended = await box.event("LegEnded")
    assert (ended["cause"], ended["leg"]) == ("remote_hangup", on_hold)
    await holder.done()


async def test_options_are_answered(line: StartLine, tmp_path: Path) -> None:
    box = await line()
    await (
        await s.sipp(tmp_path, box.port, s.options(), s.expect(200, contains="Allow:.*INVITE"))
    ).done()


async def test_behind_nat_the_public_address_and_a_port_of_the_range_are_offered(
    line: StartLine, tmp_path: Path
) -> None:
    box = await line(public_address="203.0.113.5", rtp_port_start=23456, rtp_port_end=23475)
    offer = f"@203.0.113.5:{box.port}>.*m=audio 234[5-7][0-9] .*c=IN IP4 203.0.113.5"
    wanted = s.expect(200, contains=offer)
    call = [s.invite(), s.trying(), wanted, s.ack(), s.bye(2), s.expect(200)]
    await (await s.sipp(tmp_path, box.port, *call)).done()


async def test_a_source_that_no_trunk_knows_gets_403_and_is_counted(
    line: StartLine, tmp_path: Path
) -> None:
    box = await line(trunks={"pbx": {"accept_from": ["10.9.8.0/24"]}})
    caller = await s.sipp(
        tmp_path, box.port, s.invite(), s.trying(), s.expect(403), s.ack_refusal()
    )
    await caller.done()
    assert await box.counter("rejected_unknown_source") == 1
    assert not [e for e in box.events if e.get("event") == "incoming"]
    assert (await box.status())["calls"] == 0


@pytest.mark.parametrize("library", ["installed", ""])
async def test_above_max_calls_the_answer_is_503_with_retry_after(
    line: StartLine, tmp_path: Path, library: str
) -> None:
    box = await line(library=library, max_calls=2, retry_after_s=7)
    steps = [s.invite(), s.trying(), s.expect(200), s.ack(), s.pause(1500), s.bye(2), s.expect(200)]
    callers = await s.sipp(tmp_path, box.port, *steps, calls=2)
    for _ in range(2):
        await box.event("Answered")
    refused = [s.invite(), s.trying(), s.expect(503, contains="Retry-After: 7"), s.ack_refusal()]
    await (await s.sipp(tmp_path, box.port, *refused)).done()
    assert await box.counter("rejected_capacity") == 1
    await callers.done()
    for _ in range(2):
        await box.event("LegEnded")
    again = [s.invite(), s.trying(), s.expect(200), s.ack(), s.bye(2), s.expect(200)]
    await (await s.sipp(tmp_path, box.port, *again)).done()


async def test_above_the_four_calls_of_the_wheel_the_library_answers_486(
    line: StartLine, tmp_path: Path
) -> None:
    box = await line(library="installed")
    assert box.started["capacity"] == 4
    steps = [s.invite(), s.trying(), s.expect(200), s.ack(), s.pause(1500), s.bye(2), s.expect(200)]
    callers = await s.sipp(tmp_path, box.port, *steps, calls=4)
    for _ in range(4):
        await box.event("Answered")
    refused = [s.invite(), s.trying(), s.expect(486), s.ack_refusal()]
    await (await s.sipp(tmp_path, box.port, *refused)).done()
    assert await box.counter("rejected_capacity") == 1
    await callers.done()


VIA = b"Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK1\r\n"
MALFORMED = [
    b"\x00\xff\xfe garbage \x00" * 20,
    b"INVITE sip:100@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP",
    b"\r\n".join(
        [
            b"INVITE sip:100@127.0.0.1 SIP/2.0",
            VIA + b"From: <sip:a@b",
            b"To: <sip:100@127.0.0.1>",
            b"Call-ID: 1",
            b"CSeq: x INVITE",
            b"Content-Length: 0\r\n\r\n",
        ]
    ),
    b"\r\n".join(
        [
            b"OPTIONS sip:[::1 SIP/2.0",
            VIA + b"From: <sip:a@b>;tag=1",
            b"To: <sip:b@c>",
            b"Call-ID: 2",
            b"CSeq: 99999999999999 OPTIONS",
            b"Content-Length: -5\r\n\r\n",
        ]
    ),
    b"SIP/2.0 9999 What\r\nVia: x\r\n\r\n",
    b"INVITE sip:100@127.0.0.1 SIP/2.0\r\n" + b"X-Long: " + b"a" * 3000 + b"\r\n" * 2,
]


async def test_malformed_messages_are_survived_and_counted(line: StartLine, tmp_path: Path) -> None:
    box = await line()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=(LOOPBACK, box.port)
    )
    for message in MALFORMED:
        transport.sendto(message)
    await box.counted("malformed", len(MALFORMED) - 1)
    transport.close()
    call = [s.invite(), s.trying(), s.expect(200), s.ack(), s.bye(2), s.expect(200)]
    await (await s.sipp(tmp_path, box.port, *call)).done()


async def test_an_offer_without_a_common_codec_is_refused_with_488(
    line: StartLine, tmp_path: Path
) -> None:
    box = await line()
    offer = s.sdp().replace("RTP/AVP 0 101", "RTP/AVP 18").replace("0 PCMU", "18 G729")
    await (
        await s.sipp(
            tmp_path, box.port, s.invite(offer), s.trying(), s.expect(488), s.ack_refusal()
        )
    ).done()


@pytest.mark.slow
async def test_twenty_calls_at_once_have_audio_both_ways_and_none_is_lost(
    line: StartLine, tmp_path: Path
) -> None:
    box = await line(mode="echo")
    assert box.started["capacity"] == 256, "build it first: ./run build-pjsua2"
    ends = [await RtpEnd.open(400 + 50 * i) for i in range(20)]
    steps = [s.invite(s.sdp(port="[field0]")), s.trying(), s.expect(200), s.ack(), s.pause(4000)]
    callers = await s.sipp(
        tmp_path, box.port, *steps, s.bye(2), s.expect(200),
        calls=20, fields=[str(end.port) for end in ends],
    )  # fmt: skip
    for _ in range(20):
        await box.event("Answered", timeout_s=20)
    await callers.done(60)
    for _ in range(20):
        assert (await box.event("LegEnded"))["cause"] == "remote_hangup"
    legs = (await box.do("all_heard"))["legs"]
    assert len(legs) == 20
    assert all(loud > 50 for _, loud, _ in legs.values()), legs  # a second, on a busy machine too
    for end in ends:  # each hears its own tone back
        audio = end.audio()
        loud = audio[8000:24000]
        assert abs(strongest_hz(loud, 8000) - end.hz) < 5
        assert len(end.packets) > 150
        await end.close()
    status = await box.status()
    assert (status["calls"], status["counters"]["frames_lost"]) == (0, 0), json.dumps(status)
