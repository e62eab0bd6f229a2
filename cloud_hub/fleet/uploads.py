# SPDX-License-Identifier: Apache-2.0
"""Recordings arrive in pieces that survive any interruption: tus 1.0.0 with `creation` and `checksum`.

How far an upload has come is in the database, in the transaction that follows the bytes to the disk, so any
process of the hub goes on where another stopped, as long as they share the folder. Beyond tus, a box tells
the SHA-256 of the whole file, and `Upload-Status: complete` says that the hub has checked it and keeps it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from cloud_hub.db.ids import uuid7
from cloud_hub.db.models.calls import Recording, Upload
from cloud_hub.db.session import tenant
from cloud_hub.fleet.device_api import box_of
from cloud_hub.fleet.recordings import RecordingStore
from cloud_hub.fleet.register import Registered
from cloud_hub.ingest.writes import identifier

TUS = {"Tus-Resumable": "1.0.0"}
MAX_SIZE = 4 << 30
"""Bytes of one recording: 10 hours of stereo at 16 kHz are 2.3 GB."""
MAX_PIECE = 4 << 20
"""Bytes of one request; it is held in memory until its checksum is known to be right."""
KEPT = timedelta(days=30)
CHECKSUM_MISMATCH = 460
PATH = "/v1/box/uploads"
_PATIENCE = text("SET LOCAL idle_in_transaction_session_timeout = '15min'")
"""While gigabytes are checked, the upload stays locked."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What a box says of a file it is going to send."""

    length: int
    sha256: bytes
    call_id: str
    content_type: str


def upload_routes(engine: AsyncEngine, files: RecordingStore) -> APIRouter:
    """Return the routes of uploads.

    Args:
        engine: of the API role.
        files: where recordings are kept.
    """
    router = APIRouter(prefix=PATH, tags=["box"], dependencies=[Depends(_speaks_tus)])
    uploads = Uploads(engine, files)

    @router.post("", status_code=201, response_class=Response)
    async def create(request: Request, box: Annotated[Registered, Depends(box_of)]) -> Response:
        """Begin an upload, or find the one that there is of this file."""
        upload = await uploads.create(box, _announced(request))
        return _answer(upload, 201, {"Location": f"{PATH}/{upload.id}"})

    @router.head("/{upload_id}", response_class=Response)
    async def look(upload_id: UUID, box: Annotated[Registered, Depends(box_of)]) -> Response:
        """Say how far an upload has come."""
        return _answer(await uploads.find(box, upload_id), 200, {"Cache-Control": "no-store"})

    @router.patch("/{upload_id}", status_code=204, response_class=Response)
    async def go_on(
        upload_id: UUID, request: Request, box: Annotated[Registered, Depends(box_of)]
    ) -> Response:
        """Take the next piece."""
        offset, data = await _piece(request)
        return _answer(await uploads.take(box, upload_id, offset, data), 204)

    return router


class Uploads:
    """What the routes do."""

    def __init__(self, engine: AsyncEngine, files: RecordingStore) -> None:
        self._engine = engine
        self._files = files

    async def create(self, box: Registered, file: Announced) -> Upload:
        """Return the box's upload of this file, new or not."""
        call_id = identifier(box.box_id, file.call_id)
        async with tenant(self._engine, box.organization_id) as session:
            new_id = uuid7()
            await session.execute(
                insert(Upload)
                .values(
                    organization_id=box.organization_id,
                    id=new_id,
                    appliance_id=box.box_id,
                    call_id=call_id,
                    length=file.length,
                    sha256=file.sha256,
                    content_type=file.content_type,
                    storage_key=f"{box.organization_id}/{new_id}",
                    expires_at=datetime.now(UTC) + KEPT,
                )
                .on_conflict_do_nothing()
            )
            upload = await session.scalar(
                select(Upload)
                .where(Upload.appliance_id == box.box_id, Upload.sha256 == file.sha256)
                .with_for_update()
            )
            assert upload is not None
            if upload.call_id != call_id:
                await self._share(session, upload, call_id)
            return upload

    async def find(self, box: Registered, upload_id: UUID) -> Upload:
        """Return an upload of this box.

        Raises:
            HTTPException: 404: it has none of that id.
        """
        async with tenant(self._engine, box.organization_id) as session:
            return await _upload(session, box, upload_id)

    async def take(self, box: Registered, upload_id: UUID, offset: int, data: bytes) -> Upload:
        """Add a piece; with the last one the whole is checked and becomes a recording.

        Raises:
            HTTPException: 404, 409 for another offset than the next, 413 beyond the length, 460 when the
                whole is not what was announced (it begins anew), 507 when the disk is full.
        """
        async with tenant(self._engine, box.organization_id) as session:
            upload = await _upload(session, box, upload_id)
            if upload.status == "complete" or offset != upload.offset:
                raise HTTPException(409, "that is not where the upload goes on", TUS)
            if offset + len(data) > upload.length:
                raise HTTPException(413, "that is more than was announced", TUS)
            await self._write(upload.storage_key, offset, data)
            upload.offset = offset + len(data)
            whole = upload.offset < upload.length or await self._complete(session, upload)
            if not whole:
                upload.offset = 0
        if upload.status == "complete":
            await asyncio.to_thread(self._files.forget, upload.storage_key)
        if not whole:
            raise HTTPException(CHECKSUM_MISMATCH, "the file is not the one announced", TUS)
        return upload

    async def _write(self, key: str, offset: int, data: bytes) -> None:
        try:
            await asyncio.to_thread(self._files.write, key, offset, data)
        except OSError as error:
            raise HTTPException(507, "the hub cannot store it now", TUS) from error

    async def _complete(self, session: AsyncSession, upload: Upload) -> bool:
        key, sha256 = upload.storage_key, bytes(upload.sha256)
        await session.execute(_PATIENCE)
        try:
            right = await asyncio.to_thread(self._files.finish, key, upload.length, sha256)
        except OSError as error:
            raise HTTPException(507, "the hub cannot store it now", TUS) from error
        if not right:
            return False
        upload.status, upload.completed_at = "complete", datetime.now(UTC)
        if upload.call_id is not None:
            session.add(_recording(upload, upload.call_id, key))
            await session.flush()
        return True

    async def _share(self, session: AsyncSession, upload: Upload, call_id: UUID) -> None:
        """Another call has a recording of the same bytes (of silence, say)."""
        if upload.status != "complete":
            upload.call_id = call_id
            return
        key = f"{upload.organization_id}/{uuid7()}"
        known = await session.scalar(select(Recording.id).where(Recording.call_id == call_id))
        if known is None:
            await asyncio.to_thread(self._files.copy, upload.storage_key, key)
            session.add(_recording(upload, call_id, key))
            await session.flush()


