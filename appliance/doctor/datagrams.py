# SPDX-License-Identifier: Apache-2.0
"""Three small requests over the network: SNTP (RFC 5905), STUN (RFC 8489), SIP OPTIONS (RFC 3261 11).

Each is sent by a plain socket, so that the doctor can tell a dead network from a dead SIP stack.
"""

from __future__ import annotations

import secrets
import socket
import struct
import time
from dataclasses import dataclass

_NTP_EPOCH = 2_208_988_800
"""Seconds from 1900, where NTP counts from, to 1970."""

_MAGIC = 0x2112A442
"""STUN's magic cookie."""

_XOR_MAPPED, _MAPPED = 0x0020, 0x0001


@dataclass(frozen=True, slots=True)
class SipReply:
    """The first answer to an OPTIONS: any status proves that a SIP stack is there."""

    status: int
    reason: str
    server: str
    milliseconds: float


def ntp_offset(server: str, timeout_s: float = 2.0) -> float:
    """Return by how many seconds this clock is behind `server` (`host` or `host:port`).

    Raises:
        OSError: no answer.
    """
    with _udp(server, 123, timeout_s) as connection:
        sent = time.time()
        connection.send(struct.pack("!B39xII", 0x23, int(sent) + _NTP_EPOCH, 0))
        answer = connection.recv(512)
        received = time.time()
    if len(answer) < 48:
        raise OSError("the answer is too short to be SNTP")
    there = [struct.unpack_from("!II", answer, at) for at in (32, 40)]
    arrived, left = (seconds - _NTP_EPOCH + fraction / 2**32 for seconds, fraction in there)
    offset: float = ((arrived - sent) + (left - received)) / 2
    return offset


def stun_address(server: str, timeout_s: float = 2.0) -> tuple[str, int]:
    """Return the address and port that `server` (`host:port`) sees this machine at.

    Raises:
        OSError: no answer, or not one of STUN.
    """
    transaction = secrets.token_bytes(12)
    with _udp(server, 3478, timeout_s) as connection:
        connection.send(struct.pack("!HHI", 0x0001, 0, _MAGIC) + transaction)
        answer = connection.recv(2048)
    if len(answer) < 20 or answer[8:20] != transaction:
        raise OSError("the answer is not one of STUN")
    position, end = 20, 20 + int.from_bytes(answer[2:4])
    while position + 4 <= min(end, len(answer)):
        kind, length = struct.unpack_from("!HH", answer, position)
        value = answer[position + 4 : position + 4 + length]
        if kind in {_XOR_MAPPED, _MAPPED} and len(value) == 8:
            port, address = struct.unpack("!HI", value[2:])
            if kind == _XOR_MAPPED:
                port, address = port ^ (_MAGIC >> 16), address ^ _MAGIC
            return socket.inet_ntoa(struct.pack("!I", address)), port
        position += 4 + length + -length % 4
    raise OSError("the answer holds no address")


def sip_options(host: str, port: int, protocol: str = "udp", timeout_s: float = 2.0) -> SipReply:
    """Send OPTIONS and return the first answer. Over UDP it is sent again after 0.5 s and 1 s.

    Args:
        host: name or address.
        port: SIP port.
        protocol: `udp` or `tcp`.
        timeout_s: how long to wait in all.

    Raises:
        OSError: no answer, or not one of SIP.
    """
    began = time.monotonic()
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    family, _, _, _, address = socket.getaddrinfo(host, port, type=kind)[0]
    with socket.socket(family, kind) as connection:
        connection.settimeout(timeout_s)
        connection.connect(address)
        request = _options(host, port, protocol, connection.getsockname())
        answer = b""
        for wait in (0.5, 1.0, timeout_s) if protocol == "udp" else (timeout_s,):
            connection.sendall(request)
            left = began + timeout_s - time.monotonic()
            connection.settimeout(max(0.01, min(wait, left)))
            try:
                answer = connection.recv(65535)
                break
            except TimeoutError:
                if time.monotonic() - began >= timeout_s:
                    raise
    return _sip_reply(answer, (time.monotonic() - began) * 1000)


def _options(host: str, port: int, protocol: str, here: tuple[str, int]) -> bytes:
    branch, tag, call = (secrets.token_hex(8) for _ in range(3))
    local = f"[{here[0]}]" if ":" in here[0] else here[0]
    lines = (
        f"OPTIONS sip:{host}:{port};transport={protocol} SIP/2.0",
        f"Via: SIP/2.0/{protocol.upper()} {local}:{here[1]};branch=z9hG4bK{branch};rport",
        "Max-Forwards: 70",
        f"From: <sip:doctor@{local}>;tag={tag}",
        f"To: <sip:{host}:{port}>",
        f"Call-ID: {call}@doctor",
        "CSeq: 1 OPTIONS",
        f"Contact: <sip:doctor@{local}:{here[1]};transport={protocol}>",
        "Accept: application/sdp",
        "User-Agent: Trunkline doctor",
        "Content-Length: 0",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _sip_reply(answer: bytes, milliseconds: float) -> SipReply:
    head, *headers = answer.decode("utf-8", "replace").split("\r\n")
    words = head.split(" ", 2)
    if len(words) < 2 or words[0] != "SIP/2.0" or not words[1].isdigit():
        raise OSError("the answer is not one of SIP")
    named = dict(line.split(":", 1) for line in headers if ":" in line)
    server = named.get("Server") or named.get("User-Agent") or ""
    reason = words[2] if len(words) > 2 else ""
    return SipReply(int(words[1]), reason, server.strip(), milliseconds)


def _udp(server: str, default_port: int, timeout_s: float) -> socket.socket:
    host, _, port = server.partition(":")
    family, kind, _, _, address = socket.getaddrinfo(
        host, int(port or default_port), type=socket.SOCK_DGRAM
    )[0]
    connection = socket.socket(family, kind)
    connection.settimeout(timeout_s)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection
