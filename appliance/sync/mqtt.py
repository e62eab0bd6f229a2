# SPDX-License-Identifier: Apache-2.0
"""One MQTT connection of a box: QoS 1, a lasting session, a last will. It is not repaired but replaced."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from appliance.wire import Presence, new_id, now_text, topics

KEEP_ALIVE_S = 30
CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the hub's broker is, and who we are there.

    Attributes:
        tls: makes the context for a connection, with the certificate of that moment. None is plain TCP, for a
            broker on this machine.
    """

    host: str
    port: int
    box_id: str
    tls: Callable[[], ssl.SSLContext] | None = None


@dataclass(frozen=True, slots=True)
class Events:
    """What a connection tells; each is called on the connection's own thread.

    Attributes:
        ready: connected, and subscribed to what the hub sends.
        ended: refused or lost, with the reason.
        message: (`ack`, `desired`, ..., payload).
    """

    ready: Callable[[], None]
    ended: Callable[[str], None]
    message: Callable[[str, bytes], None]


class Connection:
    """A connection to the broker, from `open` to `close` or `Events.ended`.

    Args:
        endpoint: where.
        events: what is told.
        software: name and version, for the hub's list of boxes.
    """

    def __init__(self, endpoint: Endpoint, events: Events, software: str) -> None:
        self._endpoint = endpoint
        self._events = events
        self._software = software
        self._session = new_id()
        self._closed = False
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=endpoint.box_id,
            protocol=mqtt.MQTTv311,
            clean_session=False,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        if endpoint.tls is not None:
            context = endpoint.tls()
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            client.tls_set_context(context)
        client.will_set(self._topic(topics.PRESENCE), self._presence(online=False), qos=1)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        self._client = client

    def open(self) -> None:
        """Connect. Blocks, `CONNECT_TIMEOUT_S` at most for each of TCP and TLS.

        Raises:
            OSError: the broker cannot be reached, or TLS fails.
        """
        self._client.connect(self._endpoint.host, self._endpoint.port, KEEP_ALIVE_S)
        self._client.loop_start()

    def publish(self, stream: str, payload: bytes) -> bool:
        """Hand a message to the connection; False when that is gone. Never waits for the network."""
        return self._client.publish(self._topic(stream), payload, 1).rc == mqtt.MQTT_ERR_SUCCESS

    def close(self) -> None:
        """Say good-bye where that is still possible, and end the connection. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._client.is_connected():
            self.publish(topics.PRESENCE, self._presence(online=False))
        self._client.disconnect()
        self._client.loop_stop()

    def _topic(self, stream: str) -> str:
        return topics.up(self._endpoint.box_id, stream)

    def _presence(self, *, online: bool) -> bytes:
        presence = Presence(
            session=self._session, online=online, at=now_text(), software=self._software
        )
        return presence.encode()

    # -- on paho's thread --------------------------------------------------------------------

    def _on_connect(self, client: mqtt.Client, _: Any, __: Any, code: Any, ___: Any) -> None:
        if code.is_failure:
            self._end(f"the broker refuses the box: {code}")
        else:
            client.subscribe(topics.down_all(self._endpoint.box_id), 1)

    def _on_subscribe(self, _: Any, __: Any, ___: int, codes: Any, ____: Any) -> None:
        if any(code.is_failure for code in codes):
            self._end("the broker does not let the box hear its hub")
            return
        self.publish(topics.PRESENCE, self._presence(online=True))
        self._events.ready()

    def _on_disconnect(self, _: Any, __: Any, ___: Any, code: Any, ____: Any) -> None:
        self._end(f"the connection was lost: {code}")

    def _on_message(self, _: Any, __: Any, message: mqtt.MQTTMessage) -> None:
        self._events.message(message.topic.rpartition("/")[2], bytes(message.payload))

    def _end(self, why: str) -> None:
        if not self._closed:
            self._events.ended(why)
