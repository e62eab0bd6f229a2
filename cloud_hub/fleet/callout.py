# SPDX-License-Identifier: Apache-2.0
"""Who may connect to the broker, and the end of connections of those who no longer may.

NATS asks this service about every connection that is not one of the hub's own users. The answer
rests on the client certificate alone: its name must be the MQTT client id, and the register must
know it and not have revoked it. The permissions that go with the answer are the same for every box:
publish below `b.{id}.up`, listen below `b.{id}.down`, nothing else. No answer is a refusal, so a
dead service or database admits nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from cryptography import x509
from nats.aio.client import Client
from nats.aio.msg import Msg

from cloud_hub.fleet.broker import BOX_ACCOUNT, MAX_PAYLOAD
from cloud_hub.fleet.ca import BoxIdentity, CertificateAuthority, CertificateRefusedError
from cloud_hub.fleet.nkeys import AccountKey, TokenRefusedError, read_server_token

log = logging.getLogger(__name__)

REQUESTS = "$SYS.REQ.USER.AUTH"
AUDIENCE = "nats-authorization-request"
MAX_SUBSCRIPTIONS = 16
AT_ONCE = 16
"""Connections looked up in the register at the same time."""
SWEEP_EVERY_S = 5.0
LOOK_BACK = timedelta(minutes=5)
"""Each look for revocations reaches this far back: transactions commit later than their times say."""
COLLECT_S = 1.0
CONNECTIONS_A_PAGE = 1024


class Key(NamedTuple):
    """A box and the SHA-256 of the public key (SubjectPublicKeyInfo, DER) that it connects with."""

    box_id: str
    public_key_sha256: bytes


class Register(Protocol):
    """What the callout and the disconnector ask of the database."""

    async def admits(self, box_id: str, serial: str) -> bool:
        """Say whether this certificate of this box is known and not revoked."""

    async def revoked_since(self, since: datetime) -> list[Key]:
        """Return the keys that lost their last certificate at or after `since`."""

    async def not_admitted(self, keys: Iterable[Key]) -> set[Key]:
        """Return those of `keys` that have no certificate, or none that is not revoked."""


class Callout:
    """Answers the broker's questions. Any number may run: they share the questions.

    Args:
        client: connected as the callout user.
        authority: whose certificates count.
        key: signs the answers.
        register: knows which certificates are revoked.
    """

    def __init__(
        self, client: Client, authority: CertificateAuthority, key: AccountKey, register: Register
    ) -> None:
        self._client = client
        self._authority = authority
        self._key = key
        self._register = register
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._running: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to answer."""
        await self._client.subscribe(REQUESTS, queue="callout", cb=self._received)

    async def stop(self) -> None:
        """End the connection; questions under way go unanswered, which refuses them."""
        await self._client.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _received(self, message: Msg) -> None:
        task = asyncio.create_task(self._answer(message))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answer(self, message: Msg) -> None:
        try:
            request = read_server_token(message.data.decode(), AUDIENCE)
            question = request["nats"]
            user, server = str(question["user_nkey"]), str(question["server_id"]["id"])
        except (TokenRefusedError, KeyError, ValueError) as error:
            log.warning("a question on %s was no question: %s", REQUESTS, error)
            return
        body: dict[str, Any] = {"type": "authorization_response", "version": 2}
        try:
            async with self._slots:
                identity = await self._identify(question)
            body["jwt"] = self._key.sign(_permit(identity.box_id, user))
        except CertificateRefusedError as error:
            log.info("connection of %s refused: %s", _claimed(question), error)
            body["error"] = str(error)
        except Exception:
            log.exception("connection of %s refused", _claimed(question))
            body["error"] = "the hub cannot check this connection now"
        answer = self._key.sign({"sub": user, "aud": server, "nats": body})
        await message.respond(answer.encode())

    async def _identify(self, question: dict[str, Any]) -> BoxIdentity:
        chains = question.get("client_tls", {}).get("verified_chains")
        if not chains or question["client_info"].get("type") != "mqtt":
            raise CertificateRefusedError("boxes connect by MQTT with a client certificate")
        identity = self._authority.identify(x509.load_pem_x509_certificate(chains[0][0].encode()))
        if identity.expired:
            raise CertificateRefusedError("the certificate has expired: renew it")
        if question["client_info"].get("mqtt_id") != identity.box_id:
            raise CertificateRefusedError("the client id is not the name in the certificate")
        if not await self._register.admits(identity.box_id, identity.serial):
            raise CertificateRefusedError("the certificate is revoked")
        return identity