def _recording(upload: Upload, call_id: UUID, key: str) -> Recording:
    return Recording(
        organization_id=upload.organization_id,
        appliance_id=upload.appliance_id,
        call_id=call_id,
        upload_id=upload.id,
        storage_key=key,
        sha256=upload.sha256,
        size=upload.length,
        content_type=upload.content_type,
        channels=2,
    )


async def _upload(session: AsyncSession, box: Registered, upload_id: UUID) -> Upload:
    found = await session.scalar(
        select(Upload)
        .where(Upload.id == upload_id, Upload.appliance_id == box.box_id)
        .with_for_update()
    )
    if found is None:
        raise HTTPException(404, "this box has no such upload", TUS)
    return found


def _speaks_tus(request: Request) -> None:
    if request.headers.get("tus-resumable") != TUS["Tus-Resumable"]:
        raise HTTPException(412, "tus 1.0.0 is spoken here", {**TUS, "Tus-Version": "1.0.0"})


def _announced(request: Request) -> Announced:
    try:
        length = int(request.headers["upload-length"])
        pairs = (each.split() for each in request.headers["upload-metadata"].split(","))
        told = {key: base64.b64decode(value, validate=True).decode() for key, value in pairs}
        digest = bytes.fromhex(told["sha256"])
        call_id, content_type = told["call_id"], told.get("content_type", "audio/wav")
        good = length > 0 and len(digest) == hashlib.sha256().digest_size and 0 < len(call_id) <= 64
    except (KeyError, ValueError) as error:
        raise HTTPException(
            400, f"the upload is not announced as it must be: {error}", TUS
        ) from error
    if not good or "\x00" in call_id + content_type or len(content_type) > 100:
        raise HTTPException(400, "the upload is not announced as it must be", TUS)
    if length > MAX_SIZE:
        raise HTTPException(413, f"a recording has at most {MAX_SIZE} bytes", TUS)
    return Announced(length, digest, call_id, content_type)


async def _piece(request: Request) -> tuple[int, bytes]:
    if request.headers.get("content-type") != "application/offset+octet-stream":
        raise HTTPException(415, "a piece is application/offset+octet-stream", TUS)
    offset = request.headers.get("upload-offset", "")
    if not offset.isdecimal():
        raise HTTPException(400, "Upload-Offset is missing", TUS)
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_PIECE:
            raise HTTPException(413, f"a piece has at most {MAX_PIECE} bytes", TUS)
    kind, _, digest = request.headers.get("upload-checksum", "").partition(" ")
    if kind:
        try:
            right = base64.b64decode(digest, validate=True)
        except binascii.Error as error:
            raise HTTPException(400, "Upload-Checksum cannot be read", TUS) from error
        if kind != "sha256":
            raise HTTPException(400, "checksums are sha256 here", TUS)
        if hashlib.sha256(data).digest() != right:
            raise HTTPException(CHECKSUM_MISMATCH, "the piece was damaged on its way", TUS)
    return int(offset), bytes(data)


def _answer(upload: Upload, status: int, more: dict[str, str] | None = None) -> Response:
    headers = {
        **TUS,
        "Upload-Offset": str(upload.offset),
        "Upload-Length": str(upload.length),
        "Upload-Status": upload.status,
        **(more or {}),
    }
    return Response(status_code=status, headers=headers)
