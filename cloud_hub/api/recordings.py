# SPDX-License-Identifier: Apache-2.0
"""Recordings that the hub holds: what they are, and their sound. Each listening is in the audit log."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from cloud_hub.api.deeds import Done, Reading
from cloud_hub.api.fields import Body, Digest, Moment, View
from cloud_hub.api.pages import CursorText, Limit, Page, page
from cloud_hub.api.problems import ProblemError, missing
from cloud_hub.db.models import Recording
from cloud_hub.fleet.recordings import RecordingFiles, RecordingStore

router = APIRouter(tags=["recordings"])

_RANGE = re.compile(r"^bytes=(\d{0,15})-(\d{0,15})$")
_SOUND: dict[int | str, dict[str, object]] = {
    200: {"description": "The sound", "content": {"audio/*": {}}},
    206: {"description": "The part that `Range` asked for", "content": {"audio/*": {}}},
}


class RecordingView(View):
    """A recording."""

    id: UUID
    call_id: UUID
    appliance_id: UUID
    sha256: Digest
    size: int
    content_type: str
    duration_ms: int | None
    channels: int
    created_at: Moment


class RecordingFilter(Body):
    """Which recordings."""

    call_id: UUID | None = None
    appliance_id: UUID | None = None
    limit: Limit = 50
    cursor: CursorText = None


@router.get("/recordings", operation_id="list_recordings")
async def list_recordings(
    desk: Reading, wanted: Annotated[RecordingFilter, Query()]
) -> Page[RecordingView]:
    """List recordings, newest first."""
    query = select(Recording)
    if wanted.call_id is not None:
        query = query.where(Recording.call_id == wanted.call_id)
    if wanted.appliance_id is not None:
        query = query.where(Recording.appliance_id == wanted.appliance_id)
    async with desk.reading() as session:
        return await page(
            session,
            query,
            Recording.id,
            RecordingView.model_validate,
            cursors=desk.cursors("recordings"),
            cursor=wanted.cursor,
            limit=wanted.limit,
            descending=True,
        )


@router.get("/recordings/{recording_id}", operation_id="get_recording")
async def get_recording(recording_id: UUID, desk: Reading) -> RecordingView:
    """What is known of a recording."""
    async with desk.reading() as session:
        return RecordingView.model_validate(await _row(session, recording_id))


@router.get(
    "/recordings/{recording_id}/content",
    operation_id="get_recording_content",
    response_class=FileResponse,
    responses=_SOUND,
)
async def get_recording_content(recording_id: UUID, desk: Reading, request: Request) -> Response:
    """The sound itself; `Range` is understood."""
    store = desk.hub.recordings
    async with desk.reading() as session:
        row = await _row(session, recording_id)
        size = await _size(store, row.storage_key)
        await desk.note(session, Done(None, "recording.listen", ("recording", recording_id)))
    # What a box calls its upload is not believed so far that a browser would run it.
    sound = row.content_type.startswith("audio/")
    kind = row.content_type if sound else "application/octet-stream"
    if isinstance(store, RecordingFiles):
        path = store.path(row.storage_key)
        return FileResponse(path, media_type=kind, filename=str(row.call_id))
    headers = {"Content-Disposition": f'attachment; filename="{row.call_id}"'}
    wanted = request.headers.get("range", "")
    return _streamed(store, row.storage_key, size, wanted, {**headers, "Content-Type": kind})


async def _row(session: AsyncSession, recording_id: UUID) -> Recording:
    row = await session.scalar(select(Recording).where(Recording.id == recording_id))
    if row is None:
        raise missing("recording")
    return row


async def _size(store: RecordingStore, key: str) -> int:
    try:
        size = await asyncio.to_thread(store.size, key)
    except OSError as error:
        detail = "the storage of recordings does not answer"
        raise ProblemError(503, "unavailable", detail, headers={"Retry-After": "5"}) from error
    if size is None:
        raise missing("recording")
    return size


def _streamed(
    store: RecordingStore, key: str, size: int, wanted: str, headers: dict[str, str]
) -> Response:
    """Return the object through the hub: the browser never learns where it lies."""
    headers = {**headers, "Accept-Ranges": "bytes"}
    part = stretch(wanted, size)
    if part is None:
        whole = {**headers, "Content-Length": str(size)}
        return StreamingResponse(store.read(key, 0, size - 1), 200, whole)
    first, last = part
    if first > last:
        refused = {"Content-Range": f"bytes */{size}"}
        raise ProblemError(416, "range_not_satisfiable", "it is shorter than that", headers=refused)
    headers |= {
        "Content-Range": f"bytes {first}-{last}/{size}",
        "Content-Length": str(last - first + 1),
    }
    return StreamingResponse(store.read(key, first, last), 206, headers)


def stretch(wanted: str, size: int) -> tuple[int, int] | None:
    """Return the first and last byte that a `Range` asks for (RFC 9110, 14.1.2).

    None asks for all: no range, several, or one that is not understood. The first is after the last
    when there is nothing to give.
    """
    found = _RANGE.match(wanted)
    if found is None or found[1] == found[2] == "":
        return None
    if not found[1]:
        return (max(0, size - int(found[2])), size - 1) if int(found[2]) else (1, 0)
    first, last = int(found[1]), int(found[2] or size - 1)
    if found[2] and last < first:
        return None
    return (first, min(last, size - 1)) if first < size else (1, 0)
