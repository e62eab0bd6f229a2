# SPDX-License-Identifier: Apache-2.0
"""The operator's way to let a person back in who has lost the password."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cloud_hub.auth.accounts import find_user, make_reset_token
from cloud_hub.db.addresses import open_database
from cloud_hub.db.session import create_engine, person

if TYPE_CHECKING:
    from cloud_hub.serve import HubSettings


class UnknownPersonError(Exception):
    """Nobody has this address."""


async def reset_link(settings: HubSettings, email: str) -> str:
    """Return what to hand to the person: the token for `POST /v1/password/reset`, good for an hour.

    Raises:
        UnknownPersonError: nobody has this address.
    """
    database = await asyncio.to_thread(open_database, settings.database)
    engine = create_engine(database.url("api"))
    try:
        user_id = await find_user(engine, email)
        if user_id is None:
            raise UnknownPersonError(f"nobody has the address {email}")
        async with person(engine, user_id) as session:
            return await make_reset_token(session, user_id)
    finally:
        await engine.dispose()
        await asyncio.to_thread(database.stop)
