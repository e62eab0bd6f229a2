# SPDX-License-Identifier: Apache-2.0
"""How a worker takes messages from the broker ahead. Real NATS."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from nats import connect
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, RetentionPolicy, StreamConfig

from cloud_hub.ingest.puller import AHEAD, ConsumerGoneError, Puller
from tests.hub.mqtt_box import until
from tests.hub.servers import Nats

STREAM, CONSUMER, SUBJECT = "PULLED", "pullers", "pulled"
MESSAGES = AHEAD + 200


@pytest.fixture
async def client(nats: Nats) -> AsyncIterator[Client]:
    """Connected to a broker whose stream holds more than is asked for at once."""
    client = await connect(nats.url)
    js = client.jetstream()
    await js.add_stream(
        StreamConfig(name=STREAM, subjects=[SUBJECT], retention=RetentionPolicy.WORK_QUEUE)
    )
    await js.add_consumer(STREAM, ConsumerConfig(durable_name=CONSUMER, ack_wait=60))
    for number in range(MESSAGES):
        await client.publish(SUBJECT, str(number).encode())
    await client.flush()
    yield client
    await js.delete_stream(STREAM)
    await client.close()


async def taken(puller: Puller, count: int) -> list[int]:
    """Take and confirm so many messages."""
    found: list[int] = []

    async def enough() -> bool:
        for message in await puller.take(0.2):
            found.append(int(message.data))
            await message.ack()
        return len(found) >= count

    await until(enough, f"{count} messages, {len(found)} are here")
    return found


async def test_more_than_is_asked_for_at_once_comes_whole_and_in_order(client: Client) -> None:
    puller = Puller(client, STREAM, CONSUMER)
    await puller.open()
    assert await taken(puller, MESSAGES) == list(range(MESSAGES))
    assert await puller.take(0.05) == []
    await client.publish(SUBJECT, b"1000000")
    assert await taken(puller, 1) == [1_000_000]
    await puller.close()


async def test_what_a_worker_did_not_take_goes_to_another_when_it_stops(client: Client) -> None:
    first, second = (Puller(client, STREAM, CONSUMER) for _ in range(2))
    await first.open()
    one, *others = await first.take(5)
    await one.ack()
    for each in others:
        await each.nak()
    await first.close()  # more have come meanwhile
    await second.open()
    assert sorted(await taken(second, MESSAGES - 1)) == list(range(1, MESSAGES))
    await second.close()


async def test_a_consumer_that_is_gone_is_told_by_name(client: Client) -> None:
    puller = Puller(client, STREAM, CONSUMER)
    await puller.open()
    await taken(puller, MESSAGES)
    await client.jetstream().delete_consumer(STREAM, CONSUMER)

    async def told() -> bool:
        try:
            await puller.take(0.2)
        except ConsumerGoneError:
            return True
        return False

    await until(told, "the error")
    await puller.close()
