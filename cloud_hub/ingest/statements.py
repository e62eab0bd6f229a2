# SPDX-License-Identifier: Apache-2.0
"""The SQL of ingest. Each statement takes any number of records as one JSON text and runs in the
tenant's name. Those of `apply` are psycopg's, with `%(name)s` for what is given.

Every insert can be repeated: what is there already stays. A call belongs to the box that began it:
rows of another box of the same organization do not touch it.
"""

# ruff: noqa: S608 - what is put together here are constants of this file

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import text


def _rows(columns: str) -> str:
    return f"jsonb_to_recordset(CAST(%(records)s AS jsonb)) AS r({columns})"


ORGANIZATIONS = text(
    "SELECT box.id, found.organization_id, found.state FROM unnest(CAST(:ids AS uuid[])) AS box(id)"
    " CROSS JOIN LATERAL app.appliance(box.id) AS found"
)

LOCK = (
    "SELECT pg_advisory_xact_lock(hashtextextended(name, 0))"
    " FROM unnest(CAST(%(names)s AS text[])) AS stream(name)"
)
"""Names are sorted by the caller: two workers that want the same streams cannot block each other."""

POSITIONS = (
    "SELECT appliance_id, stream, epoch, applied_seq FROM stream_positions"
    " WHERE appliance_id = ANY(CAST(%(ids)s AS uuid[])) AND epoch = ANY(CAST(%(epochs)s AS uuid[]))"
)

MOVE = f"""
INSERT INTO stream_positions (organization_id, appliance_id, stream, epoch, applied_seq)
SELECT app.organization_id(), r.* FROM
    {_rows("appliance_id uuid, stream text, epoch uuid, applied_seq bigint")}
ON CONFLICT (organization_id, appliance_id, stream, epoch)
    DO UPDATE SET applied_seq = excluded.applied_seq, updated_at = now()
"""

SEEN = """
UPDATE appliances SET last_seen_at = now()
WHERE id = ANY(CAST(%(ids)s AS uuid[]))
    AND (last_seen_at IS NULL OR last_seen_at < now() - interval '5 seconds')
"""

CALL_OWNERS = "SELECT id, appliance_id FROM calls WHERE id = ANY(CAST(%(ids)s AS uuid[]))"

CALLS = f"""
INSERT INTO calls (organization_id, id, appliance_id, agent_id, agent_version_id, agent_name,
    agent_hash, direction, status, transport, trunk, caller, called, protocol_id, started_at)
SELECT app.organization_id(), r.id, r.appliance_id, coalesce(v.agent_id, a.id), v.id, r.agent_name,
    r.agent_version, r.direction, 'ringing', r.transport, r.trunk, r.caller, r.called,
    r.protocol_id, r.started_at
FROM {
    _rows('''id uuid, appliance_id uuid, agent_name text, agent_version text,
    agent_version_id uuid, direction text, transport text, trunk text, caller text, called text,
    protocol_id text, started_at timestamptz''')
}
LEFT JOIN agents a ON lower(a.name) = lower(r.agent_name) AND a.deleted_at IS NULL
LEFT JOIN agent_versions v ON v.id = r.agent_version_id
ON CONFLICT (organization_id, id) DO UPDATE SET
    agent_id = excluded.agent_id, agent_version_id = excluded.agent_version_id,
    agent_name = excluded.agent_name, agent_hash = excluded.agent_hash, direction = excluded.direction,
    transport = excluded.transport, trunk = excluded.trunk, caller = excluded.caller,
    called = excluded.called, protocol_id = excluded.protocol_id, started_at = excluded.started_at
"""

UNBEGUN_CALLS = f"""
INSERT INTO calls (organization_id, id, appliance_id, direction, status, started_at, metadata)
SELECT app.organization_id(), r.id, r.appliance_id, 'inbound', 'active', r.started_at,
    '{{"beginning_lost": true}}'
FROM {_rows("id uuid, appliance_id uuid, started_at timestamptz")}
ON CONFLICT (organization_id, id) DO NOTHING
"""

ANSWERED = f"""
UPDATE calls SET answered_at = r.at, status = CASE status WHEN 'ended' THEN status ELSE 'active' END
FROM {_rows("id uuid, at timestamptz")} WHERE calls.id = r.id
"""

EVENTS = f"""
INSERT INTO call_events (organization_id, call_id, seq, t_ms, kind, data)
SELECT app.organization_id(), r.* FROM
    {_rows("call_id uuid, seq bigint, t_ms bigint, kind text, data jsonb")}
ON CONFLICT DO NOTHING
"""

TURNS = f"""
INSERT INTO turns
    (organization_id, call_id, seq, role, text, started_ms, interrupted, latency_ms, latency_parts)
SELECT app.organization_id(), r.* FROM {
    _rows('''call_id uuid, seq bigint, role text, text text, started_ms bigint,
    interrupted boolean, latency_ms bigint, latency_parts jsonb''')
}
ON CONFLICT DO NOTHING
"""

