# SPDX-License-Identifier: Apache-2.0
"""What claimed boxes fetch by HTTPS: their bundles."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.db.models.fleet import Bundle
from cloud_hub.db.session import tenant
from cloud_hub.fleet.device_api import box_of
from cloud_hub.fleet.register import Registered

MAX_VERSION = 2**63 - 1


def bundle_routes(engine: AsyncEngine) -> APIRouter:
    """Return the routes of bundles.

    Args:
        engine: of the API role.
    """
    router = APIRouter(prefix="/v1/box/bundles", tags=["box"])

    @router.get("/{version}", response_class=Response)
    async def bundle(version: int, box: Annotated[Registered, Depends(box_of)]) -> Response:
        """Return a bundle of the calling box, as it was signed."""
        content = None
        if 0 < version <= MAX_VERSION:
            async with tenant(engine, box.organization_id) as session:
                content = await session.scalar(
                    select(Bundle.content).where(
                        Bundle.appliance_id == box.box_id, Bundle.version == version
                    )
                )
        if content is None:
            raise HTTPException(404, "this box has no such bundle")
        return Response(bytes(content), media_type="application/octet-stream")

    return router
