# SPDX-License-Identifier: Apache-2.0
"""What boxes told against what PostgreSQL has, box by box."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from tests.benchmarks.hub.said import Told
from tests.benchmarks.hub.stand import Stand

_WITHIN_CALLS = """
    SELECT c.appliance_id, count(*) FROM {0} t
    JOIN calls c ON c.organization_id = t.organization_id AND c.id = t.call_id
    WHERE c.appliance_id = ANY(%(boxes)s) GROUP BY 1"""
_OF_BOX = "SELECT appliance_id, {1} FROM {0} WHERE appliance_id = ANY(%(boxes)s) GROUP BY 1"

_COUNTS = {
    "calls": _OF_BOX.format("calls", "count(*)"),
    "ended": _OF_BOX.format("calls", "count(*) FILTER (WHERE status = 'ended')"),
    "usage": _OF_BOX.format("usage", "count(*)"),
    "quantity": _OF_BOX.format("usage", "sum(quantity)::bigint"),
    "turns": _WITHIN_CALLS.format("turns"),
    "call_events": _WITHIN_CALLS.format("call_events"),
    "quarantined": _OF_BOX.format("quarantined_rows", "count(*)"),
}


@dataclass(frozen=True)
class Miscounts:
    """Rows that PostgreSQL lacks and rows that it has too many; units of usage count as rows."""

    missing: int
    twice: int

    def __str__(self) -> str:
        return f"missing {self.missing}, twice {self.twice}"


async def miscounts(stand: Stand, told: Mapping[str, Told]) -> Miscounts:
    """Count, for each box, every kind of row and the sum of what it used."""
    missing = twice = 0
    async with await stand.administrator() as database:
        for what, query in _COUNTS.items():
            cursor = await database.execute(query, {"boxes": [UUID(each) for each in told]})
            found = {str(row[0]): int(str(row[1])) for row in await cursor.fetchall()}
            for box_id, one in told.items():
                extra = found.get(box_id, 0) - _expected(one, what)
                missing += max(0, -extra)
                twice += max(0, extra)
    return Miscounts(missing, twice)


def _expected(told: Told, what: str) -> int:
    match what:
        case "quantity":
            return told.quantity
        case "ended":
            return told.ended
        case _:
            return told.rows[what]
