# SPDX-License-Identifier: Apache-2.0
"""Small servers on this machine that the doctor's probes talk to."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Answer = Callable[[bytes, tuple[str, int]], bytes | None]


@contextmanager
def udp_server(answer: Answer) -> Iterator[int]:
    """Answer each datagram by `answer(data, sender)`; yields the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.05)
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    data, sender = server.recvfrom(65535)
                except TimeoutError:
                    continue
                reply = answer(data, sender)
                if reply is not None:
                    server.sendto(reply, sender)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        stop.set()
        thread.join()


@contextmanager
def tcp_server(answer: Answer) -> Iterator[int]:
    """Answer the first request of each connection; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, sender = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    reply = answer(connection.recv(65535), sender)
                    if reply is not None:
                        connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        stop.set()
        thread.join()


def sip(status: str) -> Answer:
    """Answer a SIP request with `status` (`200 OK`), copying what a response must repeat."""

    def answer(data: bytes, sender: tuple[str, int]) -> bytes:
        kept = [
            line
            for line in data.decode().split("\r\n")
            if line.startswith(("Via:", "From:", "To:", "Call-ID:", "CSeq:"))
        ]
        head = f"SIP/2.0 {status}\r\n" + "\r\n".join(kept)
        return f"{head}\r\nServer: Test PBX\r\nContent-Length: 0\r\n\r\n".encode()

    return answer


def stun(address: str, port: int) -> Answer:
    """Answer a STUN binding request with an address (RFC 8489 14.2)."""

    def answer(data: bytes, sender: tuple[str, int]) -> bytes:
        number = struct.unpack("!I", socket.inet_aton(address))[0] ^ 0x2112A442
        software = struct.pack("!HH", 0x8022, 3) + b"abc\0"
        mapped = struct.pack("!HHBBHI", 0x0020, 8, 0, 1, port ^ 0x2112, number)
        return struct.pack("!HHI", 0x0101, 20, 0x2112A442) + data[8:20] + software + mapped

    return answer


def ntp(ahead_s: float) -> Answer:
    """Answer like a time server whose clock is `ahead_s` before this one."""

    def answer(data: bytes, sender: tuple[str, int]) -> bytes:
        now = time.time() + ahead_s + 2_208_988_800
        stamp = struct.pack("!II", int(now), int(now % 1 * 2**32))
        return bytes([0x24]) + bytes(31) + stamp + stamp

    return answer
