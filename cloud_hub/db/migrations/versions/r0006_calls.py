# SPDX-License-Identifier: Apache-2.0
"""Calls, turns, events and usage in monthly partitions; uploads and recordings."""

from __future__ import annotations

from cloud_hub.db.migrations.steps import (
    drop_lookups,
    drop_tables,
    isolate,
    lookup,
    run,
    show_to_lookup,
)

revision = "0006"
down_revision = "0005"

TABLES = """
CREATE TABLE calls (
    organization_id UUID NOT NULL,
    id UUID NOT NULL,
    appliance_id UUID NOT NULL,
    agent_id UUID,
    agent_version_id UUID,
    agent_name TEXT NOT NULL DEFAULT '',
    agent_hash TEXT NOT NULL DEFAULT '',
    direction TEXT NOT NULL,
    status TEXT NOT NULL,
    transport TEXT NOT NULL DEFAULT '',
    trunk TEXT NOT NULL DEFAULT '',
    caller TEXT NOT NULL DEFAULT '',
    called TEXT NOT NULL DEFAULT '',
    protocol_id TEXT NOT NULL DEFAULT '',
    language TEXT NOT NULL DEFAULT '',
    started_at TIMESTAMPTZ NOT NULL,
    answered_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    cause TEXT NOT NULL DEFAULT '',
    recorded BOOLEAN NOT NULL DEFAULT false,
    duration_ms BIGINT,
    turn_count BIGINT NOT NULL DEFAULT 0,
    latency_p50_ms BIGINT,
    latency_p95_ms BIGINT,
    cost_micros BIGINT NOT NULL DEFAULT 0,
    metadata JSONB NOT NULL DEFAULT '{}',
    received_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT calls_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT calls_organization_id_appliance_id_fkey
        FOREIGN KEY (organization_id, appliance_id)
        REFERENCES appliances (organization_id, id),
    CONSTRAINT calls_organization_id_agent_id_fkey
        FOREIGN KEY (organization_id, agent_id) REFERENCES agents (organization_id, id),
    CONSTRAINT calls_organization_id_agent_version_id_fkey
        FOREIGN KEY (organization_id, agent_version_id)
        REFERENCES agent_versions (organization_id, id),
    CONSTRAINT calls_direction_check CHECK (direction IN ('inbound', 'outbound')),
    CONSTRAINT calls_status_check CHECK (status IN ('ringing', 'active', 'ended')),
    CONSTRAINT calls_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
) PARTITION BY RANGE (id);
CREATE INDEX calls_agent_idx ON calls (organization_id, agent_id, id);
CREATE INDEX calls_agent_version_idx ON calls (organization_id, agent_version_id, id);
CREATE INDEX calls_appliance_idx ON calls (organization_id, appliance_id, id);
CREATE INDEX calls_called_idx ON calls (organization_id, called, id);
CREATE INDEX calls_caller_idx ON calls (organization_id, caller, id);
CREATE INDEX calls_live_idx ON calls (organization_id, appliance_id, id) WHERE status <> 'ended';

CREATE TABLE turns (
    organization_id UUID NOT NULL,
    call_id UUID NOT NULL,
    seq BIGINT NOT NULL,
    role TEXT NOT NULL,
    text TEXT NOT NULL,
    started_ms BIGINT NOT NULL,
    ended_ms BIGINT,
    interrupted BOOLEAN NOT NULL DEFAULT false,
    withheld BOOLEAN NOT NULL DEFAULT false,
    latency_ms BIGINT,
    latency_parts JSONB NOT NULL DEFAULT '{}',
    CONSTRAINT turns_pkey PRIMARY KEY (organization_id, call_id, seq),
    CONSTRAINT turns_organization_id_call_id_fkey
        FOREIGN KEY (organization_id, call_id) REFERENCES calls (organization_id, id)
) PARTITION BY RANGE (call_id);

CREATE TABLE call_events (
    organization_id UUID NOT NULL,
    call_id UUID NOT NULL,
    seq BIGINT NOT NULL,
    t_ms BIGINT NOT NULL,
    kind TEXT NOT NULL,
    data JSONB NOT NULL DEFAULT '{}',
    CONSTRAINT call_events_pkey PRIMARY KEY (organization_id, call_id, seq),
    CONSTRAINT call_events_organization_id_call_id_fkey
        FOREIGN KEY (organization_id, call_id) REFERENCES calls (organization_id, id)
) PARTITION BY RANGE (call_id);

CREATE TABLE usage (
    organization_id UUID NOT NULL,
    id UUID NOT NULL,
    appliance_id UUID NOT NULL,
    call_id UUID,
    agent_name TEXT NOT NULL DEFAULT '',
    provider TEXT NOT NULL,
    kind TEXT NOT NULL,
    unit TEXT NOT NULL,
    quantity BIGINT NOT NULL,
    cost_micros BIGINT NOT NULL DEFAULT 0,
    currency TEXT NOT NULL DEFAULT '',
    rate_card TEXT NOT NULL DEFAULT '',
    occurred_at TIMESTAMPTZ NOT NULL,
    received_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT usage_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT usage_organization_id_appliance_id_fkey
        FOREIGN KEY (organization_id, appliance_id)
        REFERENCES appliances (organization_id, id),
    CONSTRAINT usage_unit_check CHECK (unit IN ('seconds', 'tokens', 'characters')),
    CONSTRAINT usage_quantity_check CHECK (quantity >= 0),
    CONSTRAINT usage_cost_micros_check CHECK (cost_micros >= 0),
    CONSTRAINT usage_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
) PARTITION BY RANGE (id);
CREATE INDEX usage_appliance_idx ON usage (organization_id, appliance_id, id);
CREATE INDEX usage_call_idx ON usage (organization_id, call_id);
CREATE INDEX usage_time_idx ON usage (organization_id, occurred_at);

CREATE TABLE uploads (
    organization_id UUID NOT NULL,
    id UUID NOT NULL,
    appliance_id UUID NOT NULL,
    call_id UUID,
    status TEXT NOT NULL DEFAULT 'receiving',
    length BIGINT NOT NULL,
    "offset" BIGINT NOT NULL DEFAULT 0,
    sha256 BYTEA NOT NULL,
    content_type TEXT NOT NULL DEFAULT '',
    metadata JSONB NOT NULL DEFAULT '{}',
    storage_key TEXT NOT NULL DEFAULT '',
    expires_at TIMESTAMPTZ NOT NULL,
    completed_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT uploads_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT uploads_organization_id_appliance_id_fkey
        FOREIGN KEY (organization_id, appliance_id)
        REFERENCES appliances (organization_id, id),
    CONSTRAINT uploads_status_check CHECK (status IN ('receiving', 'complete', 'refused')),
    CONSTRAINT uploads_offset_check CHECK ("offset" BETWEEN 0 AND length),
    CONSTRAINT uploads_organization_id_appliance_id_sha256_key
        UNIQUE (organization_id, appliance_id, sha256),
    CONSTRAINT uploads_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE INDEX uploads_expiry_idx ON uploads (organization_id, expires_at);

CREATE TABLE recordings (
    organization_id UUID NOT NULL,
    id UUID NOT NULL,
    appliance_id UUID NOT NULL,
    call_id UUID NOT NULL,
    upload_id UUID,
    storage_key TEXT NOT NULL,
    sha256 BYTEA NOT NULL,
    size BIGINT NOT NULL,
    content_type TEXT NOT NULL,
    duration_ms BIGINT,
    channels BIGINT NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT recordings_pkey PRIMARY KEY (organization_id, id),
    CONSTRAINT recordings_organization_id_appliance_id_fkey
        FOREIGN KEY (organization_id, appliance_id)
        REFERENCES appliances (organization_id, id),
    CONSTRAINT recordings_organization_id_upload_id_fkey
        FOREIGN KEY (organization_id, upload_id)
        REFERENCES uploads (organization_id, id) ON DELETE SET NULL (upload_id),
    CONSTRAINT recordings_organization_id_storage_key_key
        UNIQUE (organization_id, storage_key),
    CONSTRAINT recordings_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE INDEX recordings_appliance_idx ON recordings (organization_id, appliance_id);
CREATE INDEX recordings_call_idx ON recordings (organization_id, call_id);
CREATE INDEX recordings_upload_idx ON recordings (organization_id, upload_id);

CREATE TABLE bookings (
    organization_id UUID NOT NULL,
    appliance_id UUID NOT NULL,
    idempotency_key TEXT NOT NULL,
    call_id UUID,
    calendar TEXT NOT NULL DEFAULT '',
    date TEXT NOT NULL,
    time TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    received_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT bookings_pkey PRIMARY KEY (organization_id, appliance_id, idempotency_key),
    CONSTRAINT bookings_organization_id_appliance_id_fkey
        FOREIGN KEY (organization_id, appliance_id)
        REFERENCES appliances (organization_id, id),
    CONSTRAINT bookings_organization_id_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE INDEX bookings_call_idx ON bookings (organization_id, call_id);
"""