def _permit(box_id: str, user: str) -> dict[str, Any]:
    return {
        "sub": user,
        "aud": BOX_ACCOUNT,
        "name": box_id,
        "nats": {
            "type": "user",
            "version": 2,
            "pub": {"allow": [f"b.{box_id}.up.>"]},
            # `b/ID/down/#` also covers `b/ID/down` itself (MQTT 3.1.1, 4.7.1.2).
            "sub": {"allow": [f"b.{box_id}.down", f"b.{box_id}.down.>"]},
            "subs": MAX_SUBSCRIPTIONS,
            "data": -1,
            "payload": MAX_PAYLOAD,
            "allowed_connection_types": ["MQTT"],
        },
    }


def _claimed(question: dict[str, Any]) -> str:
    info = question.get("client_info", {})
    return f"{info.get('mqtt_id', '?')!r} at {info.get('host', '?')}"


class Disconnector:
    """Cuts live connections whose certificate has been revoked.

    The broker asks only when a box connects. This looks for new revocations every `SWEEP_EVERY_S`
    seconds, and at its start goes through all connections once, so that none is missed that was
    revoked while it was away.

    Args:
        client: connected as the system user.
        register: says what has been revoked.
    """

    def __init__(self, client: Client, register: Register, every_s: float = SWEEP_EVERY_S) -> None:
        self._client = client
        self._register = register
        self._every_s = every_s

    async def run(self) -> None:
        """Watch until cancelled."""
        since: datetime | None = None
        while True:
            begun = datetime.now(UTC)
            try:
                cut = await (self.sweep() if since is None else self.cut_revoked(since))
                since = begun - LOOK_BACK
                if cut:
                    log.warning("%d connections with revoked certificates cut", cut)
            except (
                Exception
            ):  # the database or broker may be away for a while; the next look covers it
                log.exception("revocations could not be looked up")
                since = None
            await asyncio.sleep(self._every_s)

    async def cut_revoked(self, since: datetime) -> int:
        """Cut connections of certificates revoked since `since`; return how many."""
        keys = set(await self._register.revoked_since(since))
        if not keys:
            return 0
        # One listing for all of them: each takes as long as the slowest node may.
        boxes = {key.box_id for key in keys}
        wanted = {"mqtt_client": boxes.pop()} if len(boxes) == 1 else {}
        count = 0
        async for server, connection in self._connections(wanted):
            if connection.get("type") == "mqtt" and _key(connection) in keys:
                count += await self._kick(server, connection)
        return count

    async def sweep(self) -> int:
        """Go through all connections of boxes and cut those no longer admitted; return how many."""
        found = [
            (server, connection)
            async for server, connection in self._connections({})
            if connection.get("type") == "mqtt"
        ]
        bad = await self._register.not_admitted({_key(each) for _, each in found})
        count = 0
        for server, connection in found:
            if _key(connection) in bad:
                count += await self._kick(server, connection)
        return count

    async def _kick(self, server: str, connection: dict[str, Any]) -> int:
        subject = f"$SYS.REQ.SERVER.{server}.KICK"
        await self._client.request(
            subject, json.dumps({"cid": connection["cid"]}).encode(), timeout=2
        )
        return 1

    async def _connections(
        self, wanted: dict[str, str]
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield (server id, connection) of all nodes of the cluster."""
        offset, more = 0, True
        while more:
            more = False
            question = {**wanted, "auth": True, "offset": offset, "limit": CONNECTIONS_A_PAGE}
            for answer in await self._ask_all("CONNZ", question):
                connections = answer.get("data", {}).get("connections", [])
                more = more or len(connections) == CONNECTIONS_A_PAGE
                for connection in connections:
                    yield answer["server"]["id"], connection
            offset += CONNECTIONS_A_PAGE

    async def _ask_all(self, what: str, question: dict[str, Any]) -> list[dict[str, Any]]:
        """Ask every node; nobody says how many there are, so wait until they have all had time."""
        inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(inbox)
        await self._client.publish(
            f"$SYS.REQ.SERVER.PING.{what}", json.dumps(question).encode(), reply=inbox
        )
        answers = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COLLECT_S):
                while True:
                    message = await subscription.next_msg(timeout=COLLECT_S)
                    answers.append(json.loads(message.data))
        await subscription.unsubscribe()
        return answers


def _key(connection: dict[str, Any]) -> Key:
    certificates = connection.get("tls_peer_certs") or [{}]
    return Key(
        str(connection.get("mqtt_client", "")),
        bytes.fromhex(certificates[0].get("spki_sha256", "")),
    )
