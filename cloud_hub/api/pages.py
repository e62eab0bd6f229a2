# SPDX-License-Identifier: Apache-2.0
"""Lists in pages: the next page begins after the last row, not after a count of rows.

A cursor says where that is. It is marked by the hub and bound to the organization and to the list,
so one that was altered, or taken from elsewhere, is refused.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, Field
from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession

from cloud_hub.api.problems import ProblemError
from cloud_hub.auth.secrets import MasterSecret

MAX_LIMIT = 200

V = TypeVar("V", bound=BaseModel)

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows in a page")]
CursorText = Annotated[
    str | None,
    Query(
        max_length=300, pattern=r"^[A-Za-z0-9_.-]+$", description="`next_cursor` of the page before"
    ),
]


class Page(BaseModel, Generic[V]):
    """One page of a list."""

    data: list[V]
    next_cursor: str | None = Field(None, description="For the next page; null on the last one")


class Cursors:
    """Makes and reads cursors.

    Args:
        master: the hub's secret.
        place: which list of which organization.
    """

    def __init__(self, master: MasterSecret, place: str) -> None:
        self._master, self._place = master, place

    def write(self, position: UUID | int) -> str:
        """Return the cursor after a row."""
        return f"{position}.{self._mark(str(position))}"

    def read(self, cursor: str) -> str:
        """Return the position.

        Raises:
            ProblemError: 400, this hub did not write it for this list.
        """
        position, _, mark = cursor.rpartition(".")
        if not hmac.compare_digest(mark.encode(), self._mark(position).encode()):
            raise ProblemError(400, "bad_cursor", "this cursor does not belong to this list")
        return position

    def _mark(self, position: str) -> str:
        return self._master.mark("cursor", f"{self._place}\n{position}".encode())[:22]


async def page(
    session: AsyncSession,
    query: Select[Any],
    key: Any,
    view: Callable[[Any], V],
    *,
    cursors: Cursors,
    cursor: str | None,
    limit: int,
    descending: bool = False,
) -> Page[V]:
    """Run one page of a query ordered by `key`, a unique column of UUIDs or numbers."""
    if cursor is not None:
        position: Any = cursors.read(cursor)
        position = UUID(position) if "-" in position else int(position)
        query = query.where(key < position if descending else key > position)
    query = query.order_by(key.desc() if descending else key).limit(limit + 1)
    rows: Sequence[Any] = (await session.execute(query)).scalars().all()
    more = len(rows) > limit
    rows = rows[:limit]
    following = cursors.write(getattr(rows[-1], key.key)) if more else None
    return Page(data=[view(row) for row in rows], next_cursor=following)