USAGE = f"""
INSERT INTO usage (organization_id, id, appliance_id, call_id, agent_name, provider, kind, unit,
    quantity, occurred_at)
SELECT app.organization_id(), r.id, r.appliance_id, r.call_id, coalesce(c.agent_name, ''),
    r.provider, r.kind, r.unit, r.quantity, r.occurred_at
FROM {
    _rows('''id uuid, appliance_id uuid, call_id uuid, provider text, kind text, unit text,
    quantity bigint, occurred_at timestamptz''')
}
LEFT JOIN calls c ON c.organization_id = app.organization_id() AND c.id = r.call_id
ON CONFLICT DO NOTHING
"""

RECORDINGS = f"""
UPDATE calls SET metadata = metadata || jsonb_build_object('box_recording', r.uri)
FROM {_rows("id uuid, uri text")} WHERE calls.id = r.id
"""

ENDED = f"""
UPDATE calls SET status = 'ended', ended_at = r.at, cause = r.cause, recorded = r.recorded,
    duration_ms = CASE WHEN answered_at IS NULL THEN 0
        ELSE greatest(0, (extract(epoch FROM r.at - answered_at) * 1000)::bigint) END,
    turn_count = coalesce(t.turn_count, 0), latency_p50_ms = t.p50, latency_p95_ms = t.p95
FROM {_rows("id uuid, at timestamptz, cause text, recorded boolean")}
LEFT JOIN LATERAL (
    SELECT count(*) AS turn_count,
        percentile_disc(0.5) WITHIN GROUP (ORDER BY latency_ms) AS p50,
        percentile_disc(0.95) WITHIN GROUP (ORDER BY latency_ms) AS p95
    FROM turns WHERE turns.call_id = r.id
) t ON true
WHERE calls.id = r.id
"""

BOOKINGS = f"""
INSERT INTO bookings (organization_id, appliance_id, idempotency_key, call_id, calendar, date, time,
    name, created_at)
SELECT app.organization_id(), r.* FROM {
    _rows('''appliance_id uuid, idempotency_key text, call_id uuid, calendar text, date text,
    time text, name text, created_at timestamptz''')
}
ON CONFLICT DO NOTHING
"""

REPORTED = f"""
INSERT INTO reported_state
    (organization_id, appliance_id, version, status, document, drift, errors, reported_at)
SELECT app.organization_id(), r.* FROM {
    _rows('''appliance_id uuid, version bigint, status text, document jsonb, drift jsonb,
    errors text[], reported_at timestamptz''')
}
ON CONFLICT (organization_id, appliance_id) DO UPDATE SET
    version = excluded.version, status = excluded.status, document = excluded.document,
    drift = excluded.drift, errors = excluded.errors, reported_at = excluded.reported_at,
    received_at = now()
"""

HEALTH = f"""
UPDATE appliances SET health = r.health, health_at = r.at,
    clock_skew_ms = coalesce(r.skew, clock_skew_ms)
FROM {_rows("appliance_id uuid, health jsonb, skew bigint, at timestamptz")}
WHERE appliances.id = r.appliance_id
"""

COMMANDS = f"""
UPDATE commands SET status = r.status, result = r.result, finished_at = now()
FROM {_rows("id uuid, appliance_id uuid, status text, result jsonb")}
WHERE commands.id = r.id AND commands.appliance_id = r.appliance_id
    AND commands.status IN ('queued', 'sent', 'expired')
"""

QUARANTINE = f"""
INSERT INTO quarantined_rows
    (organization_id, appliance_id, stream, epoch, seq, kind, at, data, reason)
SELECT app.organization_id(), r.* FROM {
    _rows('''appliance_id uuid, stream text, epoch uuid, seq bigint, kind text, at timestamptz,
    data jsonb, reason text''')
}
ON CONFLICT DO NOTHING
"""

ONLINE = text("""
UPDATE appliances SET online = true, presence_session = :session, software_version = :software,
    last_seen_at = now()
WHERE id = :id
""")

OFFLINE = text(
    "UPDATE appliances SET online = false WHERE id = :id AND presence_session = :session"
)

OF: Mapping[str, str] = {
    "calls": CALLS,
    "answered": ANSWERED,
    "events": EVENTS,
    "turns": TURNS,
    "usage": USAGE,
    "recordings": RECORDINGS,
    "ended": ENDED,
    "bookings": BOOKINGS,
    "commands": COMMANDS,
    "reported": REPORTED,
    "health": HEALTH,
    "quarantined": QUARANTINE,
}
"""The statement that writes each of `Writes.records`."""
