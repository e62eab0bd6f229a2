# SPDX-License-Identifier: Apache-2.0
"""The smallest hub there can be: a JetStream consumer that applies by the rule into one SQLite file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import StreamConfig

from appliance.wire import Batch, Refusal, WireError, judge, topics

SCHEMA = """
CREATE TABLE IF NOT EXISTS positions (
    box TEXT, epoch TEXT, stream TEXT, seq INTEGER, PRIMARY KEY (box, epoch, stream));
CREATE TABLE IF NOT EXISTS facts (
    id INTEGER PRIMARY KEY, box TEXT, epoch TEXT, stream TEXT, seq INTEGER, kind TEXT, data TEXT);
CREATE TABLE IF NOT EXISTS lost (box TEXT, epoch TEXT, stream TEXT, first INTEGER, last INTEGER);
"""
"""`facts` has no unique key on purpose: a fact applied twice must show."""


class SmallHub:
    """One ingest worker. `running` starts and stops it."""

    def __init__(self, url: str, path: Path) -> None:
        self.url = url
        self.path = path
        self.presence: list[bytes] = []
        self.before_commit: Callable[[Batch], None] = lambda _: None
        self._client: Client

    async def send(self, box: str, what: str, payload: bytes) -> None:
        """Send to a box."""
        await self._client.publish(topics.subject(topics.down(box, what)), payload)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self._run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def database(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None)
        db.executescript(SCHEMA)
        return db

    def facts(self, kind: str = "call.event") -> list[dict[str, object]]:
        with contextlib.closing(self.database()) as db:
            rows = db.execute("SELECT data FROM facts WHERE kind = ? ORDER BY id", (kind,))
            return [json.loads(row[0]) for row in rows]

    def count(self) -> int:
        with contextlib.closing(self.database()) as db:
            return int(db.execute("SELECT count(*) FROM facts").fetchone()[0])

    async def _run(self) -> None:
        self._client = await nats.connect(
            self.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=_ignore
        )
        try:
            stream = self._client.jetstream()
            while True:
                with contextlib.suppress(NatsError, asyncio.TimeoutError, OSError):
                    await stream.add_stream(StreamConfig(name="UP", subjects=[topics.UP_SUBJECTS]))
                    subscription = await stream.pull_subscribe("", "ingest", stream="UP")
                    while True:
                        with contextlib.suppress(asyncio.TimeoutError):
                            for message in await subscription.fetch(1, timeout=0.5):
                                await self._take(message)
                await asyncio.sleep(0.05)
        finally:
            await self._client.close()

    async def _take(self, message: Msg) -> None:
        source = topics.source(message.subject)
        assert source is not None
        if source.stream == topics.PRESENCE:
            self.presence.append(message.data)
        else:
            try:
                answer, what = self._apply(source.box_id, Batch.decode(message.data)), topics.ACK
            except WireError as error:
                answer = Refusal(code="malformed", detail=str(error)).encode()
                what = topics.REFUSAL
            await self.send(source.box_id, what, answer)
        await message.ack()

    def _apply(self, box: str, batch: Batch) -> bytes:
        with contextlib.closing(self.database()) as db:
            db.execute("BEGIN IMMEDIATE")

            def position(epoch: str) -> int:
                found = db.execute(
                    "SELECT seq FROM positions WHERE (box, epoch, stream) = (?, ?, ?)",
                    (box, epoch, batch.stream),
                ).fetchone()
                return int(found[0]) if found else 0

            earlier = position(batch.before.epoch) if batch.before else 0
            verdict = judge(batch, position(batch.epoch), earlier)
            key = (box, batch.epoch, batch.stream)
            db.executemany(
                "INSERT INTO facts (box, epoch, stream, seq, kind, data) VALUES (?, ?, ?, ?, ?, ?)",
                [(*key, row.seq, row.kind, json.dumps(row.data)) for row in verdict.rows],
            )
            if verdict.lost:
                db.execute("INSERT INTO lost VALUES (?, ?, ?, ?, ?)", (*key, *verdict.lost))
            if verdict.moves:
                db.execute("REPLACE INTO positions VALUES (?, ?, ?, ?)", (*key, verdict.ack.seq))
            self.before_commit(batch)
            db.execute("COMMIT")
        return verdict.ack.encode()


async def _ignore(_: Exception) -> None:
    """The broker is killed on purpose."""
