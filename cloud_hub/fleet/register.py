# SPDX-License-Identifier: Apache-2.0
"""The register of boxes and their certificates, as the database holds it.

It answers before a tenant is known, through the database's look-up functions; what it then changes
it changes in the tenant's name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from cloud_hub.db.ids import uuid7
from cloud_hub.db.models.fleet import Appliance, Certificate
from cloud_hub.db.session import nobody, tenant
from cloud_hub.fleet.ca import IssuedCertificate
from cloud_hub.fleet.callout import Key

_CERTIFICATE = text("SELECT * FROM app.certificate(:serial)")
_ORGANIZATIONS = text(
    "SELECT box.id, found.organization_id, found.state FROM unnest(CAST(:ids AS uuid[])) AS box(id)"
    " CROSS JOIN LATERAL app.appliance(box.id) AS found"
)
_REVOKED = text("SELECT appliance_id, serial FROM app.revoked_certificates(:since)")


@dataclass(frozen=True, slots=True)
class Registered:
    """What the register knows of a certificate."""

    organization_id: UUID
    box_id: UUID
    active: bool
    """The box is not retired and the certificate is not revoked."""
    public_key_sha256: bytes


class DatabaseRegister:
    """Answers the broker's questions from PostgreSQL (role `trunkline_api`).

    Args:
        engine: of the API role: it may revoke what has run out.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, serial: str) -> Registered | None:
        """Return what is known of a certificate, by its serial number."""
        async with nobody(self._engine) as session:
            row = (await session.execute(_CERTIFICATE, {"serial": serial})).one_or_none()
        if row is None:
            return None
        return Registered(
            row.organization_id,
            row.appliance_id,
            row.revoked_at is None and row.appliance_state == "active",
            bytes(row.public_key_sha256),
        )

    async def admits(self, box_id: str, serial: str) -> bool:
        """Say whether this certificate of this box is known and not revoked.

        A box that comes with its newer certificate needs those no more that have run out: they are
        revoked, or an old key could still be renewed. Those not yet run out stay, for a box
        restored from a backup.
        """
        found = await self.find(serial)
        if found is None or not found.active or str(found.box_id) != box_id:
            return False
        async with tenant(self._engine, found.organization_id) as session:
            this = select(Certificate.id).where(Certificate.serial == serial).scalar_subquery()
            await session.execute(
                update(Certificate)
                .where(
                    Certificate.appliance_id == found.box_id,
                    Certificate.id < this,
                    Certificate.not_after < datetime.now(UTC),
                    Certificate.revoked_at.is_(None),
                )
                .values(revoked_at=datetime.now(UTC), revoked_reason="superseded")
            )
        return True

    async def revoked_since(self, since: datetime) -> list[Key]:
        """Return the keys that lost their last certificate at or after `since`."""
        async with nobody(self._engine) as session:
            rows = (await session.execute(_REVOKED, {"since": since})).all()
        keys = set()
        for row in rows:
            found = await self.find(row.serial)
            if found is not None:
                keys.add(Key(str(found.box_id), found.public_key_sha256))
        return list(await self.not_admitted(keys))

    async def not_admitted(self, keys: Iterable[Key]) -> set[Key]:
        """Return those of `keys` that have no certificate, or none that is not revoked."""
        asked = set(keys)
        boxes = {UUID(key.box_id) for key in asked}
        async with nobody(self._engine) as session:
            rows = (await session.execute(_ORGANIZATIONS, {"ids": list(boxes)})).all()
        by_tenant: dict[UUID, list[UUID]] = defaultdict(list)
        for row in rows:
            if row.state == "active":
                by_tenant[row.organization_id].append(row.id)
        good: set[Key] = set()
        for organization_id, ids in by_tenant.items():
            async with tenant(self._engine, organization_id) as session:
                found = await session.execute(
                    select(Certificate.appliance_id, Certificate.public_key_sha256).where(
                        Certificate.appliance_id.in_(ids), Certificate.revoked_at.is_(None)
                    )
                )
                good |= {Key(str(box_id), bytes(digest)) for box_id, digest in found}
        return asked - good


async def record(
    session: AsyncSession, organization_id: UUID, box_id: UUID, issued: IssuedCertificate
) -> None:
    """Enter a certificate in the register, in the tenant's transaction."""
    session.add(
        Certificate(
            organization_id=organization_id,
            id=uuid7(),
            appliance_id=box_id,
            serial=issued.serial,
            public_key_sha256=issued.public_key_sha256,
            pem=issued.chain_pem,
            not_before=issued.not_before,
            not_after=issued.not_after,
        )
    )
    await session.flush()


async def revoke(session: AsyncSession, box_id: UUID, reason: str) -> int:
    """Revoke all certificates of a box, in the tenant's transaction; return how many.

    The broker cuts its connection within seconds of the commit.
    """
    result = await session.execute(
        update(Certificate)
        .where(Certificate.appliance_id == box_id, Certificate.revoked_at.is_(None))
        .values(revoked_at=datetime.now(UTC), revoked_reason=reason)
        .returning(Certificate.id)
    )
    return len(result.all())


async def retire(session: AsyncSession, box_id: UUID, reason: str) -> int:
    """Take a box out of service: revoke its certificates and keep what it has sent."""
    count = await revoke(session, box_id, reason)
    await session.execute(
        update(Appliance)
        .where(Appliance.id == box_id)
        .values(state="retired", online=False, retired_at=datetime.now(UTC))
    )
    return count
