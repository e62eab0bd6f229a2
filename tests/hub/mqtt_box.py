# SPDX-License-Identifier: Apache-2.0
"""A box as the broker sees it: a real paho client with a certificate, for well-behaved and hostile use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion

from cloud_hub.fleet.ca import CertificateAuthority, IssuedCertificate

DEADLINE_S = 15.0


async def until(what: Callable[[], Any], why: str, deadline_s: float = DEADLINE_S) -> Any:
    """Wait until `what` returns something true, and return that. It may be async."""
    end = time.monotonic() + deadline_s
    while True:
        value = what()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < end, f"waited {deadline_s} s in vain: {why}"
        await asyncio.sleep(0.02)


def make_csr(name: str = "any") -> tuple[str, str]:
    """Return (key, signing request), both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem.decode(), csr.public_bytes(serialization.Encoding.PEM).decode()


@dataclass
class Papers:
    """Files that a box connects with."""

    box_id: str
    certificate: Path
    key: Path
    ca: Path


@dataclass
class IssuedPapers(Papers):
    """Papers whose certificate the test itself had issued."""

    issued: IssuedCertificate


def papers(
    folder: Path, authority: CertificateAuthority, box_id: str, **options: Any
) -> IssuedPapers:
    """Make a key and have the authority sign it for `box_id`."""
    folder.mkdir(parents=True, exist_ok=True)
    key, csr = make_csr()
    issued = authority.issue_box(csr, box_id, **options)
    files = IssuedPapers(box_id, folder / "c.pem", folder / "k.pem", folder / "ca.pem", issued)
    files.certificate.write_text(issued.chain_pem)
    files.key.write_text(key)
    files.ca.write_text(authority.root_pem)
    return files


@dataclass
class MqttBox:
    """One MQTT connection and all that it was told."""

    port: int
    papers: Papers
    client_id: str = ""
    will: tuple[str, bytes] | None = None
    clean: bool = False
    username: str = ""
    password: str = ""
    answers: list[str] = field(default_factory=list)
    received: list[tuple[str, bytes]] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id or self.papers.box_id,
            protocol=mqtt.MQTTv311,
            clean_session=self.clean,
            reconnect_on_failure=False,
        )
        self.client.tls_set(str(self.papers.ca), str(self.papers.certificate), str(self.papers.key))
        if self.username:
            self.client.username_pw_set(self.username, self.password)
        if self.will:
            self.client.will_set(self.will[0], self.will[1], qos=1)
        self.client.on_connect = lambda *event: self.answers.append(str(event[3]))
        self.client.on_disconnect = lambda *event: self.ends.append(str(event[3]))
        self.client.on_message = lambda _c, _u, m: self.received.append((m.topic, bytes(m.payload)))
        self._subscribed: dict[int, bool] = {}
        self.client.on_subscribe = self._on_subscribe
        self.loop = asyncio.get_running_loop()

    def _on_subscribe(self, _c: Any, _u: Any, mid: int, codes: list[Any], _p: Any) -> None:
        self._subscribed[mid] = not any(code.is_failure for code in codes)

    async def connect(self) -> str:
        """Connect; return the broker's answer: `Success`, a refusal, or how TLS failed."""
        try:
            await asyncio.to_thread(self.client.connect, "127.0.0.1", self.port, 20)
        except OSError as error:
            return type(error).__name__
        self.client.loop_start()
        await until(lambda: self.answers or self.ends, "an answer to CONNECT")
        return self.answers[0] if self.answers else self.ends[0]

    async def subscribe(self, topic: str) -> bool:
        """Subscribe with QoS 1; say whether it was granted."""
        _, mid = self.client.subscribe(topic, 1)
        assert mid is not None
        await until(lambda: mid in self._subscribed, f"SUBACK for {topic}")
        return self._subscribed[mid]

    async def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Publish with QoS 1 and wait for the PUBACK."""
        info = self.client.publish(topic, payload, 1, retain)
        await until(info.is_published, f"PUBACK for {topic}")

    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        return bool(self.client.is_connected())

    def vanish(self) -> None:
        """Cut the connection without a word, as a power cut does; the broker sends the will."""
        sock = self.client.socket()
        assert sock is not None
        sock.close()
        self.client.loop_stop()

    def close(self) -> None:
        """Disconnect."""
        self.client.disconnect()
        self.client.loop_stop()
