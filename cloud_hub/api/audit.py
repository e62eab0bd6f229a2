# SPDX-License-Identifier: Apache-2.0
"""The audit log: who did what, and the proof that no entry was changed or taken out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field, StringConstraints
from sqlalchemy import select

from cloud_hub.api.deeds import Reading
from cloud_hub.api.fields import Body, Digest, Moment, View
from cloud_hub.api.pages import CursorText, Limit, Page, page
from cloud_hub.db import audit
from cloud_hub.db.models import AuditEntry

router = APIRouter(tags=["audit"])

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]


class EntryView(View):
    """One entry; its hash covers all of it and the hash of the one before."""

    seq: int
    at: Moment
    actor_kind: Literal["user", "api_key", "appliance", "system"]
    actor_id: str
    action: str = Field(examples=["agent.create"])
    target_kind: str
    target_id: str
    detail: dict[str, Any]
    request_id: str
    ip: str
    prev_hash: Digest
    hash: Digest


class EntryFilter(Body):
    """Which entries."""

    actor_id: Word | None = None
    action: Word | None = None
    target_kind: Word | None = None
    target_id: Word | None = None
    limit: Limit = 50
    cursor: CursorText = None


class ChainView(View):
    """What a verification found."""

    entries: int = Field(description="How many were read and right")
    head: Digest = Field(description="Keep it elsewhere: it vouches for all entries up to here")
    intact: bool
    broken_at: int | None = Field(description="The first entry that is wrong or missing")


@router.get("/audit", operation_id="list_audit_entries")
async def list_audit_entries(
    desk: Reading, wanted: Annotated[EntryFilter, Query()]
) -> Page[EntryView]:
    """List entries, newest first."""
    query = select(AuditEntry)
    for name in ("actor_id", "action", "target_kind", "target_id"):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(getattr(AuditEntry, name) == value)
    async with desk.reading() as session:
        return await page(
            session,
            query,
            AuditEntry.seq,
            EntryView.model_validate,
            cursors=desk.cursors("audit"),
            cursor=wanted.cursor,
            limit=wanted.limit,
            descending=True,
        )


@router.get("/audit/verification", operation_id="verify_audit_log")
async def verify_audit_log(desk: Reading) -> ChainView:
    """Compute the whole chain anew and compare."""
    async with desk.reading() as session:
        return ChainView.model_validate(await audit.verify(session, desk.who.organization))
