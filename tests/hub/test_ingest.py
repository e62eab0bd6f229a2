# SPDX-License-Identifier: Apache-2.0
"""From the broker into the database: once, in order, whatever comes. Real NATS, real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from nats import connect
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from appliance.wire import Ack, Batch, Presence, Refusal, new_id, topics
from cloud_hub.db.ids import uuid7
from cloud_hub.db.models.calls import Booking, Call, CallEvent, Turn, Usage
from cloud_hub.db.models.fleet import Appliance, Command, QuarantinedRow, ReportedState
from cloud_hub.db.session import create_engine, tenant
from cloud_hub.ingest.worker import CONSUMER, STREAM, Worker, prepare
from tests.hub import uplink
from tests.hub.mqtt_box import until
from tests.hub.servers import Database, Nats
from tests.hub.uplink import Stream

pytestmark = pytest.mark.slow


@dataclass
class Hub:
    """A worker, and what it told the boxes."""

    client: Client
    engine: AsyncEngine
    acks: dict[str, list[Ack]] = field(default_factory=lambda: defaultdict(list))
    refusals: dict[str, list[Refusal]] = field(default_factory=lambda: defaultdict(list))

    async def hear(self, message: Msg) -> None:
        _, box_id, _, what = message.subject.split(".")
        if what == topics.ACK:
            self.acks[box_id].append(Ack.decode(message.data))
        else:
            self.refusals[box_id].append(Refusal.decode(message.data))

    async def send(self, box_id: str, batch: Batch) -> None:
        await self.raw(box_id, batch.stream, batch.encode())

    async def raw(self, box_id: str, stream: str, payload: bytes) -> None:
        await self.client.jetstream().publish(topics.subject(topics.up(box_id, stream)), payload)

    async def acked(self, stream: Stream, seq: int) -> None:
        def told() -> bool:
            return any(
                ack.seq == seq and ack.epoch == stream.epoch and ack.stream == stream.name
                for ack in self.acks[stream.box_id]
            )

        await until(told, f"the acknowledgement of {seq}")

    async def all_of(self, organization: UUID, what: Any) -> list[Any]:
        async with tenant(self.engine, organization) as session:
            return list((await session.execute(select(what))).scalars())

    async def count(self, organization: UUID, what: Any) -> int:
        async with tenant(self.engine, organization) as session:
            return int(await session.scalar(select(func.count()).select_from(what)) or 0)


@pytest.fixture
async def hub(
    nats: Nats, api_engine: AsyncEngine, ingest_engine: AsyncEngine
) -> AsyncIterator[Hub]:
    client = await connected(nats)
    await prepare(client.jetstream())
    await client.jetstream().purge_stream(STREAM)
    hub = Hub(client, api_engine)
    await client.subscribe("b.*.down.>", cb=hub.hear)
    worker = Worker(await connected(nats), ingest_engine)
    working = asyncio.create_task(worker.run())
    yield hub
    worker.stop()
    await working
    await client.close()


async def connected(server: Nats) -> Client:
    return await connect(server.url)


@pytest.fixture
async def organization(api_engine: AsyncEngine) -> UUID:
    return await uplink.organization(api_engine)


@pytest.fixture
async def stream(api_engine: AsyncEngine, organization: UUID) -> Stream:
    return Stream(await uplink.box(api_engine, organization))


async def test_a_whole_call_is_stored_as_it_was(
    hub: Hub, stream: Stream, organization: UUID
) -> None:
    call_id = stream.call(turns=4)
    await hub.send(stream.box_id, stream.batch())
    await hub.acked(stream, len(stream.rows))
    (call,) = await hub.all_of(organization, Call)
    assert str(call.id) == call_id
    assert str(call.appliance_id) == stream.box_id
    assert (call.status, call.cause, call.agent_name) == ("ended", "caller hung up", "reception")
    assert (call.duration_ms, call.turn_count) == (60_500, 4)
    assert (call.latency_p50_ms, call.latency_p95_ms) == (401, 403)
    turns = await hub.all_of(organization, Turn)
    assert [turn.text for turn in sorted(turns, key=lambda t: t.seq)] == [
        f"line {n}" for n in range(4)
    ]
    assert await hub.count(organization, CallEvent) == 4
    usage = await hub.all_of(organization, Usage)
    assert sum(each.quantity for each in usage) == 42
    assert {each.agent_name for each in usage} == {"reception"}


async def test_what_comes_twice_is_stored_once(
    hub: Hub, stream: Stream, organization: UUID
) -> None:
    stream.call()
    for _ in range(5):
        await hub.send(stream.box_id, stream.batch())
    await hub.send(stream.box_id, stream.batch(first=3))
    stream.call()
    await hub.send(stream.box_id, stream.batch())  # the old rows again, and new ones
    await hub.acked(stream, len(stream.rows))
    assert await hub.count(organization, Call) == 2
    assert await hub.count(organization, Turn) == 4
    assert sum(each.quantity for each in await hub.all_of(organization, Usage)) == 84


async def test_a_gap_is_answered_with_how_far_the_hub_is(
    hub: Hub, stream: Stream, organization: UUID
) -> None:
    for _ in range(4):
        stream.call()
    await hub.send(stream.box_id, stream.batch(1, 9))
    await hub.acked(stream, 9)
    before = len(hub.acks[stream.box_id])
    await hub.send(stream.box_id, stream.batch(19, 27))
    await until(lambda: len(hub.acks[stream.box_id]) > before, "an answer to the gap")
    assert hub.acks[stream.box_id][-1].seq == 9
    assert await hub.count(organization, Call) == 1
    await hub.send(stream.box_id, stream.batch(10))
    await hub.acked(stream, 36)
    assert await hub.count(organization, Call) == 4


async def test_batches_in_the_wrong_order_find_their_place(
    hub: Hub, stream: Stream, organization: UUID
) -> None:
    for _ in range(5):
        stream.call()
    for first in (37, 28, 19, 10, 1):
        await hub.send(stream.box_id, stream.batch(first, first + 8))

    async def complete() -> bool:
        at = max((ack.seq for ack in hub.acks[stream.box_id]), default=0)
        if at < 45:
            await hub.send(stream.box_id, stream.batch(at + 1))  # as a box does that is told so
            await asyncio.sleep(0.3)
        return at == 45

    await until(complete, "all rows")
    assert await hub.count(organization, Call) == 5
    assert await hub.count(organization, Usage) == 10


async def test_a_question_is_answered(hub: Hub, stream: Stream) -> None:
    await hub.send(stream.box_id, stream.batch())
    await hub.acked(stream, 0)
    stream.call()
    await hub.send(stream.box_id, stream.batch())
    await hub.acked(stream, 9)


async def test_rows_that_no_table_can_hold_are_set_aside_and_stop_nothing(
    hub: Hub, stream: Stream, organization: UUID
) -> None:
    stream.put("call.began", call_id=new_id(), agent="a", started_at=uplink.AT, caller="\x00evil")
    stream.put("hologram", size=[1, {"deep": None}])
    stream.put("call.turn", call_id="x")
    stream.put("usage", call_id="c", provider="p", kind="k", unit="tokens", quantity=2**70)
    stream.put("call.event", call_id=new_id(), seq=2**65, t_ms=0, kind="x")
    stream.put("call.event", call_id=new_id(), seq=0, t_ms=0, kind="x", data={"s": "\ud800"})
    stream.put("call.event", call_id=new_id(), seq=0, t_ms=0, kind="x", data={"n": float("nan")})
    stream.put("usage", call_id="c", provider="p", kind="k", unit="tokens", quantity=-1)
    stream.put("dropped", kind="call.event", reason="full", size=9)
    stream.call()
    await hub.raw(stream.box_id, "calls", as_sent(stream))
    await hub.acked(stream, len(stream.rows))
    kept = await hub.all_of(organization, QuarantinedRow)
    assert sorted((row.seq, row.reason) for row in kept) == [
        (1, "malformed"),
        (2, "unknown"),
        (3, "malformed"),
        (4, "malformed"),
        (5, "malformed"),
        (6, "malformed"),
        (7, "malformed"),
        (8, "malformed"),
        (9, "lost"),
    ]
    assert next(row.data for row in kept if row.seq == 2) == {"size": [1, {"deep": None}]}
    assert await hub.count(organization, Turn) == 2


def as_sent(stream: Stream) -> bytes:
    """What a box without scruples sends: JSON that pydantic would not have written."""
    batch = stream.batch()
    document = batch.model_dump(exclude_none=True)
    return json.dumps(document).encode()


async def test_messages_that_cannot_be_read_are_refused_and_the_next_one_is_applied(
    hub: Hub, stream: Stream, organization: UUID
) -> None:
    stream.call()
    good = stream.batch()
    for payload in (
        b"",
        b"nonsense",
        b"x\x9c broken",
        b'{"v":"1.0"}',
        b"[" * 100_000,
        good.model_copy(update={"stream": "fleet"}).encode(),
        good.model_copy(update={"first": 2**63, "rows": ()}).encode(),
    ):
        await hub.raw(stream.box_id, "calls", payload)
    await hub.raw(stream.box_id, "calls", good.model_copy(update={"v": "9.0"}).encode())
    await hub.send(stream.box_id, good)
    await hub.acked(stream, len(stream.rows))
    codes = [refusal.code for refusal in hub.refusals[stream.box_id]]
    assert codes == ["malformed"] * 7 + ["version"]
    assert hub.refusals[stream.box_id][-1].supported == (1,)


async def test_a_box_that_nobody_has_is_told_so(hub: Hub) -> None:
    stream = Stream(new_id())
    stream.call()
    await hub.send(stream.box_id, stream.batch())
    await until(lambda: hub.refusals[stream.box_id], "a refusal")
    assert hub.refusals[stream.box_id][0].code == "unknown_box"
    assert not hub.acks[stream.box_id]


async def test_boxes_of_two_organizations_cannot_touch_each_others_calls(
    hub: Hub, stream: Stream, organization: UUID, api_engine: AsyncEngine
) -> None:
    other = await uplink.organization(api_engine)
    foreign = Stream(await uplink.box(api_engine, other))
    colleague = Stream(await uplink.box(api_engine, organization))
    call_id = stream.call()
    await hub.send(stream.box_id, stream.batch())
    await hub.acked(stream, 9)
    for evil in (foreign, colleague):
        evil.call(call_id=call_id, turns=1)
        evil.put("call.ended", call_id=call_id, cause="stolen", ended_at=uplink.AT)
        evil.put("organization", organization_id=str(organization))
        await hub.send(evil.box_id, evil.batch())
        await hub.acked(evil, len(evil.rows))
    (call,) = await hub.all_of(organization, Call)
    assert (call.cause, str(call.appliance_id)) == ("caller hung up", stream.box_id)
    assert await hub.count(organization, Turn) == 2
    (theirs,) = await hub.all_of(other, Call)
    assert theirs.cause == "stolen"
    kept = await hub.all_of(organization, QuarantinedRow)
    assert {str(row.appliance_id) for row in kept} == {colleague.box_id}
    assert len(kept) == 9


async def test_a_new_life_of_a_box_waits_for_the_end_of_the_one_before(
    hub: Hub, stream: Stream, organization: UUID
) -> None:
    stream.call()
    later = stream.next_epoch()
    later.call()
    await hub.send(stream.box_id, later.batch())
    await hub.acked(stream, 0)  # the answer speaks of the epoch that is missing
    assert await hub.count(organization, Call) == 0
    await hub.send(stream.box_id, stream.batch())
    await hub.send(stream.box_id, later.batch())
    await hub.acked(later, 9)
    assert await hub.count(organization, Call) == 2


async def test_what_the_box_gave_up_is_noted_as_lost(
    hub: Hub, stream: Stream, organization: UUID
) -> None:
    for _ in range(3):
        stream.call()
    await hub.send(stream.box_id, stream.batch(13, floor=13))
    await hub.acked(stream, 27)
    kept = await hub.all_of(organization, QuarantinedRow)
    assert [(row.reason, row.data) for row in kept] == [("lost", {"from": 1, "to": 12})]
    calls = {
        call.metadata_.get("beginning_lost", False) for call in await hub.all_of(organization, Call)
    }
    assert calls == {True, False}


async def test_the_state_of_a_box_is_the_newest_that_it_told(
    hub: Hub, stream: Stream, organization: UUID
) -> None:
    fleet = Stream(stream.box_id, "fleet")
    fleet.put("state.reported", version=1, status="applied", state={"software": "0.1"})
    fleet.put("health", cpu_percent=7.5, calls=2, clock_skew_ms=-40)
    fleet.put("state.reported", version=2, status="refused", errors=["no such voice"])
    fleet.put("health", cpu_percent=9.5, calls=3)
    await hub.send(stream.box_id, fleet.batch())
    await hub.acked(fleet, 4)
    (state,) = await hub.all_of(organization, ReportedState)
    assert (state.version, state.status, state.errors) == (
        2,
        "refused",
        ["no such voice"],
    )
    (appliance,) = await hub.all_of(organization, Appliance)
    assert appliance.health["cpu_percent"] == 9.5
    assert appliance.last_seen_at is not None


async def test_the_result_of_a_command_reaches_the_command_of_that_box_alone(
    hub: Hub, stream: Stream, organization: UUID, api_engine: AsyncEngine
) -> None:
    other = Stream(await uplink.box(api_engine, organization), "fleet")
    command_id = uuid7()
    async with tenant(api_engine, organization) as session:
        session.add(
            Command(
                organization_id=organization,
                id=command_id,
                appliance_id=UUID(stream.box_id),
                kind="test_call",
                status="sent",
                expires_at=datetime.now(UTC) + timedelta(hours=1),
            )
        )
    other.put("command.result", id=str(command_id), status="failed", detail="forged")
    await hub.send(other.box_id, other.batch())
    await hub.acked(other, 1)
    (command,) = await hub.all_of(organization, Command)
    assert command.status == "sent"
    fleet = Stream(stream.box_id, "fleet")
    fleet.put("command.result", id=str(command_id), status="done", output={"answered": True})
    await hub.send(stream.box_id, fleet.batch())
    await hub.acked(fleet, 1)
    (command,) = await hub.all_of(organization, Command)
    assert (command.status, command.result["output"]) == ("done", {"answered": True})


async def test_a_broker_that_lost_everything_is_set_up_again(hub: Hub, stream: Stream) -> None:
    js = hub.client.jetstream()
    await js.delete_stream(STREAM)

    async def is_back() -> bool:
        try:
            return bool((await js.consumer_info(STREAM, CONSUMER)).name)
        except NotFoundError:
            return False

    await until(is_back, "stream and consumer to be made again", 30)
    stream.call()
    await hub.send(stream.box_id, stream.batch())
    await hub.acked(stream, 9)


async def test_a_booking_is_kept_once(hub: Hub, stream: Stream, organization: UUID) -> None:
    booked = {
        "idempotency_key": "k1",
        "date": "2026-12-01",
        "time": "10:30",
        "name": "Ms. Li",
        "call_id": new_id(),
        "created_at": uplink.AT,
    }
    stream.put("booking", **booked)
    stream.put("booking", **booked)
    await hub.send(stream.box_id, stream.batch())
    await hub.acked(stream, 2)
    assert [each.name for each in await hub.all_of(organization, Booking)] == ["Ms. Li"]


async def test_a_stale_last_will_does_not_take_a_box_offline(
    hub: Hub, stream: Stream, organization: UUID
) -> None:
    async def tell(session: str, online: bool) -> None:
        told = Presence(session=session, online=online, at=uplink.AT, software="0.2")
        await hub.raw(stream.box_id, topics.PRESENCE, told.encode())

    async def is_online() -> bool:
        (appliance,) = await hub.all_of(organization, Appliance)
        return bool(appliance.online)

    first, second = new_id(), new_id()
    await tell(first, True)
    await until(is_online, "the box to be online")
    await tell(second, True)
    await tell(first, False)
    stream.call()
    await hub.send(stream.box_id, stream.batch())
    await hub.acked(stream, 9)
    assert await is_online()
    await tell(second, False)

    async def is_offline() -> bool:
        return not await is_online()

    await until(is_offline, "the box to be offline")


async def test_two_workers_and_ten_boxes_that_repeat_themselves_store_everything_once(
    hub: Hub, nats: Nats, ingest_engine: AsyncEngine, api_engine: AsyncEngine
) -> None:
    second = Worker(await connected(nats), ingest_engine)
    working = asyncio.create_task(second.run())
    organizations = [await uplink.organization(api_engine) for _ in range(2)]
    streams = [
        Stream(await uplink.box(api_engine, organizations[number % 2])) for number in range(10)
    ]
    for stream in streams:
        for _ in range(10):
            stream.call()
    for first in range(1, 90, 9):
        for stream in streams:
            for _ in range(2):
                await hub.send(stream.box_id, stream.batch(first, first + 8))

    async def complete() -> bool:
        done = True
        for stream in streams:
            at = max((ack.seq for ack in hub.acks[stream.box_id]), default=0)
            if at < 90:
                done = False
                await hub.send(stream.box_id, stream.batch(at + 1))
        if not done:
            await asyncio.sleep(0.5)
        return done

    await until(complete, "all rows of all boxes", 60)
    second.stop()
    await working
    for organization in organizations:
        assert await hub.count(organization, Call) == 50
        assert await hub.count(organization, Turn) == 100
        assert sum(each.quantity for each in await hub.all_of(organization, Usage)) == 50 * 42


async def test_while_the_database_refuses_nothing_is_lost(
    hub: Hub,
    stream: Stream,
    organization: UUID,
    api_engine: AsyncEngine,
    hub_database: Database,
    caplog: pytest.LogCaptureFixture,
) -> None:
    owner = create_engine(hub_database.dsn("trunkline_owner"))
    stream.call()
    async with owner.begin() as connection:
        await connection.execute(text("ALTER TABLE turns RENAME TO turns_away"))
    await hub.send(stream.box_id, stream.batch())
    await until(lambda: "given back" in caplog.text, "the worker to fail")
    async with owner.begin() as connection:
        await connection.execute(text("ALTER TABLE turns_away RENAME TO turns"))
    await owner.dispose()
    await hub.acked(stream, 9)
    assert await hub.count(organization, Turn) == 2
