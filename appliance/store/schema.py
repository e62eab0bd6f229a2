# SPDX-License-Identifier: Apache-2.0
"""The tables, as a list of migrations. `PRAGMA user_version` counts how many were applied.

A migration that was released is never edited: append a new one.
"""

from __future__ import annotations

from sqlite_utils import Database

from appliance.store.errors import StoreVersionError

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE calls (
            id TEXT PRIMARY KEY,
            agent TEXT NOT NULL,
            agent_version TEXT NOT NULL,  -- hash of the agent's definition
            transport TEXT NOT NULL,
            trunk TEXT NOT NULL,
            direction TEXT NOT NULL CHECK (direction IN ('inbound', 'outbound')),
            caller TEXT NOT NULL,
            called TEXT NOT NULL,
            protocol_id TEXT NOT NULL,    -- SIP Call-ID
            started_at TEXT NOT NULL,     -- UTC, ISO 8601, milliseconds
            answered_at TEXT,
            ended_at TEXT,                -- NULL while the call goes on
            cause TEXT NOT NULL DEFAULT '',
            recording_path TEXT NOT NULL DEFAULT ''
        ) STRICT
        """,
        "CREATE INDEX calls_by_time ON calls (started_at)",
        "CREATE INDEX calls_open ON calls (id) WHERE ended_at IS NULL",
        """
        CREATE TABLE events (
            call_id TEXT NOT NULL,
            seq INTEGER NOT NULL,         -- gapless in a call, from 0
            t_ms INTEGER NOT NULL,        -- media time since the answer
            kind TEXT NOT NULL,
            data TEXT NOT NULL CHECK (json_valid(data)),
            PRIMARY KEY (call_id, seq)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE usage (
            call_id TEXT NOT NULL,
            provider TEXT NOT NULL,
            kind TEXT NOT NULL,
            unit TEXT NOT NULL CHECK (unit IN ('seconds', 'tokens', 'characters')),
            quantity INTEGER NOT NULL CHECK (quantity >= 0),
            PRIMARY KEY (call_id, provider, kind, unit)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE appointments (
            idempotency_key TEXT PRIMARY KEY,
            calendar TEXT NOT NULL,
            date TEXT NOT NULL,           -- YYYY-MM-DD
            time TEXT NOT NULL,           -- HH:MM, local time of the box
            name TEXT NOT NULL,
            call_id TEXT NOT NULL,
            created_at TEXT NOT NULL,
            UNIQUE (calendar, date, time) -- a taken slot is refused
        ) STRICT
        """,
    ),
    (
        """
        CREATE TABLE outbox_parts (       -- what one life of the program wrote to one stream
            id INTEGER PRIMARY KEY AUTOINCREMENT,  -- in the order in which they began
            stream TEXT NOT NULL,
            epoch TEXT NOT NULL,          -- UUIDv7, one for each life of the program
            floor INTEGER NOT NULL,       -- the lowest number that is still here
            last INTEGER NOT NULL,        -- the highest that was given
            acked INTEGER NOT NULL,       -- the hub has committed all up to this one
            thinned INTEGER NOT NULL,     -- up to here events were given up for want of room
            bytes INTEGER NOT NULL,       -- of all its rows
            UNIQUE (stream, epoch)
        ) STRICT
        """,
        """
        CREATE TABLE outbox (
            part INTEGER NOT NULL,
            seq INTEGER NOT NULL,         -- gapless in its part, from 1
            kind TEXT NOT NULL,
            at TEXT NOT NULL,             -- UTC, ISO 8601, milliseconds
            data TEXT NOT NULL,           -- JSON
            PRIMARY KEY (part, seq)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE outbox_marks (       -- when the hub had acknowledged how much
            part INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            at TEXT NOT NULL,
            PRIMARY KEY (part, seq)
        ) STRICT, WITHOUT ROWID
        """,
    ),
    (
        # which hub identity it is for; '' while the box has none
        "ALTER TABLE outbox_parts ADD COLUMN box TEXT NOT NULL DEFAULT ''",
    ),
)


def migrate(db: Database) -> int:
    """Bring the file to the newest schema, each migration in a transaction; return its version.

    Raises:
        StoreVersionError: the file is newer than this software.
    """
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    newest = len(MIGRATIONS)
    if version > newest:
        raise StoreVersionError(
            f"the store has schema {version}, but this software knows only up to {newest}",
            remedy="install the version that made it, or a newer one",
        )
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        with db.atomic():
            for statement in statements:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {number}")
    return newest
