# SPDX-License-Identifier: Apache-2.0
"""Whether this API process can work: for load balancers and supervisors."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from sqlalchemy import text

from cloud_hub.api.fields import View
from cloud_hub.api.services import services
from cloud_hub.db.session import nobody

router = APIRouter(tags=["health"])


class Health(View):
    """The process answers and reaches its database."""

    status: Literal["ok"]


@router.get("/health", operation_id="get_health")
async def get_health(request: Request) -> Health:
    """Answer 200 when the database answers, 503 when it does not."""
    async with nobody(services(request).engine) as session:
        await session.execute(text("SELECT 1"))
    return Health(status="ok")
