# SPDX-License-Identifier: Apache-2.0
"""How often somebody may ask: token buckets that all API processes draw from together.

A process asks the database for a second's worth of tokens at a time (one, where the rate is low) and hands
them out from memory within a minute, so a busy key costs about one statement a second, and a rate below 120
a minute is exact; above, each process may have a second's worth more. What the shared bucket refuses is
refused from memory until it says to come again. While the database does not answer, each process bounds by
itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

log = logging.getLogger(__name__)

REMEMBERED = 20_000
"""Buckets kept; beyond that the one unused for longest is forgotten."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """May they, how many more they could at once, and in how many seconds to come again."""

    allowed: bool
    remaining: int
    retry_after_s: int


class Buckets:
    """One bucket for each name, in this process; time is a parameter.

    Args:
        per_minute: tokens that flow in, and how many a bucket holds.
    """

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, now: float) -> Verdict:
        """Take a token from a bucket; `now` in seconds of any steady clock."""
        rate = self.per_minute / 60
        level, seen = self._levels.pop(name, (float(self.per_minute), now))
        level = min(self.per_minute, level + (now - seen) * rate)
        allowed = level >= 1
        level -= allowed
        self._levels[name] = (level, now)
        if len(self._levels) > REMEMBERED:
            self._levels.popitem(last=False)
        wait = 0 if allowed else math.ceil((1 - level) / rate)
        return Verdict(allowed, int(level), wait)


_TAKE: Final = text("SELECT app.take_tokens(:name, :tokens, :per_minute)")
_PATIENCE_S: Final = 2.0
"""How long a request waits for the shared bucket before it is judged by this process alone."""
_LEASE_S: Final = 60.0
"""How long tokens that a process has drawn are good: as long as it takes them to flow in again."""


@dataclass(slots=True)
class _Lease:
    """What this process has of a shared bucket.

    Attributes:
        tokens: to be handed out before `until`.
        refused_until: nothing is to be had before; all in seconds of the monotonic clock.
    """

    tokens: int = 0
    until: float = 0.0
    refused_until: float = 0.0
    drawing: asyncio.Lock = field(default_factory=asyncio.Lock)


class SharedBuckets:
    """One bucket for each name, in the database.

    Args:
        engine: of the API role.
        kind: what is counted; the same name of another kind is another bucket.
        per_minute: tokens that flow in, and how many a bucket holds.
    """

    def __init__(self, engine: AsyncEngine, kind: str, per_minute: int) -> None:
        self.per_minute = per_minute
        self._kind = kind
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._own = Buckets(per_minute)
        self._leases: OrderedDict[str, _Lease] = OrderedDict()

    async def take(self, name: str) -> Verdict:
        """Take a token from a bucket."""
        now = time.monotonic()
        # Nobody gets more from one process than from all together: a flood ends here, in memory.
        own = self._own.take(name, now)
        if not own.allowed:
            return own
        lease = self._leases.setdefault(name, _Lease())
        self._leases.move_to_end(name)
        if len(self._leases) > REMEMBERED:
            self._leases.popitem(last=False)
        async with lease.drawing:  # those who ask at once share what one of them draws
            now = time.monotonic()
            if lease.tokens > 0 and now < lease.until:
                lease.tokens -= 1
                return own
            if now < lease.refused_until:
                return _refused(lease.refused_until - now)
            return await self._draw(name, lease, own)

    async def _draw(self, name: str, lease: _Lease, own: Verdict) -> Verdict:
        wanted, wait = max(1, self.per_minute // 60), 0.0
        try:
            async with asyncio.timeout(_PATIENCE_S):
                wait = await self._ask(name, wanted)
                if wait and wanted > 1:
                    wanted = 1
                    wait = await self._ask(name, wanted)
        except (SQLAlchemyError, OSError) as error:  # TimeoutError is one of the latter
            reason = str(error).partition("\n")[0] or type(error).__name__
            log.warning("limits are this process's own for now: %s", reason)
            return own
        now = time.monotonic()
        if wait:
            lease.refused_until = now + wait
            return _refused(wait)
        lease.tokens, lease.until = wanted - 1, now + _LEASE_S
        return own

    async def _ask(self, name: str, tokens: int) -> float:
        """Return 0 when the tokens were taken, else in how many seconds to come again."""
        # Hashed: the table need not know addresses and e-mails.
        hashed = hashlib.sha256(f"{self._kind}:{name}".encode()).digest()
        values = {"name": hashed, "tokens": tokens, "per_minute": self.per_minute}
        async with self._engine.connect() as connection:
            return float((await connection.execute(_TAKE, values)).scalar_one())


def _refused(wait_s: float) -> Verdict:
    return Verdict(allowed=False, remaining=0, retry_after_s=max(1, math.ceil(wait_s)))
