# SPDX-License-Identifier: Apache-2.0
"""A worker: takes messages from the broker, has them applied, answers the boxes. Any number may run at once.

    take -> decode -> box to organization -> one transaction an organization -> answer -> confirm
    to the broker

A message is confirmed to the broker only after its transaction has been committed, so a worker that
dies leaves its messages to the others; what it had committed already is recognised by its position.
A batch that continues what another worker still holds is given back for a moment; when it still
does not fit the box is told from where to resend.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import psycopg
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.client import JetStreamContext
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from appliance.wire import (
    SUPPORTED,
    Ack,
    Batch,
    MalformedError,
    Presence,
    Refusal,
    UnsupportedVersionError,
    WireError,
    topics,
)
from cloud_hub.db.session import nobody, tenant
from cloud_hub.ingest import statements
from cloud_hub.ingest.apply import Incoming, Outcome, apply, countable
from cloud_hub.ingest.puller import Puller

log = logging.getLogger(__name__)

STREAM = "UP"
CONSUMER = "ingest"
PORTION_BYTES = 256 << 10
"""Of one round of transactions, as sent: ten thousand rows and more of what boxes deflate."""
TAKE_WAIT_S = 0.2
"""How long a worker that is told to stop may wait for messages."""
ACK_WAIT_S = 60.0
MAX_IN_FLIGHT = 5000
KEEP_BYTES = 1 << 30
KEEP_S = 24 * 3600.0
GAP_TRIES = 3
"""Deliveries of a batch that does not fit yet, before its box is asked to resend."""
GAP_WAIT_S = 0.1
TRY_AGAIN_S = 1.0
"""After the database could not be used."""
ORGANIZATIONS_AT_ONCE = 4
KNOWN_FOR_S = 10.0
"""How long the organization of a box is remembered; a retired box is refused at most so much later."""
BUSY_AT = 20_000
"""Messages waiting beyond which boxes are asked to pause."""
PAUSE_MS = 2000


async def prepare(js: JetStreamContext, replicas: int = 1) -> None:
    """Make the stream of what boxes send and the consumer that all workers share, or set them right.

    A full stream refuses what is new: what is in it continues what has been applied, and boxes send again.
    """
    await _ensure_stream(
        js,
        StreamConfig(
            name=STREAM,
            subjects=[topics.UP_SUBJECTS],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            max_bytes=KEEP_BYTES,
            max_age=KEEP_S,
            num_replicas=replicas,
        ),
    )
    await js.add_consumer(
        STREAM,
        ConsumerConfig(
            durable_name=CONSUMER,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            max_deliver=-1,
            max_ack_pending=MAX_IN_FLIGHT,
        ),
    )


async def _ensure_stream(js: JetStreamContext, wanted: StreamConfig) -> None:
    try:
        await js.add_stream(wanted)
    except NatsError:
        await js.update_stream(wanted)


@dataclass(slots=True)
class _Message:
    raw: Msg
    box_id: UUID
    incoming: Incoming | None = None
    presence: Presence | None = None


class Worker:
    """Takes, applies and answers until it is stopped.

    Args:
        client: connected to the broker as the hub.
        engine: of the ingest role.
    """

    def __init__(self, client: Client, engine: AsyncEngine) -> None:
        self._client = client
        self._js = client.jetstream()
        self._engine = engine
        self._organizations: dict[UUID, tuple[float, UUID]] = {}
        self._slots = asyncio.Semaphore(ORGANIZATIONS_AT_ONCE)
        self._stopping = asyncio.Event()
        self.applied = 0
        """Rows applied by this worker since its start."""

    async def run(self, replicas: int = 1) -> None:
        """Work until `stop`; messages under way are finished first."""
        puller: Puller | None = None
        while not self._stopping.is_set():
            try:
                if puller is None:
                    await prepare(self._js, replicas)
                    puller = Puller(self._client, STREAM, CONSUMER)
                    await puller.open()
                messages = await puller.take(TAKE_WAIT_S)
            except NatsError as error:
                log.warning("the broker cannot be used: %s", error or type(error).__name__)
                await _closed(puller)
                puller = None
                await self._pause(TRY_AGAIN_S)
                continue
            for portion in _portions(messages):
                await self.handle(portion)
        await _closed(puller)

    def stop(self) -> None:
        """Let `run` return after the messages under way."""
        self._stopping.set()

    async def handle(self, messages: Sequence[Msg]) -> None:
        """Apply messages and answer them; never raises for what a message holds."""
        received = datetime.now(UTC)
        sources = [topics.source(message.subject) for message in messages]
        try:
            organizations = await self._organizations_of(
                {UUID(source.box_id) for source in sources if source is not None}
            )
        except (SQLAlchemyError, OSError) as error:
            await self._give_back(messages, error)
            return
        groups: dict[UUID, list[_Message]] = defaultdict(list)
        for raw, source in zip(messages, sources, strict=True):
            organization = organizations.get(UUID(source.box_id)) if source else None
            if source is None:
                await raw.term()
            elif organization is None:
                refusal = Refusal(code="unknown_box", stream=source.stream, supported=SUPPORTED)
                await self._refuse(raw, source.box_id, refusal)
            else:
                message = await self._read(raw, source, received)
                if message is not None:
                    groups[organization].append(message)
        async with asyncio.TaskGroup() as group:
            for organization, members in groups.items():
                group.create_task(self._handle_group(organization, members))

    async def _read(self, raw: Msg, source: topics.Source, received: datetime) -> _Message | None:
        box_id = UUID(source.box_id)
        try:
            if source.stream == topics.PRESENCE:
                return _Message(raw, box_id, presence=Presence.decode(raw.data))
            batch = Batch.decode(raw.data)
            if batch.stream != source.stream or not countable(batch):
                raise MalformedError("the batch does not belong on this topic")
            return _Message(raw, box_id, incoming=Incoming(box_id, batch, received))
        except WireError as error:
            why = error
        code = "version" if isinstance(why, UnsupportedVersionError) else "malformed"
        log.warning("a message of box %s on %s was refused: %s", box_id, source.stream, why)
        refusal = Refusal(
            code=code, stream=source.stream, detail=str(why)[:500], supported=SUPPORTED
        )
        await self._refuse(raw, source.box_id, refusal)
        return None

    async def _handle_group(self, organization: UUID, members: list[_Message]) -> None:
        async with self._slots:
            batches = [each for each in _in_sequence(members) if each.incoming is not None]
            try:
                await self._note_presence(organization, members)
                outcomes = await apply(
                    self._engine,
                    organization,
                    [each.incoming for each in batches if each.incoming is not None],
                )
            except (SQLAlchemyError, psycopg.Error, OSError) as error:
                self._organizations.clear()
                await self._give_back([each.raw for each in members], error)
                return
            except Exception as error:  # one organization's messages must not stop the others'
                log.exception("messages of organization %s cannot be applied", organization)
                await self._give_back([each.raw for each in members], error)
                return
        try:
            await self._answer(batches, outcomes)
        except NatsError as error:
            log.warning("answers were not sent, the broker delivers again: %s", error)

    async def _answer(self, batches: Sequence[_Message], outcomes: Sequence[Outcome]) -> None:
        answers: dict[tuple[UUID, str, str], Ack] = {}
        done = []
        for each, outcome in zip(batches, outcomes, strict=True):
            self.applied += outcome.rows
            if outcome.gap and each.raw.metadata.num_delivered < GAP_TRIES:
                await each.raw.nak(delay=GAP_WAIT_S)
                continue
            answers[each.box_id, outcome.ack.stream, outcome.ack.epoch] = outcome.ack
            done.append(each)
        waiting = max((each.raw.metadata.num_pending for each in batches), default=0)
        for (box_id, _, _), ack in answers.items():
            answer = ack if waiting < BUSY_AT else ack.model_copy(update={"pause_ms": PAUSE_MS})
            await self._tell(str(box_id), topics.ACK, answer.encode())
        for each in done:
            await each.raw.ack()

    async def _note_presence(self, organization: UUID, members: Sequence[_Message]) -> None:
        told = [each for each in members if each.presence is not None]
        if not told:
            return
        async with tenant(self._engine, organization) as session:
            for each in told:
                presence = each.presence
                assert presence is not None
                values = {"id": each.box_id, "session": presence.session}
                if presence.online:
                    values["software"] = presence.software.replace("\x00", "")
                statement = statements.ONLINE if presence.online else statements.OFFLINE
                await session.execute(statement, values)
        for each in told:
            await each.raw.ack()

    async def _organizations_of(self, boxes: set[UUID]) -> dict[UUID, UUID]:
        now = time.monotonic()
        known = {box: self._organizations.get(box) for box in boxes}
        asked = [str(b) for b, entry in known.items() if entry is None or entry[0] < now]
        if asked:
            async with nobody(self._engine) as session:
                rows = (await session.execute(statements.ORGANIZATIONS, {"ids": asked})).all()
            for box in asked:
                self._organizations.pop(UUID(box), None)
            for row in rows:
                if row.state == "active":
                    self._organizations[row.id] = (now + KNOWN_FOR_S, row.organization_id)
        return {box: self._organizations[box][1] for box in boxes if box in self._organizations}

    async def _give_back(self, messages: Sequence[Msg], error: BaseException) -> None:
        """Let the broker deliver them again: nothing of them was committed."""
        log.warning("%d messages are given back: %s", len(messages), str(error).partition("\n")[0])
        for message in messages:
            if not message.is_acked:
                await message.nak(delay=TRY_AGAIN_S)
        await self._pause(TRY_AGAIN_S)

    async def _refuse(self, raw: Msg, box_id: str, refusal: Refusal) -> None:
        await self._tell(box_id, topics.REFUSAL, refusal.encode())
        await raw.term()

    async def _tell(self, box_id: str, what: str, payload: bytes) -> None:
        await self._client.publish(topics.subject(topics.down(box_id, what)), payload)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return


async def _closed(puller: Puller | None) -> None:
    with contextlib.suppress(NatsError):
        if puller is not None:
            await puller.close()


def _portions(messages: Sequence[Msg]) -> Iterator[list[Msg]]:
    """Cut what was fetched into pieces of about `PORTION_BYTES`, so that no transaction is too long."""
    portion: list[Msg] = []
    size = 0
    for message in messages:
        portion.append(message)
        size += len(message.data)
        if size >= PORTION_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _in_sequence(members: Sequence[_Message]) -> list[_Message]:
    """Sort batches as their boxes numbered them; the broker may deliver some of them again, later.

    Epochs of a stream follow each other as they first appear.
    """
    arrived = sorted(members, key=lambda each: each.raw.metadata.sequence.stream)
    rank: dict[str, int] = {}
    for each in arrived:
        if each.incoming is not None:
            rank.setdefault(each.incoming.batch.epoch, len(rank))

    def place(each: _Message) -> tuple[int, int]:
        if each.incoming is None:
            return -1, 0
        return rank[each.incoming.batch.epoch], each.incoming.batch.first

    return sorted(arrived, key=place)