PARTITIONS = """
CREATE FUNCTION app.id_at(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0')
        || repeat('0', 20))::uuid $$;

CREATE FUNCTION app.seal(partition regclass) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    EXECUTE format(
        'ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', partition);
END $$;

CREATE FUNCTION app.add_month(month date) RETURNS text[] LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    low uuid := app.id_at(month::timestamp AT TIME ZONE 'UTC');
    high uuid := app.id_at((month + interval '1 month') AT TIME ZONE 'UTC');
    suffix text := to_char(month, '_YYYY_MM');
    parents text[] := ARRAY['calls', 'turns', 'call_events', 'usage'];
    keys text[] := ARRAY['id', 'call_id', 'call_id', 'id'];
    made text[] := '{}';
    stray bigint;
BEGIN
    FOR i IN REVERSE 4..1 LOOP  -- children leave the default partition before their calls
        CONTINUE WHEN to_regclass(parents[i] || suffix) IS NOT NULL;
        EXECUTE format('ALTER TABLE %I NO FORCE ROW LEVEL SECURITY', parents[i] || '_default');
        EXECUTE format('SELECT count(*) FROM %I WHERE %I >= %L AND %I < %L',
            parents[i] || '_default', keys[i], low, keys[i], high) INTO stray;
        CONTINUE WHEN stray = 0;
        EXECUTE format(
            'CREATE TEMP TABLE %I ON COMMIT DROP AS SELECT * FROM public.%I WHERE %I >= %L AND %I < %L',
            'stray_' || parents[i], parents[i] || '_default', keys[i], low, keys[i], high);
        EXECUTE format('DELETE FROM %I WHERE %I >= %L AND %I < %L',
            parents[i] || '_default', keys[i], low, keys[i], high);
    END LOOP;
    FOR i IN 1..4 LOOP
        CONTINUE WHEN to_regclass(parents[i] || suffix) IS NOT NULL;
        EXECUTE format('CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)',
            parents[i] || suffix, parents[i], low, high);
        IF to_regclass('pg_temp.stray_' || parents[i]) IS NOT NULL THEN
            EXECUTE format('INSERT INTO public.%I SELECT * FROM pg_temp.%I',
                parents[i] || suffix, 'stray_' || parents[i]);
            EXECUTE format('DROP TABLE pg_temp.%I', 'stray_' || parents[i]);
        END IF;
        PERFORM app.seal((parents[i] || suffix)::regclass);
        PERFORM app.seal((parents[i] || '_default')::regclass);
        made := made || (parents[i] || suffix);
    END LOOP;
    RETURN made;
END $$;

CREATE FUNCTION app.ensure_partitions(first_month date, last_month date) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    month date;
BEGIN
    PERFORM pg_advisory_xact_lock(8097872);
    FOR month IN
        SELECT generate_series(date_trunc('month', first_month::timestamp),
            last_month::timestamp, interval '1 month')::date
    LOOP
        RETURN QUERY SELECT unnest(app.add_month(month));
    END LOOP;
END $$;

CREATE FUNCTION app.drop_month(month date) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    parent text;
    partition text;
BEGIN
    IF month + interval '1 month' > now() - interval '1 day' THEN
        RAISE EXCEPTION 'month % is not over', month USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOREACH parent IN ARRAY ARRAY['turns', 'call_events', 'calls'] LOOP
        partition := parent || to_char(month, '_YYYY_MM');
        CONTINUE WHEN to_regclass('public.' || partition) IS NULL;
        -- Detached first: PostgreSQL drops no partition that foreign keys reach.
        EXECUTE format('ALTER TABLE public.%I DETACH PARTITION public.%I', parent, partition);
        EXECUTE format('DROP TABLE public.%I', partition);
        RETURN NEXT partition;
    END LOOP;
END $$;

CREATE TABLE calls_default PARTITION OF calls DEFAULT;
CREATE TABLE turns_default PARTITION OF turns DEFAULT;
CREATE TABLE call_events_default PARTITION OF call_events DEFAULT;
CREATE TABLE usage_default PARTITION OF usage DEFAULT;
SELECT app.seal('calls_default'), app.seal('turns_default'), app.seal('call_events_default'),
    app.seal('usage_default');

REVOKE ALL ON FUNCTION app.id_at(timestamptz), app.seal(regclass), app.add_month(date),
    app.ensure_partitions(date, date), app.drop_month(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.ensure_partitions(date, date), app.drop_month(date) TO trunkline_jobs;
"""
LARGE_TABLES = ("calls", "turns", "call_events", "usage")

