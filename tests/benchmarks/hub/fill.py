# SPDX-License-Identifier: Apache-2.0
"""A hub that is some months old: organizations with calls, turns and usage, made inside the database.

The administrator makes them, with triggers and policies out of the way, one organization at a time; what
reads them later is the API, in the tenants' names. Ids hold the time of the call as a box's do, spread
over the last 90 days, so rows lie in the partitions where boxes would have put them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from uuid import UUID

from cloud_hub.auth.secrets import KeyText, digest
from cloud_hub.db.ids import uuid7
from cloud_hub.db.models import ApiKey
from cloud_hub.db.session import tenant
from tests.benchmarks.hub.stand import Stand

DAYS = 90
BOXES = 5
TURNS, USAGES = 6, 3
"""Of each call."""

_ID = """(lpad(to_hex((extract(epoch FROM {moment}) * 1000)::bigint), 12, '0') || '7'
    || substr(md5({salt}), 1, 3) || '8' || substr(md5({salt}), 4, 15))::uuid"""

_CALLS = f"""
INSERT INTO calls (organization_id, id, appliance_id, agent_name, agent_hash, direction, status,
    transport, trunk, caller, called, protocol_id, language, started_at, answered_at, ended_at, cause,
    recorded, duration_ms, turn_count, latency_p50_ms, latency_p95_ms, metadata)
SELECT %(organization)s, {_ID.format(moment="at", salt="%(organization)s::text || n")},
    (%(boxes)s::uuid[])[1 + n %% {BOXES}], 'reception', md5('4f2a'),
    CASE WHEN n %% 5 = 0 THEN 'outbound' ELSE 'inbound' END, 'ended', 'sip', 'pbx',
    '+4416329' || lpad((n * 7919 %% 2000)::text, 5, '0'), (100 + n %% 20)::text, md5(n::text), 'en', at,
    at + interval '2 seconds', at + interval '90 seconds',
    CASE WHEN n %% 10 = 0 THEN 'agent hung up' ELSE 'caller hung up' END, n %% 3 = 0,
    30000 + n * 37 %% 240000, {TURNS}, 400 + n %% 300, 700 + n %% 900, '{{}}'
FROM (SELECT n, now() - n * interval '1 second' * ({DAYS} * 86400.0 / %(calls)s) AS at
    FROM generate_series(1, %(calls)s) AS n) AS made
"""
_TURNS = f"""
INSERT INTO turns (organization_id, call_id, seq, role, text, started_ms, latency_ms, latency_parts)
SELECT organization_id, id, n, CASE WHEN n %% 2 = 0 THEN 'agent' ELSE 'caller' END,
    'Good morning, I would like to move my appointment from Tuesday to the end of the week.', n * 6000,
    CASE WHEN n %% 2 = 0 THEN 470 END, '{{"language_model": 260}}'
FROM calls, generate_series(0, {TURNS - 1}) AS n WHERE organization_id = %(organization)s
"""
_USAGE = f"""
INSERT INTO usage (organization_id, id, appliance_id, call_id, agent_name, provider, kind, unit, quantity,
    occurred_at)
SELECT organization_id, {_ID.format(moment="started_at", salt="id::text || n")}, appliance_id, id, agent_name,
    'local', (ARRAY['speech_to_text', 'language_model', 'text_to_speech'])[n],
    (ARRAY['seconds', 'tokens', 'characters'])[n], 100 * n, started_at
FROM calls, generate_series(1, {USAGES}) AS n WHERE organization_id = %(organization)s
"""
_BOXES = """
INSERT INTO appliances (organization_id, id, name)
SELECT %(organization)s, box, 'box' FROM unnest(%(boxes)s::uuid[]) AS box
"""
_MONTHS = f"SELECT app.ensure_partitions((now() - interval '{DAYS} days')::date, now()::date)"
_LARGE = ("calls", "turns", "usage")


@dataclass(frozen=True)
class Customer:
    """One organization, one of its boxes, and a key of it."""

    organization_id: UUID
    box_id: UUID
    key: str


async def fill(stand: Stand, calls: int, organizations: int) -> list[Customer]:
    """Make so many calls in so many organizations; return those organizations.

    Args:
        stand: the hub.
        calls: of all organizations together, in equal parts.
    """
    begun = time.monotonic()
    customers = [await _customer(stand) for _ in range(organizations)]
    async with await stand.administrator() as database:
        await database.execute(_MONTHS.encode())
        await database.execute("SET session_replication_role = replica")
        for customer in customers:
            boxes = [customer.box_id, *(uuid7() for _ in range(BOXES - 1))]
            values = {
                "organization": customer.organization_id,
                "boxes": boxes,
                "calls": calls // organizations,
            }
            for statement in (_BOXES, _CALLS, _TURNS, _USAGE):
                await database.execute(statement.encode(), values)
        for table in _LARGE:
            await database.execute(f"VACUUM (ANALYZE) {table}".encode())
        await database.execute("CHECKPOINT")
    made = calls // organizations * organizations
    print(f"  {made} calls made in {time.monotonic() - begun:.0f} s", flush=True)
    return customers


async def _customer(stand: Stand) -> Customer:
    organization_id, key = await stand.organization(), KeyText.new()
    async with tenant(stand.engine, organization_id) as session:
        session.add(
            ApiKey(
                organization_id=organization_id,
                name="bench",
                prefix=key.prefix,
                secret_hash=digest(key.secret),
                scopes=["calls:read", "transcripts:read"],
            )
        )
    return Customer(organization_id, uuid7(), str(key))
