# SPDX-License-Identifier: GPL-3.0-or-later
"""SIPp as a caller: scenarios put together from steps, and a process that runs one."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from xml.sax.saxutils import quoteattr

from tests.telephony.peers import LOOPBACK, free_port, free_range

_FROM = "From: <sip:tester@[local_ip]:[local_port]>;tag=[pid]t[call_number]"


def sdp(direction: str = "sendrecv", port: str = "[media_port]", version: int = 1) -> str:
    """Return an SDP body with mu-law and telephone events."""
    return f"""v=0
o=tester 1 {version} IN IP4 [local_ip]
s=-
c=IN IP4 [media_ip]
t=0 0
m=audio {port} RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a={direction}
"""


def _send(text: str, body: str = "", retrans: bool = True) -> str:
    attribute = ' retrans="500"' if retrans else ""
    kind = "Content-Type: application/sdp\n" if body.startswith("v=0") else ""
    return f"<send{attribute}><![CDATA[\n{text}{kind}Content-Length: [len]\n\n{body}]]></send>"


def _within(method: str, cseq: int, extra: str = "") -> str:
    cseq_method = method
    return f"""{method} [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
Max-Forwards: 70
[routes]
{_FROM}
[last_To:]
Call-ID: [call_id]
CSeq: {cseq} {cseq_method}
Contact: <sip:tester@[local_ip]:[local_port];transport=[transport]>
{extra}"""


def invite(body: str | None = None, extra: str = "") -> str:
    """First INVITE."""
    text = f"""INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
Max-Forwards: 70
{_FROM}
To: <sip:[service]@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:tester@[local_ip]:[local_port];transport=[transport]>
{extra}"""
    return _send(text, sdp() if body is None else body)


def reinvite(cseq: int, direction: str, port: str = "[media_port]") -> str:
    """INVITE within the call, with a new direction."""
    return _send(_within("INVITE", cseq), sdp(direction, port, version=cseq))


def ack(cseq: int = 1) -> str:
    return _send(_within("ACK", cseq), retrans=False)


def bye(cseq: int) -> str:
    return _send(_within("BYE", cseq))


def info(cseq: int, body: str) -> str:
    """INFO with a DTMF relay body."""
    text = _within("INFO", cseq, "Content-Type: application/dtmf-relay\n")
    return _send(text, body)


def cancel() -> str:
    """CANCEL of the first INVITE."""
    text = f"""CANCEL sip:[service]@[remote_ip]:[remote_port] SIP/2.0
[last_Via:]
Max-Forwards: 70
{_FROM}
To: <sip:[service]@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 CANCEL
"""
    return _send(text)


def ack_refusal() -> str:
    """ACK of a final answer that is no 2xx (same branch)."""
    text = f"""ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
[last_Via:]
Max-Forwards: 70
{_FROM}
[last_To:]
Call-ID: [call_id]
CSeq: 1 ACK
"""
    return _send(text, retrans=False)


def options() -> str:
    text = f"""OPTIONS sip:[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
Max-Forwards: 70
{_FROM}
To: <sip:[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 OPTIONS
Accept: application/sdp
"""
    return _send(text)


def expect(code: int, *, optional: bool = False, contains: str = "") -> str:
    """Wait for a response, perhaps with a text (regular expression) in it."""
    flag = ' optional="true"' if optional else ""
    routes = ' rrs="true"' if code == 200 else ""
    if not contains:
        return f'<recv response="{code}"{flag}{routes}/>'
    return (
        f'<recv response="{code}"{flag}{routes}><action>'
        f'<ereg regexp={quoteattr(contains)} search_in="msg" check_it="true" assign_to="found"/>'
        f'</action></recv><Reference variables="found"/>'
    )


def expect_request(method: str) -> str:
    """Wait for a request and answer 200."""
    answer = """SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

"""
    return f'<recv request="{method}"/><send><![CDATA[\n{answer}]]></send>'


def trying() -> str:
    """Provisional answers that may come."""
    return expect(100, optional=True) + expect(180, optional=True) + expect(183, optional=True)


def pause(ms: int) -> str:
    return f'<pause milliseconds="{ms}"/>'


def play(file: Path) -> str:
    """Send a raw mu-law file, again and again."""
    return f'<nop><action><exec rtp_stream="{file},-1,0,PCMU/8000"/></action></nop>'


def stop_playing() -> str:
    return '<nop><action><exec rtp_stream="pause"/></action></nop>'


class Sipp:
    """One run of SIPp."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder

    async def done(self, timeout_s: float = 60.0) -> None:
        """Wait for the end; every call must have gone by the scenario."""
        try:
            out, _ = await asyncio.wait_for(self._process.communicate(), timeout_s)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise AssertionError(f"SIPp did not end\n{self._errors()}") from None
        assert self._process.returncode == 0, f"{self._errors()}\n{out.decode()[-3000:]}"

    async def stop(self) -> None:
        """End it at once: the caller vanishes."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def _errors(self) -> str:
        return "\n".join(p.read_text()[-3000:] for p in self._folder.glob("*errors.log"))


async def sipp(
    folder: Path,
    port: int,
    *steps: str,
    calls: int = 1,
    rate: int = 50,
    service: str = "100",
    fields: list[str] | None = None,
) -> Sipp:
    """Start SIPp with these steps against a port of this machine.

    Args:
        fields: one line a call for `[field0]`, separated by `;` where there are more.
    """
    run = Path(tempfile.mkdtemp(prefix="sipp", dir=folder))
    text = "\n".join(steps)
    (run / "scenario.xml").write_text(
        f'<?xml version="1.0" encoding="ISO-8859-1" ?>\n<scenario name="test">\n{text}\n</scenario>\n'
    )
    media = free_range(4)
    arguments = [f"{LOOPBACK}:{port}", "-sf", "scenario.xml", "-i", LOOPBACK, "-mi", LOOPBACK]
    arguments += ["-p", str(free_port()), "-m", str(calls), "-l", str(calls), "-r", str(rate)]
    arguments += ["-s", service, "-nostdin", "-trace_err", "-mp", str(media), "-max_retrans", "3"]
    if fields is not None:
        (run / "fields.csv").write_text("SEQUENTIAL\n" + "\n".join(fields) + "\n")
        arguments += ["-inf", "fields.csv"]
    process = await asyncio.create_subprocess_exec(
        "sipp",
        *arguments,
        cwd=run,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"TERM": "dumb", "PATH": "/usr/bin:/bin"},
    )
    return Sipp(process, run)
