# SPDX-License-Identifier: Apache-2.0
"""Which members of a provider chain to try, in which order, and how long to wait for each."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

from appliance.plugin import InvalidRequestError, ProviderTimeoutError, RateLimitedError

_log = structlog.get_logger(__name__)
_P = TypeVar("_P")

REST_S = (2.0, 10.0, 60.0)
"""How long a provider rests after its first, second and every further failure in a row."""

PATIENCE_S = 0.8
"""The next provider is never asked sooner than this, and later only where the first one is known to be
slower: within a second of a hang somebody must be answering."""

PATIENCE_TIMES = 4.0
"""So many times what it usually takes a provider may take before the next one is asked as well."""

STRIKES = 3
"""Answers in a row that came later than another provider's: then the late one rests as if it had failed."""

_REMEMBERED = 16


@dataclass(slots=True)
class Member(Generic[_P]):
    """A provider of a chain, under its name in the config.

    Attributes:
        name: in the config.
        provider: what is asked.
        failures: in a row.
        rests_until: it is asked only as a last resort before.
        strikes: answers in a row that came too late.
        alive_at: when it last gave anything to any call: one that is only busy does so all the time.
    """

    name: str
    provider: _P
    failures: int = 0
    rests_until: float = 0.0
    strikes: int = 0
    alive_at: float = 0.0
    _answers: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def answered_in(self, seconds: float) -> None:
        """Note how long it took until an answer began."""
        self._answers.append(seconds)

    def patience_s(self, limit_s: float) -> float:
        """Return how long to wait for it before the next one is asked as well."""
        if not self._answers:
            return limit_s
        usual = PATIENCE_TIMES * statistics.median(self._answers)
        return min(max(usual, PATIENCE_S), limit_s)

    @property
    def recovering(self) -> bool:
        """Whether it cannot answer now and will soon: its worker is being restarted."""
        return bool(getattr(self.provider, "recovering", False))


class Health(Generic[_P]):
    """The members of a chain, and which of them to try. Their state is shared by all calls.

    Args:
        members: at least one.
        clock: seconds, monotonic.
    """

    def __init__(self, members: Sequence[Member[_P]], clock: Callable[[], float]) -> None:
        self.members = tuple(members)
        self.clock = clock

    def candidates(self) -> list[Member[_P]]:
        """Return the rested members, then, as a last resort, the resting ones."""
        return sorted(self.members, key=lambda member: not self.rested(member))

    def rested(self, member: Member[_P]) -> bool:
        """Tell whether a member may be asked beside another one."""
        return member.rests_until <= self.clock() and not member.recovering

    def failed(self, member: Member[_P], error: Exception) -> None:
        """Note a failure: the member rests, the longer the more failures in a row.

        What fails while it rests was begun before, or was a last resort: one crash under many calls is
        one failure.
        """
        if self.clock() < member.rests_until:
            _log.info("provider failed again", provider=member.name, error=str(error))
            return
        if isinstance(error, InvalidRequestError):  # the request is at fault
            _log.warning("provider refused a request", provider=member.name, error=str(error))
            return
        rest = REST_S[min(member.failures, len(REST_S) - 1)]
        if isinstance(error, RateLimitedError):  # it works, and says when to come back
            rest = error.retry_after_s or REST_S[0]
        else:
            member.failures += 1
        member.rests_until = self.clock() + rest
        _log.warning("provider failed", provider=member.name, error=str(error), rests_s=rest)

    def late(self, member: Member[_P]) -> None:
        """Note that another one answered first although it was asked later."""
        member.strikes += 1
        if member.strikes >= STRIKES:
            member.strikes = 0
            self.failed(member, ProviderTimeoutError(f"late {STRIKES} times in a row"))

    def worked(self, member: Member[_P]) -> None:
        """Note a success."""
        member.failures, member.rests_until, member.strikes = 0, 0.0, 0
