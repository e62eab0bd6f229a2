# SPDX-License-Identifier: Apache-2.0
"""A box's MQTT 3.1.1 connection for a load of thousands: QoS 1 both ways, on asyncio alone.

It speaks the packets that a box speaks (CONNECT with a last will and a lasting session, SUBSCRIBE,
PUBLISH, PUBACK, PINGREQ) and nothing more. Numbers in parentheses are sections of MQTT 3.1.1.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

KEEP_ALIVE_S = 30
CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PING = 1, 2, 3, 4, 8, 9, 12
QOS_1 = 0b0010


class MqttError(Exception):
    """The broker refused, or the connection ended."""


class Mqtt:
    """One connection.

    Args:
        heard: called with (topic, payload) of each message.
    """

    def __init__(self, heard: Callable[[str, bytes], None]) -> None:
        self._heard = heard
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._last_id = 0
        self.unconfirmed = 0
        """Messages that the broker has not confirmed yet."""
        self.fault = ""
        """Why the connection ended, or ""."""

    async def open(
        self,
        port: int,
        context: ssl.SSLContext,
        client_id: str,
        will: tuple[str, bytes],
        topic: str,
    ) -> None:
        """Connect by mutual TLS and subscribe.

        Raises:
            MqttError: the broker refuses.
            OSError: it cannot be reached, or TLS fails.
        """
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="localhost"
        )
        body = _text("MQTT") + bytes([4, 0b0000_1100]) + KEEP_ALIVE_S.to_bytes(2, "big")  # (3.1.2)
        body += _text(client_id) + _text(will[0]) + len(will[1]).to_bytes(2, "big") + will[1]
        self._send(CONNECT << 4, body)
        await self._expect(CONNACK, b"\x00")
        self._send(SUBSCRIBE << 4 | 0b0010, self._next_id() + _text(topic) + b"\x01")
        await self._expect(SUBACK, b"\x01")
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._ping())]

    def publish(self, topic: str, payload: bytes) -> None:
        """Send a message with QoS 1."""
        self.unconfirmed += 1
        self._send(PUBLISH << 4 | QOS_1, _text(topic) + self._next_id() + payload)

    async def close(self) -> None:
        """Say good-bye and close."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._writer is not None:
            if not self.fault:
                self._send(14 << 4, b"")
            self._writer.close()

    # -- packets -----------------------------------------------------------------------------

    def _send(self, head: int, body: bytes) -> None:
        assert self._writer is not None
        self._writer.write(bytes([head]) + _length(len(body)) + body)

    def _next_id(self) -> bytes:
        self._last_id = self._last_id % 65535 + 1
        return self._last_id.to_bytes(2, "big")

    async def _expect(self, kind: int, end: bytes) -> None:
        head, body = await self._packet()
        if head >> 4 != kind or not body.endswith(end):
            raise MqttError(f"packet {head >> 4} said {body.hex()}")

    async def _packet(self) -> tuple[int, bytes]:
        assert self._reader is not None
        try:
            head = (await self._reader.readexactly(1))[0]
            size = shift = 0
            while True:  # (2.2.3)
                byte = (await self._reader.readexactly(1))[0]
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    return head, await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise MqttError(f"the connection ended: {error}") from error

    async def _read(self) -> None:
        try:
            while True:
                head, body = await self._packet()
                if head >> 4 == PUBACK:
                    self.unconfirmed -= 1
                elif head >> 4 == PUBLISH:
                    size = int.from_bytes(body[:2], "big")
                    topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
                    if head & QOS_1:
                        self._send(PUBACK << 4, rest[:2])
                        rest = rest[2:]
                    self._heard(topic, rest)
        except MqttError as error:
            self.fault = str(error)

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(KEEP_ALIVE_S / 2)
            self._send(PING << 4, b"")


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def _length(size: int) -> bytes:
    encoded = bytearray()
    while True:
        size, byte = size >> 7, size & 127
        encoded.append(byte | (128 if size else 0))
        if not size:
            return bytes(encoded)
