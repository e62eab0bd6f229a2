# SPDX-License-Identifier: Apache-2.0
"""How a route reads and changes a tenant's rows: one transaction, with its audit entry and answer.

A deed that comes with an `Idempotency-Key` is done once. The answer is kept in the transaction of
the deed, so there is no moment between the two: an equal request waits for the first one's commit
and gets the same answer; another request with the same key is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from cloud_hub.api.door import Asking, Who
from cloud_hub.api.pages import Cursors
from cloud_hub.api.problems import ProblemError
from cloud_hub.api.services import Services, services
from cloud_hub.db import audit
from cloud_hub.db.models import IdempotencyKey
from cloud_hub.db.session import tenant

KEPT = timedelta(hours=24)
_PURPOSE = "idempotency"
_ETAG = re.compile(r'^(?:W/)?"(\d{1,18})"$')

IdempotencyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=128,
        pattern=r"^[\x21-\x7e]+$",
        description="Any unique text: a repeated request with it is answered, not repeated (24 h)",
    ),
]


@dataclass(frozen=True, slots=True)
class Done:
    """What a deed came to.

    Attributes:
        body: to be shown, None for 204.
        action: for the audit log, `agent.create`; "" writes no entry.
        target: kind and id of what it was done to.
        version: of the row, for `ETag`.
        location: of what was made.
    """

    body: BaseModel | None
    action: str
    target: tuple[str, UUID | str]
    status: int = 200
    detail: Mapping[str, Any] = field(default_factory=dict)
    version: int | None = None
    location: str = ""


Deed = Callable[[AsyncSession], Awaitable[Done]]


class Desk:
    """Where a member's request is worked on."""

    def __init__(self, request: Request, who: Who, hub: Services, key: str | None) -> None:
        self.who, self.hub = who, hub
        self._request, self._key = request, key

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """One transaction in the organization's name."""
        user_id = self.who.id if self.who.kind == "user" else None
        async with tenant(self.hub.engine, self.who.organization, user_id=user_id) as session:
            yield session

    def cursors(self, of: str, within: UUID | None = None) -> Cursors:
        """Cursors of one list, which no other list and no other organization takes."""
        inner = "" if within is None else f":{within}"
        return Cursors(self.hub.master, f"{of}:{self.who.organization}{inner}")

    async def perform(self, deed: Deed) -> Response:
        """Do the deed, write the audit entry, keep the answer, commit; then answer."""
        body = await self._request.body() if self._key else b""
        async with self.reading() as session:
            if self._key and (before := await self._begin(session, body)) is not None:
                return before
            done = await deed(session)
            response = _response(done)
            if self._key:
                await self._keep(session, response)
            if done.action:
                await self.note(session, done)
        return response

    async def note(self, session: AsyncSession, done: Done) -> None:
        """Write what was done to the audit log."""
        kind, identifier = done.target
        await audit.append(
            session,
            self.who.organization,
            action=done.action,
            actor_kind="user" if self.who.kind == "user" else "api_key",
            actor_id=str(self.who.id),
            target_kind=kind,
            target_id=str(identifier),
            detail=done.detail,
            request_id=self.who.request_id,
            ip=self.who.ip,
        )

    @property
    def _name(self) -> str:
        return f"{self.who.label}:{self._key}"

    async def _begin(self, session: AsyncSession, body: bytes) -> Response | None:
        """Take the key, or return the answer that an equal request got before."""
        url = self._request.url
        line = f"{self._request.method} {url.path}?{url.query}\n".encode()
        wanted, now = hashlib.sha256(line + body).digest(), datetime.now(UTC)
        await session.execute(
            delete(IdempotencyKey).where(
                IdempotencyKey.key == self._name, IdempotencyKey.expires_at < now
            )
        )
        taken = await session.execute(
            insert(IdempotencyKey)
            .values(
                organization_id=self.who.organization,
                key=self._name,
                request_hash=wanted,
                expires_at=now + KEPT,
            )
            .on_conflict_do_nothing()  # waits while another transaction holds the same key
            .returning(IdempotencyKey.key)
        )
        if taken.one_or_none() is not None:
            return None
        row = await session.scalar(select(IdempotencyKey).where(IdempotencyKey.key == self._name))
        if row is None or row.response_status is None:
            raise ProblemError(409, "in_progress", "a request with this Idempotency-Key is at work")
        if bytes(row.request_hash) != wanted:
            raise ProblemError(
                422, "idempotency_key_reused", "this Idempotency-Key was used for another request"
            )
        content = b""
        if row.response_body:
            sealed = bytes(row.response_body)
            content = self.hub.master.open_sealed(_PURPOSE, sealed, self._name.encode())
        headers = {**row.response_headers, "Idempotent-Replayed": "true"}
        return Response(content or None, row.response_status, headers)

    async def _keep(self, session: AsyncSession, response: Response) -> None:
        # Sealed: the answer may hold a secret that is shown only once.
        content = bytes(response.body)
        sealed = self.hub.master.seal(_PURPOSE, content, self._name.encode()) if content else None
        kept = {
            name: response.headers[name]
            for name in ("content-type", "etag", "location")
            if name in response.headers
        }
        await session.execute(
            update(IdempotencyKey)
            .where(IdempotencyKey.key == self._name)
            .values(
                response_status=response.status_code, response_headers=kept, response_body=sealed
            )
        )


def desk(request: Request, who: Asking, key: IdempotencyHeader = None) -> Desk:
    """Return the place where a changing request is worked on."""
    return Desk(request, who, services(request), key)


def reading_desk(request: Request, who: Asking) -> Desk:
    """Return the place where a reading request is worked on."""
    return Desk(request, who, services(request), None)


Writing = Annotated[Desk, Depends(desk)]
Reading = Annotated[Desk, Depends(reading_desk)]


def seen_version(
    if_match: Annotated[
        str | None,
        Header(
            alias="If-Match",
            max_length=40,
            description="The `ETag` that you saw; 412 when it has moved since, 428 when missing",
            examples=['"3"'],
        ),
    ] = None,
) -> int:
    """Return the version that the client saw.

    Raises:
        ProblemError: 428 without `If-Match`, 400 with one that the hub never gave.
    """
    if if_match is None:
        raise ProblemError(428, "if_match_required", "send the ETag that you saw in If-Match")
    found = _ETAG.match(if_match)
    if found is None:
        raise ProblemError(400, "bad_if_match", "this is no ETag of the hub's")
    return int(found[1])


Seen = Annotated[int, Depends(seen_version)]


def stale() -> ProblemError:
    """Return the 412 for a row that has moved on."""
    return ProblemError(412, "stale", "this was changed meanwhile: read it again")


def shown(body: BaseModel, version: int) -> Response:
    """Return a resource with its `ETag`."""
    return _response(Done(body, "", ("", ""), version=version))


def _response(done: Done) -> Response:
    headers: dict[str, str] = {}
    if done.version is not None:
        headers["ETag"] = f'"{done.version}"'
    if done.location:
        headers["Location"] = done.location
    if done.body is None:
        return Response(status_code=204, headers=headers)
    content = done.body.model_dump_json()
    return Response(content, done.status, headers, media_type="application/json")
