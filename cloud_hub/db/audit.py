# SPDX-License-Identifier: Apache-2.0
"""The audit log: what was done, by whom, in a chain that shows when a link was changed.

The database itself numbers and hashes each entry (a trigger), so no process can write one out of
order or leave one out. What is hashed, for a verifier in any language: SHA-256 over the previous
entry's hash (32 bytes; the hash of nothing before the first) and the UTF-8 text of the fields
organization_id, seq, at (milliseconds since 1970), actor_kind, actor_id, action, target_kind,
target_id, detail (as PostgreSQL prints jsonb), request_id, ip, each written as its length in bytes,
a colon, and itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import Text, cast, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from cloud_hub.db.models import AuditEntry, AuditHead

ActorKind = Literal["user", "api_key", "appliance", "system"]
GENESIS: Final = hashlib.sha256(b"").digest()
_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Chain:
    """What a verification found.

    Attributes:
        entries: how many links were read and right.
        head: the hash of the last right one: publish it elsewhere, and pass it as `anchors` later.
        broken_at: the number of the first link that is wrong or missing, None when all is well.
    """

    entries: int
    head: bytes
    broken_at: int | None

    @property
    def intact(self) -> bool:
        """No link was changed, added, or removed."""
        return self.broken_at is None


async def append(
    session: AsyncSession,
    organization_id: UUID,
    *,
    action: str,
    actor_kind: ActorKind,
    actor_id: str = "",
    target_kind: str = "",
    target_id: str = "",
    detail: Mapping[str, Any] | None = None,
    request_id: str = "",
    ip: str = "",
) -> None:
    """Write an entry, in the transaction of the deed: both happen, or neither.

    Entries of one organization wait for each other until the end of the transaction: write the
    entry last.
    """
    await session.execute(
        insert(AuditEntry).values(
            organization_id=organization_id,
            action=action,
            actor_kind=actor_kind,
            actor_id=actor_id,
            target_kind=target_kind,
            target_id=target_id,
            detail=dict(detail or {}),
            request_id=request_id,
            ip=ip,
        )
    )


async def verify(
    session: AsyncSession, organization_id: UUID, anchors: Mapping[int, bytes] | None = None
) -> Chain:
    """Recompute an organization's chain.

    `anchors` are hashes by number that were published before: they catch a chain that was
    written anew as a whole, by somebody who owns the database.
    """
    anchors = anchors or {}
    entries, head = 0, GENESIS
    while page := await _page(session, organization_id, after=entries):
        for row in page:
            expected = _hash(head, row)
            if (row.seq, row.prev_hash, row.hash) != (entries + 1, head, expected):
                return Chain(entries, head, broken_at=entries + 1)
            if anchors.get(row.seq, expected) != expected:
                return Chain(entries, head, broken_at=row.seq)
            entries, head = row.seq, expected
    end = await session.get(AuditHead, organization_id)
    missing = entries < max((end.seq if end else 0), *anchors, 0)
    differs = end is not None and end.seq == entries and end.hash != head
    return Chain(entries, head, broken_at=entries + 1 if missing or differs else None)


async def _page(session: AsyncSession, organization_id: UUID, *, after: int) -> Sequence[Any]:
    entry = AuditEntry
    rows = await session.execute(
        select(
            entry.organization_id,
            entry.seq,
            entry.at,
            entry.actor_kind,
            entry.actor_id,
            entry.action,
            entry.target_kind,
            entry.target_id,
            cast(entry.detail, Text).label("detail"),
            entry.request_id,
            entry.ip,
            entry.prev_hash,
            entry.hash,
        )
        .where(entry.organization_id == organization_id, entry.seq > after)
        .order_by(entry.seq)
        .limit(_PAGE)
    )
    return rows.all()


def _hash(previous: bytes, row: Any) -> bytes:
    milliseconds = round(row.at.timestamp() * 1000)
    fields = (
        str(row.organization_id),
        str(row.seq),
        str(milliseconds),
        row.actor_kind,
        row.actor_id,
        row.action,
        row.target_kind,
        row.target_id,
        row.detail,
        row.request_id,
        row.ip,
    )
    framed = (str(len(encoded)).encode() + b":" + encoded for encoded in map(str.encode, fields))
    return hashlib.sha256(previous + b"".join(framed)).digest()
