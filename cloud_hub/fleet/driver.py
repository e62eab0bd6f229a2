# SPDX-License-Identifier: Apache-2.0
"""Tells boxes what they shall be and do, and moves rollouts on as boxes report. Any number may run.

It listens to the broker: a box that connects is told what it missed; an acknowledgement on the stream
`fleet` says that a report is committed, and the organization's rollouts are looked at; and other processes
say so when they made a deployment or a command (`notices`). What is lost on the way is told again: by the
box's next connection, and by a sweep.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from uuid import UUID

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from appliance.wire import Ack, Presence, WireError, topics
from cloud_hub.db.models.fleet import Appliance, Bundle, DesiredState, ReportedState
from cloud_hub.db.session import nobody, tenant
from cloud_hub.fleet import commands, desired, notices
from cloud_hub.fleet.bundles import announcement
from cloud_hub.fleet.signing import SigningKey

log = logging.getLogger(__name__)

SWEEP_S = 30.0
QUEUE = "fleet"
_OWNER = text("SELECT * FROM app.appliance(:box)")


class FleetDriver:
    """Runs between `start` and `stop`.

    Args:
        client: connected to the broker as the hub.
        engine: of the API role.
        key: the hub's.
    """

    def __init__(self, client: Client, engine: AsyncEngine, key: SigningKey) -> None:
        self._client = client
        self._engine = engine
        self._key = key
        self._known: set[UUID] = set()
        self._due: dict[UUID, set[UUID]] = {}
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to listen."""
        await self._client.subscribe("b.*.up.presence", QUEUE, self._on_presence)
        await self._client.subscribe("b.*.down.ack", QUEUE, self._on_ack)
        self._tasks = [
            asyncio.create_task(self._run(), name="fleet driver"),
            asyncio.create_task(notices.listen(self._engine, self.nudge), name="fleet notices"),
        ]

    async def stop(self) -> None:
        """End. The client is closed by whoever opened it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def nudge(self, organization_id: UUID, boxes: Iterable[UUID] = ()) -> None:
        """Something was committed for an organization: look at its rollouts, and tell these boxes."""
        self._known.add(organization_id)
        self._due.setdefault(organization_id, set()).update(boxes)
        self._wake.set()

    # -- what is heard -----------------------------------------------------------------------

    async def _on_presence(self, message: Msg) -> None:
        with contextlib.suppress(WireError):
            if Presence.decode(message.data).online:
                await self._heard(message.subject, tell=True)

    async def _on_ack(self, message: Msg) -> None:
        with contextlib.suppress(WireError):
            if Ack.decode(message.data).stream == topics.FLEET:
                await self._heard(message.subject, tell=False)

    async def _heard(self, subject: str, *, tell: bool) -> None:
        box_id = UUID(subject.split(".")[1])
        try:
            async with nobody(self._engine) as session:
                found = (await session.execute(_OWNER, {"box": box_id})).one_or_none()
        except (SQLAlchemyError, OSError) as error:
            log.warning("a box cannot be looked up now: %s", str(error).partition("\n")[0])
            return
        if found is not None and found.state == "active":
            self.nudge(found.organization_id, [box_id] if tell else ())

    # -- what is done ------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), SWEEP_S)
            except TimeoutError:
                for organization_id in self._known:
                    self._due.setdefault(organization_id, set()).update(
                        await self._behind(organization_id)
                    )
            self._wake.clear()
            due, self._due = self._due, {}
            for organization_id, boxes in due.items():
                try:
                    await self.work(organization_id, boxes)
                except (SQLAlchemyError, NatsError, OSError) as error:
                    log.warning("boxes will be told later: %s", str(error).partition("\n")[0])
                except Exception:  # one organization must not hold up the others
                    log.exception("the rollouts of %s cannot go on", organization_id)

    async def work(self, organization_id: UUID, boxes: Iterable[UUID] = ()) -> None:
        """Move the rollouts of an organization on, and tell its boxes.

        Raises:
            SQLAlchemyError: the database cannot be used now.
            NatsError: the broker cannot be used now; what was committed is told later.
        """
        async with tenant(self._engine, organization_id) as session:
            offered = await desired.advance(session, organization_id, self._key)
        for box_id in {*boxes, *offered}:
            await self._tell(organization_id, box_id)

    async def _tell(self, organization_id: UUID, box_id: UUID) -> None:
        async with tenant(self._engine, organization_id) as session:
            payload = await self._announcement(session, box_id)
            told = await commands.waiting(session, box_id, self._key)
        if payload is not None:
            await self._send(box_id, topics.DESIRED, payload)
        for command in told:
            await self._send(box_id, topics.COMMAND, command.encode())
        if told:
            async with tenant(self._engine, organization_id) as session:
                await commands.note_sent(session, [UUID(command.id) for command in told])

    async def _announcement(self, session: AsyncSession, box_id: UUID) -> bytes | None:
        row = (
            await session.execute(
                select(DesiredState.version, Bundle.sha256, ReportedState.version.label("reported"))
                .join(Bundle, Bundle.id == DesiredState.bundle_id)
                .outerjoin(ReportedState, ReportedState.appliance_id == DesiredState.appliance_id)
                .where(DesiredState.appliance_id == box_id)
            )
        ).one_or_none()
        if row is None or (row.reported is not None and row.reported >= row.version):
            return None
        return announcement(self._key, box_id, row.version, bytes(row.sha256)).encode()

    async def _behind(self, organization_id: UUID) -> list[UUID]:
        """Return the boxes that are there and have not taken what they shall be."""
        try:
            async with tenant(self._engine, organization_id) as session:
                found = await session.scalars(
                    select(Appliance.id)
                    .join(DesiredState, DesiredState.appliance_id == Appliance.id)
                    .outerjoin(ReportedState, ReportedState.appliance_id == Appliance.id)
                    .where(
                        Appliance.online,
                        Appliance.state == "active",
                        DesiredState.version > ReportedState.version,
                    )
                )
                return list(found)
        except (SQLAlchemyError, OSError) as error:
            log.warning("the sweep waits: %s", str(error).partition("\n")[0])
            return []

    async def _send(self, box_id: UUID, what: str, payload: bytes) -> None:
        await self._client.publish(topics.subject(topics.down(str(box_id), what)), payload)
