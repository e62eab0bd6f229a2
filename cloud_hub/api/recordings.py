# SPDX-License-Identifier: Apache-2.0
"""Recordings that the hub holds: what they are, and their sound. Each listening is in the audit log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from cloud_hub.api.deeds import Done, Reading
from cloud_hub.api.fields import Body, Digest, Moment, View
from cloud_hub.api.pages import CursorText, Limit, Page, page
from cloud_hub.api.problems import missing
from cloud_hub.db.models import Recording
from cloud_hub.fleet.recordings import RecordingFiles

router = APIRouter(tags=["recordings"])

FOLDER = "recordings"
"""In the hub's data folder, as `fleet.service` has it."""
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
async def get_recording_content(recording_id: UUID, desk: Reading) -> Response:
    """The sound itself; `Range` is understood."""
    async with desk.reading() as session:
        row = await _row(session, recording_id)
        path = _path(desk.hub.settings.data_folder, row)
        await desk.note(session, Done(None, "recording.listen", ("recording", recording_id)))
    # What a box calls its upload is not believed so far that a browser would run it.
    sound = row.content_type.startswith("audio/")
    kind = row.content_type if sound else "application/octet-stream"
    return FileResponse(path, media_type=kind, filename=f"{row.call_id}{path.suffix}")


async def _row(session: AsyncSession, recording_id: UUID) -> Recording:
    row = await session.scalar(select(Recording).where(Recording.id == recording_id))
    if row is None:
        raise missing("recording")
    return row


def _path(data_folder: Path, row: Recording) -> Path:
    path = RecordingFiles(data_folder / FOLDER).path(row.storage_key)
    if not path.is_file():
        raise missing("recording")
    return path
