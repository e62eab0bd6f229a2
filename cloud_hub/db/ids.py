# SPDX-License-Identifier: Apache-2.0
"""UUIDv7 identifiers (RFC 9562, 5.7): sorted by time, so that keys cluster and partitions prune."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from datetime import UTC, datetime
from uuid import UUID

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_BITS = (1 << 62) - 1
_TICKS_PER_MS = 4096
"""The 12 bits after the millisecond hold its fraction (RFC 9562, 6.2, method 3)."""

_lock = threading.Lock()
_last_tick = 0


def uuid7() -> UUID:
    """A new identifier; in one process each is greater than the one before."""
    global _last_tick  # noqa: PLW0603 - the order of ids is a promise of the whole process
    tick = time.time_ns() * _TICKS_PER_MS // 1_000_000
    with _lock:
        tick = _last_tick = max(tick, _last_tick + 1)
    return _assemble(tick, secrets.randbits(62))


def derived(parent: UUID, *parts: str) -> UUID:
    """The identifier of something that belongs to `parent`: same time, the rest from a hash.

    The same parts give the same identifier, so a row that is delivered twice has one key, and it
    lies in the month of its parent.
    """
    digest = hashlib.sha256(parent.bytes)
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    value = int.from_bytes(digest.digest()[:16], "big")
    tick = (parent.int >> 80) * _TICKS_PER_MS | (value >> 64) % _TICKS_PER_MS
    return _assemble(tick, value & _RANDOM_BITS)


def first_of(moment: datetime) -> UUID:
    """The smallest identifier of that millisecond: a boundary for ranges, not an identity.

    A moment before 1970, which no identifier can tell, is the boundary below all of them.
    """
    return UUID(int=max(int(moment.timestamp() * 1000), 0) << 80)


def moment_of(identifier: UUID) -> datetime:
    """When the identifier was made, to the millisecond.

    Raises:
        ValueError: it is not a version 7 identifier.
    """
    if identifier.version != 7:
        raise ValueError(f"{identifier} is not a UUIDv7")
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC)


def _assemble(tick: int, random: int) -> UUID:
    milliseconds, fraction = divmod(tick, _TICKS_PER_MS)
    return UUID(int=milliseconds << 80 | _VERSION | fraction << 64 | _VARIANT | random)
