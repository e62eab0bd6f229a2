# SPDX-License-Identifier: Apache-2.0
"""What a box can and cannot do at the broker, tried with real clients at a real NATS server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from appliance.wire import new_id, topics
from cloud_hub.fleet.broker import Credentials, EmbeddedBroker, Node, free_port
from cloud_hub.fleet.ca import CertificateAuthority
from cloud_hub.fleet.callout import Callout, Disconnector, Key
from cloud_hub.fleet.nkeys import AccountKey
from tests.hub.mqtt_box import IssuedPapers, MqttBox, Papers, papers, until

pytestmark = pytest.mark.slow


@dataclass
class Known:
    """A register in memory."""

    serials: set[tuple[str, str]] = field(default_factory=set)
    revoked: set[Key] = field(default_factory=set)
    fails: bool = False

    async def admits(self, box_id: str, serial: str) -> bool:
        if self.fails:
            raise ConnectionError("no database")
        return (box_id, serial) in self.serials

    async def revoked_since(self, since: datetime) -> list[Key]:
        assert since <= datetime.now(UTC)
        return list(self.revoked)

    async def not_admitted(self, keys: Iterable[Key]) -> set[Key]:
        return self.revoked & set(keys)

    def revoke(self, of: IssuedPapers) -> None:
        self.serials.discard((of.box_id, of.issued.serial))
        self.revoked.add(Key(of.box_id, of.issued.public_key_sha256))


@dataclass
class Hub:
    """Broker, callout service, and what arrives at the hub."""

    folder: Path
    broker: EmbeddedBroker
    authority: CertificateAuthority
    credentials: Credentials
    known: Known
    client: Client
    arrived: list[tuple[str, bytes]] = field(default_factory=list)
    boxes: list[MqttBox] = field(default_factory=list)

    def enrol(self, **options: object) -> IssuedPapers:
        box_id = new_id()
        made = papers(self.folder / box_id, self.authority, box_id, **options)
        self.known.serials.add((box_id, made.issued.serial))
        return made

    def box(self, of: Papers, **options: object) -> MqttBox:
        box = MqttBox(self.broker.node.mqtt_port, of, **options)  # type: ignore[arg-type]
        self.boxes.append(box)
        return box

    async def connected(self, of: Papers, **options: object) -> MqttBox:
        box = self.box(of, **options)
        assert await box.connect() == "Success"
        return box

    async def marker(self, box: MqttBox) -> None:
        """Have `box` say something allowed and wait for it: what it said before has been dealt with."""
        mark = new_id().encode()
        await box.publish(topics.up(box.papers.box_id, "calls"), mark)
        await until(lambda: any(payload == mark for _, payload in self.arrived), "the marker")

    def payloads(self) -> list[bytes]:
        return [payload for _, payload in self.arrived]


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    authority = CertificateAuthority.open(tmp_path / "ca")
    credentials = Credentials.open(tmp_path / "broker.json")
    key = AccountKey.open(tmp_path / "callout.key")
    node = Node("hub", tmp_path / "nats", port=free_port(), mqtt_port=free_port())
    broker = EmbeddedBroker(node, authority, credentials, key)
    await broker.start()
    known = Known()
    callout = Callout(await broker.access.connect_callout("callout"), authority, key, known)
    await callout.start()
    client = await broker.access.connect_hub("test")
    hub = Hub(tmp_path, broker, authority, credentials, known, client)

    async def arrive(message: Msg) -> None:
        hub.arrived.append((message.subject, message.data))

    await client.subscribe("b.>", cb=arrive)
    await client.flush()
    yield hub
    for box in hub.boxes:
        box.close()
    await callout.stop()
    await client.close()
    await broker.stop()


async def test_more_than_a_thousand_boxes_can_hear_their_hub(hub: Hub) -> None:
    first, next_one = await hub.connected(hub.enrol()), await hub.connected(hub.enrol())
    assert await first.subscribe(topics.down_all(first.papers.box_id))
    stream = hub.client.jetstream()
    for n in range(1000):  # what a thousand more subscriptions are to the broker
        await stream.add_consumer(
            "$MQTT_msgs", ConsumerConfig(durable_name=f"n{n}", filter_subject=f"$MQTT.msgs.b.n{n}")
        )
    assert await next_one.subscribe(topics.down_all(next_one.papers.box_id))


async def test_a_box_talks_to_the_hub_and_hears_what_is_meant_for_it(hub: Hub) -> None:
    box = await hub.connected(hub.enrol())
    box_id = box.papers.box_id
    assert await box.subscribe(topics.down_all(box_id))
    assert await box.subscribe(f"b/{box_id}/down/#")
    await box.publish(topics.up(box_id, "calls"), b"hello")
    await until(lambda: b"hello" in hub.payloads(), "the box's message")
    await hub.client.publish(topics.subject(topics.down(box_id, "ack")), b"heard")
    await until(lambda: (topics.down(box_id, "ack"), b"heard") in box.received, "the ack")


async def test_no_topic_outside_its_own_can_be_listened_to(hub: Hub) -> None:
    mine, other = hub.enrol(), hub.enrol()
    box = await hub.connected(mine)
    for topic in [
        "#",
        "b/#",
        "+/+/down/+",
        "b/+/down/ack",
        f"b/{other.box_id}/down/#",
        f"b/{other.box_id}/down/command",
        f"b/{other.box_id}/up/calls",
        f"b/{mine.box_id}/#",
        f"b/{mine.box_id}/up/#",
        f"b/{mine.box_id}/+/ack",
        "$SYS/#",
        "$MQTT/#",
        "$JS/#",
        "_INBOX/#",
        f"$share/group/b/{other.box_id}/down/#",
    ]:
        assert not await box.subscribe(topic), topic
    await hub.client.publish(topics.subject(topics.down(other.box_id, "command")), b"secret")
    await hub.client.flush()
    assert await box.subscribe(topics.down_all(mine.box_id))
    await hub.client.publish(topics.subject(topics.down(mine.box_id, "ack")), b"mine")
    await until(lambda: box.received, "what is meant for it")
    assert [payload for _, payload in box.received] == [b"mine"]


async def test_no_topic_outside_its_own_can_be_published_to(hub: Hub) -> None:
    mine, other = hub.enrol(), hub.enrol()
    victim = await hub.connected(other)
    assert await victim.subscribe(topics.down_all(other.box_id))
    for topic in [
        topics.up(other.box_id, "calls"),
        topics.up(other.box_id, "presence"),
        topics.down(other.box_id, "command"),
        topics.down(mine.box_id, "command"),
        f"b/{mine.box_id}",
        "$JS/API/STREAM/DELETE/UP",
        "$SYS/REQ/USER/AUTH",
        "$MQTT/sess/x",
        "anything",
    ]:
        box = await hub.connected(mine)
        box.client.publish(topic, b"forged", 1)
        box.client.publish(topic, b"forged", 1, retain=True)
        again = await hub.connected(mine)  # the broker may have ended the first connection
        await hub.marker(again)
        again.close()
    assert b"forged" not in hub.payloads()
    await hub.client.publish(topics.subject(topics.down(other.box_id, "ack")), b"end")
    await until(lambda: victim.received, "the hub's message")
    assert [payload for _, payload in victim.received] == [b"end"]


async def test_a_forged_last_will_goes_nowhere(hub: Hub) -> None:
    mine, other = hub.enrol(), hub.enrol()
    box = await hub.connected(mine, will=(topics.up(other.box_id, "presence"), b"forged"))
    box.vanish()
    own = await hub.connected(mine, will=(topics.up(mine.box_id, "presence"), b"gone"))
    own.vanish()
    await until(lambda: b"gone" in hub.payloads(), "the box's own will")
    assert b"forged" not in hub.payloads()


async def test_a_retained_message_cannot_be_left_for_another_box(hub: Hub) -> None:
    mine, other = hub.enrol(), hub.enrol()
    box = await hub.connected(mine)
    box.client.publish(topics.down(other.box_id, "command"), b"forged", 1, retain=True)
    await hub.marker(await hub.connected(mine))
    victim = await hub.connected(other)
    assert await victim.subscribe(topics.down_all(other.box_id))
    await hub.client.publish(topics.subject(topics.down(other.box_id, "ack")), b"end")
    await until(lambda: victim.received, "the hub's message")
    assert [payload for _, payload in victim.received] == [b"end"]


async def test_another_boxs_client_id_can_neither_take_over_nor_wipe_its_session(hub: Hub) -> None:
    mine, other = hub.enrol(), hub.enrol()
    victim = await hub.connected(other)
    assert await victim.subscribe(topics.down_all(other.box_id))
    for clean in (False, True):
        thief = hub.box(mine, client_id=other.box_id, clean=clean)
        assert await thief.connect() == "Not authorized"
    assert await hub.box(mine, client_id="someone").connect() == "Not authorized"
    assert victim.connected
    await hub.client.publish(topics.subject(topics.down(other.box_id, "ack")), b"still here")
    await until(lambda: victim.received, "the victim's session to be whole")


async def test_who_has_no_valid_certificate_of_this_hub_is_not_let_in(hub: Hub) -> None:
    good = hub.enrol()
    foreign = papers(
        hub.folder / "foreign", CertificateAuthority.open(hub.folder / "other-ca"), good.box_id
    )
    foreign.ca.write_text(hub.authority.root_pem)
    past = datetime.now(UTC) - timedelta(days=200)
    for stranger in (foreign, hub.enrol(now=past)):
        assert await hub.box(stranger).connect() != "Success"
    unknown = papers(hub.folder / "unknown", hub.authority, new_id())
    assert await hub.box(unknown).connect() == "Not authorized"
    revoked = hub.enrol()
    hub.known.revoke(revoked)
    assert await hub.box(revoked).connect() == "Not authorized"


async def test_the_hubs_password_opens_nothing_at_the_boxes_door(hub: Hub) -> None:
    for user, password in (
        ("hub", hub.credentials.hub),
        ("system", hub.credentials.system),
        ("callout", hub.credentials.callout),
    ):
        box = hub.box(hub.enrol(), client_id="x", username=user, password=password)
        assert await box.connect() == "Not authorized"


async def test_nobody_is_let_in_while_the_register_cannot_be_asked(hub: Hub) -> None:
    of = hub.enrol()
    hub.known.fails = True
    assert await hub.box(of).connect() == "Not authorized"
    hub.known.fails = False
    assert await hub.box(of).connect() == "Success"


async def test_revocation_cuts_a_live_connection(hub: Hub) -> None:
    stays, goes = await hub.connected(hub.enrol()), await hub.connected(hub.enrol())
    system = await hub.broker.access.connect_system("disconnector")
    disconnector = Disconnector(system, hub.known, every_s=0.1)
    watching = asyncio.create_task(disconnector.run())
    assert isinstance(goes.papers, IssuedPapers)
    hub.known.revoke(goes.papers)
    await until(lambda: goes.ends, "the revoked box to be cut off")
    assert await hub.box(goes.papers).connect() == "Not authorized"
    assert stays.connected
    watching.cancel()
    await system.close()


async def test_a_sweep_finds_what_was_revoked_while_nobody_watched(hub: Hub) -> None:
    stays, goes = await hub.connected(hub.enrol()), await hub.connected(hub.enrol())
    assert isinstance(goes.papers, IssuedPapers)
    hub.known.revoke(goes.papers)
    system = await hub.broker.access.connect_system("disconnector")
    assert await Disconnector(system, hub.known).sweep() == 1
    await until(lambda: goes.ends, "the revoked box to be cut off")
    assert stays.connected
    await system.close()


async def test_a_killed_broker_comes_back_with_what_it_had_confirmed(hub: Hub) -> None:
    js = hub.client.jetstream()
    await js.add_stream(name="UP", subjects=[topics.UP_SUBJECTS])
    subject = topics.subject(topics.up(new_id(), "calls"))
    for number in range(20):
        await js.publish(subject, str(number).encode())
    first = hub.broker.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: hub.broker.pid not in {None, first}, "the broker to be started again")

    async def kept() -> int:
        try:
            return (await js.stream_info("UP")).state.messages
        except (nats.errors.Error, TimeoutError):
            return 0

    assert await until(kept, "the stream") == 20
    assert await hub.box(hub.enrol()).connect() == "Success"
