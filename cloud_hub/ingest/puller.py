# SPDX-License-Identifier: Apache-2.0
"""Messages of a JetStream consumer, asked for ahead: while some are applied the next are on their way.

A request asks for a number of messages for some seconds. It ends when they have come, or with a
status message that says how many have not. What a broker that went away owed is forgotten when the
connection is back, and at the latest when the request's time is over.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

AHEAD = 500
"""Messages asked for at once; half as many on their way are a reason to ask again."""

LASTS_S = 5.0
GRACE_S = 1.0
"""After a request's time, for its status message."""

_DELIVERED = "$JS.ACK."
"""Where a message of a stream is confirmed; a status message has no such address."""

_PASSING = frozenset({"404", "408"})
"""Statuses that end a request and nothing else: nothing there, time over."""


class ConsumerGoneError(NatsError):
    """The broker has no such consumer any more, or moved it: set it right and open again."""


class Puller:
    """One worker's share of what a consumer delivers.

    Args:
        client: connected to the broker.
        stream: and consumer: which.
    """

    def __init__(self, client: Client, stream: str, consumer: str) -> None:
        self._client = client
        self._requests = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox = client.new_inbox()
        self._subscription: Subscription | None = None
        self._here: list[Msg] = []
        self._owed = 0
        self._owed_until = 0.0
        self._connections = 0  # so often this connection was made anew
        self._fault = ""
        self._came = asyncio.Event()

    async def open(self) -> None:
        """Begin to listen."""
        self._subscription = await self._client.subscribe(
            self._inbox, cb=self._received, pending_msgs_limit=-1, pending_bytes_limit=-1
        )

    async def close(self) -> None:
        """Stop listening; what was not taken goes back to the broker for others."""
        if self._subscription is not None:
            await self._subscription.unsubscribe()
            self._subscription = None
        here, self._here = self._here, []
        for message in here:
            await message.nak()

    async def take(self, wait_s: float) -> list[Msg]:
        """Return all that has come, nothing when nothing comes in `wait_s` seconds.

        Raises:
            ConsumerGoneError: there is no such consumer.
            NatsError: the connection is closed.
        """
        await self._ask()
        if not self._here and not self._fault:
            self._came.clear()
            try:
                await asyncio.wait_for(self._came.wait(), wait_s)
            except TimeoutError:
                return []
        if not self._here and self._fault:
            raise ConsumerGoneError(self._fault)
        here, self._here = self._here, []
        return here

    async def _ask(self) -> None:
        now, connections = time.monotonic(), self._client.stats["reconnects"]
        if now > self._owed_until or connections != self._connections:
            self._owed, self._connections = 0, connections
        if self._owed > AHEAD // 2:
            return
        request = {"batch": AHEAD - self._owed, "expires": int(LASTS_S * 1e9)}
        await self._client.publish(self._requests, json.dumps(request).encode(), self._inbox)
        self._owed, self._owed_until = AHEAD, now + LASTS_S + GRACE_S

    async def _received(self, message: Msg) -> None:
        if message.reply.startswith(_DELIVERED):
            self._owed = max(0, self._owed - 1)
            self._here.append(message)
        else:
            self._ended(message.headers or {})
        self._came.set()

    def _ended(self, headers: Mapping[str, str]) -> None:
        """A request came to its end before all that it asked for had come."""
        self._owed = max(0, self._owed - int(headers.get("Nats-Pending-Messages", self._owed)))
        status = headers.get("Status", "")
        if status not in _PASSING:
            self._fault = f"{status} {headers.get('Description', '')}".strip()
