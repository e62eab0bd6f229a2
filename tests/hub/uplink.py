# SPDX-License-Identifier: Apache-2.0
"""What a box would send, made by hand: rows, batches, whole calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from appliance.wire import Batch, Before, Row, new_id
from cloud_hub.db.ids import uuid7
from cloud_hub.db.models import Organization
from cloud_hub.db.models.fleet import Appliance
from cloud_hub.db.session import tenant

AT = "2026-11-21T10:00:00.000Z"


@dataclass
class Stream:
    """One epoch of one stream of a box: numbers its rows and cuts batches of them."""

    box_id: str
    name: str = "calls"
    epoch: str = field(default_factory=new_id)
    rows: list[Row] = field(default_factory=list)
    before: Before | None = None

    def put(self, kind: str, /, **data: Any) -> Row:
        """Add a row."""
        row = Row(seq=len(self.rows) + 1, kind=kind, at=AT, data=data)
        self.rows.append(row)
        return row

    def batch(self, first: int = 1, last: int | None = None, floor: int = 1) -> Batch:
        """Return rows `first` to `last`, both included."""
        rows = tuple(self.rows[first - 1 : last])
        return Batch(
            epoch=self.epoch,
            stream=self.name,
            first=first,
            floor=floor,
            before=self.before,
            rows=rows,
        )

    def next_epoch(self) -> Stream:
        """Return the stream after a restart of the box."""
        before = Before(epoch=self.epoch, last=len(self.rows)) if self.rows else None
        return Stream(self.box_id, self.name, before=before)

    def call(self, turns: int = 2, call_id: str | None = None) -> str:
        """Add the rows of a whole call: 5 + 2 x turns."""
        call_id = call_id or new_id()
        self.put(
            "call.began",
            call_id=call_id,
            agent="reception",
            transport="sip",
            trunk="main",
            caller="+15550100",
            called="100",
            started_at="2026-11-21T10:00:00.000Z",
        )
        self.put("call.answered", call_id=call_id, answered_at="2026-11-21T10:00:01.000Z")
        for n in range(turns):
            self.put(
                "call.event", call_id=call_id, seq=n, t_ms=n * 100, kind="speech", data={"n": n}
            )
            self.put(
                "call.turn",
                call_id=call_id,
                n=n,
                t_ms=n * 1000,
                who="agent" if n % 2 else "caller",
                text=f"line {n}",
                latency_ms=400 + n if n % 2 else None,
            )
        self.put("usage", call_id=call_id, provider="llama", kind="llm", unit="tokens", quantity=37)
        self.put("usage", call_id=call_id, provider="llama", kind="llm", unit="tokens", quantity=5)
        self.put(
            "call.ended",
            call_id=call_id,
            cause="caller hung up",
            ended_at="2026-11-21T10:01:01.500Z",
            recording=True,
        )
        return call_id


async def organization(engine: AsyncEngine) -> UUID:
    """Make an organization (role API)."""
    organization_id = uuid7()
    async with tenant(engine, organization_id) as session:
        session.add(Organization(id=organization_id, name="Ward & Sons"))
    return organization_id


async def box(engine: AsyncEngine, organization_id: UUID) -> str:
    """Make a box of an organization (role API); return its id."""
    box_id = uuid7()
    async with tenant(engine, organization_id) as session:
        session.add(Appliance(organization_id=organization_id, id=box_id, name="box"))
    return str(box_id)