GRANTS = {
    "calls": {"api": "SELECT", "ingest": "SELECT, INSERT, UPDATE", "jobs": "SELECT, DELETE"},
    "turns": {"api": "SELECT", "ingest": "SELECT, INSERT, UPDATE", "jobs": "SELECT, DELETE"},
    "call_events": {"api": "SELECT", "ingest": "SELECT, INSERT", "jobs": "SELECT, DELETE"},
    "usage": {"api": "SELECT", "ingest": "SELECT, INSERT", "jobs": "SELECT"},
    "uploads": {
        "api": "SELECT, INSERT, UPDATE, DELETE",
        "ingest": "SELECT, INSERT, UPDATE",
        "jobs": "SELECT, UPDATE, DELETE",
    },
    "recordings": {
        "api": "SELECT, INSERT, UPDATE, DELETE",
        "ingest": "SELECT, INSERT, UPDATE",
        "jobs": "SELECT, INSERT, UPDATE, DELETE",
    },
    "bookings": {"api": "SELECT", "ingest": "SELECT, INSERT, UPDATE", "jobs": "SELECT, DELETE"},
}


def upgrade() -> None:
    """Make the tables, then say who may do what."""
    run(TABLES)
    for table, grants in GRANTS.items():
        isolate(table, grants)
    run(PARTITIONS)
    for table in LARGE_TABLES:
        show_to_lookup(f"{table}_default", "organization_id")
    lookup(
        "stray_rows()",
        "TABLE (parent text, stray bigint)",
        " UNION ALL ".join(
            f"SELECT '{table}', count(*) FROM {table}_default"  # noqa: S608 - names from above
            for table in LARGE_TABLES
        ),
        "jobs",
    )
    run("""SELECT app.ensure_partitions(
        (now() - interval '3 months')::date, (now() + interval '3 months')::date)""")


def downgrade() -> None:
    """Remove the tables with all that is in them."""
    drop_lookups("stray_rows()")
    drop_tables(*reversed(GRANTS))
    run("""DROP FUNCTION app.ensure_partitions(date, date), app.drop_month(date),
        app.add_month(date), app.seal(regclass), app.id_at(timestamptz)""")
