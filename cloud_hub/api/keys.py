# SPDX-License-Identifier: Apache-2.0
"""API keys: made by people for programs, never able to do more than who made them."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import AfterValidator, Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from cloud_hub.api.deeds import Done, Reading, Seen, Writing, shown, stale
from cloud_hub.api.door import Who
from cloud_hub.api.fields import Body, Instant, Moment, Name, View
from cloud_hub.api.pages import CursorText, Limit, Page, page
from cloud_hub.api.problems import ProblemError, missing, wrong_field
from cloud_hub.auth.operations import SCOPES, scopes_of
from cloud_hub.auth.secrets import KeyText, digest
from cloud_hub.db.models import ApiKey

router = APIRouter(tags=["keys"])


def _network(value: str) -> str:
    return str(ipaddress.ip_network(value, strict=False))


def _scope(value: str) -> str:
    if value not in SCOPES:
        raise ValueError(f"not a scope; there are: {', '.join(SCOPES)}")
    return value


Network = Annotated[
    str, Field(min_length=2, max_length=49, examples=["192.0.2.0/24"]), AfterValidator(_network)
]
"""An address or a network, IPv4 or IPv6."""
Scope = Annotated[
    str, AfterValidator(_scope), Field(json_schema_extra={"enum": list(SCOPES)}, max_length=64)
]


class KeyView(View):
    """A key, without its secret."""

    id: UUID
    name: str
    prefix: str = Field(description="The part of the key that is public")
    scopes: list[str]
    allowed_networks: list[str] = Field(description="Empty allows any address")
    created_by: UUID | None
    created_at: Moment
    expires_at: Moment | None
    last_used_at: Moment | None = Field(description="To the minute")
    revoked_at: Moment | None
    version: int


class NewKey(Body):
    """A key to be made."""

    name: Name = Field(examples=["CRM export"])
    scopes: list[Scope] = Field(min_length=1, max_length=len(SCOPES), examples=[["calls:read"]])
    allowed_networks: list[Network] = Field([], max_length=50)
    expires_at: Instant | None = None


class KeyMade(KeyView):
    """With the key itself, shown once."""

    key: str


class KeyChange(Body):
    """What can change of a key; more scopes need a new one."""

    name: Name | None = None
    allowed_networks: list[Network] | None = Field(None, max_length=50)


@router.get("/keys", operation_id="list_keys")
async def list_keys(desk: Reading, limit: Limit = 50, cursor: CursorText = None) -> Page[KeyView]:
    """List keys, oldest first, revoked ones too."""
    async with desk.reading() as session:
        return await page(
            session,
            select(ApiKey),
            ApiKey.id,
            KeyView.model_validate,
            cursors=desk.cursors("keys"),
            cursor=cursor,
            limit=limit,
        )


@router.post("/keys", operation_id="create_key", status_code=201, response_model=KeyMade)
async def create_key(body: NewKey, desk: Writing) -> Response:
    """Make a key. It can be given what the role of who makes it may do, and no more."""
    excess = sorted(set(body.scopes) - scopes_of(desk.who.role))
    if excess:
        detail = f"the role {desk.who.role} may not give: {', '.join(excess)}"
        raise ProblemError(403, "forbidden", detail)
    if body.expires_at is not None and body.expires_at <= datetime.now(UTC):
        raise wrong_field("/expires_at", "this is in the past")

    async def deed(session: AsyncSession) -> Done:
        key = KeyText.new()
        row = ApiKey(
            organization_id=desk.who.organization,
            name=body.name,
            prefix=key.prefix,
            secret_hash=digest(key.secret),
            scopes=sorted(set(body.scopes)),
            allowed_networks=body.allowed_networks,
            created_by=desk.who.user_id,
            expires_at=body.expires_at,
        )
        session.add(row)
        await session.flush()
        await session.refresh(row)
        view = KeyMade(key=str(key), **KeyView.model_validate(row).model_dump())
        return _done(row, view, "key.create", 201)

    return await desk.perform(deed)


@router.get("/keys/{key_id}", operation_id="get_key", response_model=KeyView)
async def get_key(key_id: UUID, desk: Reading) -> Response:
    """One key."""
    async with desk.reading() as session:
        row = await _row(session, key_id)
    return shown(KeyView.model_validate(row), row.version)


@router.patch("/keys/{key_id}", operation_id="update_key", response_model=KeyView)
async def update_key(key_id: UUID, body: KeyChange, seen: Seen, desk: Writing) -> Response:
    """Rename a key, or change from where it may be used."""

    async def deed(session: AsyncSession) -> Done:
        row = await _own(session, key_id, desk.who)
        if row.version != seen:
            raise stale()
        row.name = row.name if body.name is None else body.name
        if body.allowed_networks is not None:
            row.allowed_networks = body.allowed_networks
        row.version += 1
        await session.flush()
        return _done(row, KeyView.model_validate(row), "key.update")

    return await desk.perform(deed)


@router.delete("/keys/{key_id}", operation_id="revoke_key", status_code=204)
async def revoke_key(key_id: UUID, desk: Writing) -> Response:
    """Revoke a key; its next request is refused, on every API process."""

    async def deed(session: AsyncSession) -> Done:
        row = await _own(session, key_id, desk.who)
        row.revoked_at = row.revoked_at or datetime.now(UTC)
        return Done(None, "key.revoke", ("api_key", key_id), detail={"name": row.name})

    return await desk.perform(deed)


async def _row(session: AsyncSession, key_id: UUID) -> ApiKey:
    row = await session.scalar(select(ApiKey).where(ApiKey.id == key_id))
    if row is None:
        raise missing("key")
    return row


async def _own(session: AsyncSession, key_id: UUID, who: Who) -> ApiKey:
    """A key that this person may change: their own, or as owner or admin anybody's."""
    row = await _row(session, key_id)
    if who.role not in {"owner", "admin"} and row.created_by != who.id:
        raise ProblemError(403, "forbidden", "this key was made by somebody else")
    return row


def _done(row: ApiKey, view: Any, action: str, status: int = 200) -> Done:
    return Done(
        view,
        action,
        ("api_key", row.id),
        status,
        detail={
            "name": row.name,
            "scopes": row.scopes,
            "allowed_networks": row.allowed_networks,
        },
        version=row.version,
        location=f"/v1/keys/{row.id}" if status == 201 else "",
    )
