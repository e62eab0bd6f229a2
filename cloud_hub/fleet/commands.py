# SPDX-License-Identifier: Apache-2.0
"""Commands to boxes: signed, each for one box, worth something for a limited time. Database only.

A command is sent when it is made and again when its box connects, until its result comes (by `ingest`) or it
expires; the box does each once. It is signed by `fleet.driver`, which alone has the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from appliance.wire import to_text
from appliance.wire.fleet import Command as Message
from cloud_hub.db.ids import uuid7
from cloud_hub.db.models.fleet import Appliance, Command
from cloud_hub.fleet.notices import notify
from cloud_hub.fleet.signing import SigningKey

KINDS = ("restart", "drain", "collect_logs", "rotate", "test_call", "capacity_test")
LIFETIME = timedelta(minutes=15)
LONGEST = timedelta(days=7)


class CommandRefusedError(Exception):
    """A command cannot be given; the text is for a person."""


async def give(
    session: AsyncSession,
    organization_id: UUID,
    box_id: UUID,
    kind: str,
    parameters: Mapping[str, Any],
    *,
    lifetime: timedelta = LIFETIME,
    created_by: str = "",
) -> UUID:
    """Make a command; `fleet.driver` signs and sends it once this is committed. Returns its id.

    Raises:
        CommandRefusedError: the kind is unknown, the box is not in service, or the lifetime is too long.
    """
    if kind not in KINDS:
        raise CommandRefusedError(f"there is no command {kind!r}; there are {', '.join(KINDS)}")
    if not timedelta(0) < lifetime <= LONGEST:
        raise CommandRefusedError(f"a command lives at most {LONGEST.days} days")
    state = await session.scalar(select(Appliance.state).where(Appliance.id == box_id))
    if state != "active":
        raise CommandRefusedError("there is no such box in service")
    now = datetime.now(UTC)
    message = Message(
        id=str(uuid7()),
        box_id=str(box_id),
        kind=kind,
        parameters=dict(parameters),
        issued_at=to_text(now),
        expires_at=to_text(now + lifetime),
    )
    session.add(
        Command(
            organization_id=organization_id,
            id=UUID(message.id),
            appliance_id=box_id,
            kind=kind,
            payload=message.model_dump(mode="json", exclude={"signature"}),
            expires_at=now + lifetime,
            created_by=created_by,
        )
    )
    await session.flush()
    await notify(session, organization_id, box_id)
    return UUID(message.id)


async def waiting(session: AsyncSession, box_id: UUID, key: SigningKey) -> list[Message]:
    """Return what a box is still to be told, signed, the oldest first; what has expired is closed."""
    now = datetime.now(UTC)
    of_box = (Command.appliance_id == box_id, Command.status.in_(("queued", "sent")))
    await session.execute(
        update(Command)
        .where(*of_box, Command.expires_at <= now)
        .values(status="expired", finished_at=now)
    )
    rows = await session.scalars(select(Command).where(*of_box).order_by(Command.id))
    return [key.sign(Message.model_validate(row.payload)) for row in rows]


async def note_sent(session: AsyncSession, command_ids: list[UUID]) -> None:
    """Note that commands went to the broker; a result that was faster stays."""
    await session.execute(
        update(Command)
        .where(Command.id.in_(command_ids), Command.status == "queued")
        .values(status="sent", sent_at=datetime.now(UTC))
    )
