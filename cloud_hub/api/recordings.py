# SPDX-License-Identifier: Apache-2.0
"""Recordings that the hub holds: what they are. Whoever may not listen does not see them either."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from sqlalchemy import select

from cloud_hub.api.deeds import Reading
from cloud_hub.api.fields import Body, Digest, Moment, View
from cloud_hub.api.pages import Cursors, CursorText, Limit, Page, page
from cloud_hub.api.problems import missing
from cloud_hub.db.models import Recording

router = APIRouter(tags=["recordings"])


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
            cursors=Cursors(desk.hub.master, f"recordings:{desk.who.organization}"),
            cursor=wanted.cursor,
            limit=wanted.limit,
            descending=True,
        )


@router.get("/recordings/{recording_id}", operation_id="get_recording")
async def get_recording(recording_id: UUID, desk: Reading) -> RecordingView:
    """What is known of a recording."""
    async with desk.reading() as session:
        row = await session.scalar(select(Recording).where(Recording.id == recording_id))
    if row is None:
        raise missing("recording")
    return RecordingView.model_validate(row)
