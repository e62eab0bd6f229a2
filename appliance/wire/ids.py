# SPDX-License-Identifier: Apache-2.0
"""Identifiers and times as they are written on the wire."""

from __future__ import annotations

import secrets
import time
import uuid
from datetime import UTC, datetime


def uuid7(unix_ms: int | None = None) -> uuid.UUID:
    """Return a new UUID of version 7 (RFC 9562, 5.7): time in milliseconds, then 74 random bits.

    Args:
        unix_ms: its time; by default the clock's. A wrong clock costs the order, never uniqueness.
    """
    at = time.time_ns() // 1_000_000 if unix_ms is None else unix_ms
    value = (at & (2**48 - 1)) << 80 | 0x7 << 76 | secrets.randbits(12) << 64
    return uuid.UUID(int=value | 0b10 << 62 | secrets.randbits(62))


def new_id() -> str:
    """Return a new UUIDv7 as text."""
    return str(uuid7())


def to_text(at: datetime) -> str:
    """Return a time as RFC 3339 in UTC with milliseconds: `2026-03-02T12:00:00.000Z`.

    Raises:
        ValueError: the time has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone")
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now_text() -> str:
    """Return the clock's time as `to_text` writes it."""
    return to_text(datetime.now(UTC))
