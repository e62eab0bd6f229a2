# SPDX-License-Identifier: Apache-2.0
"""Asks the members of a chain for one stream: in order, and the next one beside one that takes too long."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from appliance.engines.errors import as_provider_error
from appliance.engines.health import Health, Member
from appliance.plugin import ProviderError, ProviderTimeoutError, UnavailableError

_P = TypeVar("_P")
_T = TypeVar("_T")

RECOVER_S = 1.2
"""How long a chain whose members are all down waits for a worker that is being restarted; then whoever
asked is told, and can say something before a silence is noticed."""

_LOOK_S = 0.05


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait.

    Attributes:
        first_s: for the first item of a stream.
        next_s: for each other item.
        urgent: False while nobody waits for the stream; that time does not count.
    """

    first_s: float
    next_s: float
    urgent: Callable[[], bool] = field(default=_always)


class Pulled(Generic[_T]):
    """A stream of which one item is fetched ahead; waiting for it can be given up and taken up again."""

    def __init__(self, stream: AsyncIterator[_T]) -> None:
        self._stream = aiter(stream)
        self._next: asyncio.Future[list[_T]] | None = None

    def next(self) -> asyncio.Future[list[_T]]:
        """Return the future of the next item: a list of one, or of none at the end of the stream."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._pull())
        return self._next

    def taken(self) -> None:
        """The item was used: `next` is about the one after it."""
        self._next = None

    async def _pull(self) -> list[_T]:
        try:
            return [await anext(self._stream)]
        except StopAsyncIteration:
            return []

    async def aclose(self) -> None:
        """Cancel what it waits for and close the stream. Idempotent."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
        with suppress(Exception):
            await self._stream.aclose()  # type: ignore[attr-defined]

    async def items(self, limits: Limits) -> AsyncIterator[_T]:
        """Yield the rest of the stream.

        Raises:
            ProviderTimeoutError: an item took longer than `next_s` of urgent time.
        """
        while True:
            coming = self.next()
            while not coming.done():
                done, _ = await asyncio.wait({coming}, timeout=limits.next_s)
                if not done and limits.urgent():
                    raise ProviderTimeoutError(f"no more for {limits.next_s:g} s")
            found = coming.result()
            self.taken()
            if not found:
                return
            yield found[0]


@dataclass(slots=True)
class _Runner(Generic[_P, _T]):
    member: Member[_P]
    stream: Pulled[_T]
    asked_at: float


class Race(Generic[_P, _T]):
    """One request to a chain.

    Args:
        health: of the chain.
        ask: begins the stream of a provider.
        limits: of patience.
        what: is looked for, for messages: "language model".
    """

    def __init__(
        self,
        health: Health[_P],
        ask: Callable[[_P], AsyncIterator[_T]],
        limits: Limits,
        what: str,
    ) -> None:
        self._health = health
        self._ask = ask
        self._limits = limits
        self._error: ProviderError | None = None
        self._what = what
        self._waiting = deque(health.candidates())
        self._running: list[_Runner[_P, _T]] = []
        self._clock = asyncio.get_running_loop().time
        self._recover_until: float | None = None
        self._again: list[Member[_P]] = []

    async def winner(self, error: ProviderError | None = None) -> tuple[Member[_P], Pulled[_T]]:
        """Return who answers first, with its stream; ask again after its stream broke off.

        Args:
            error: why the last winner's stream broke off.

        Raises:
            ProviderError: nobody answers; the last one's error.
        """
        self._error = error or self._error
        try:
            while True:
                if not self._running:
                    await self._start_another()
                await asyncio.wait(
                    [one.stream.next() for one in self._running],
                    timeout=self._patience(),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for runner in tuple(self._running):
                    if await self._answered(runner):
                        self._running.remove(runner)
                        return runner.member, runner.stream
                self._widen()
        finally:
            losers, self._running = self._running, []
            for runner in losers:
                await runner.stream.aclose()

    async def _answered(self, runner: _Runner[_P, _T]) -> bool:
        """Tell whether a runner wins; one that failed is taken out."""
        took = self._clock() - runner.asked_at
        coming = runner.stream.next()
        error: ProviderError
        if coming.done():
            raised = coming.exception()
            if raised is None:
                runner.member.answered_in(took)
                runner.member.alive_at = self._clock()
                for other in self._running:
                    if other.asked_at < runner.asked_at:
                        self._health.late(other.member)
                return True
            if not isinstance(raised, Exception):
                raise raised
            error = as_provider_error(raised)
        elif not self._limits.urgent():
            runner.asked_at = self._clock()
            return False
        elif took >= self._limits.first_s:
            error = ProviderTimeoutError(f"no answer within {self._limits.first_s:g} s")
        else:
            return False
        self._running.remove(runner)
        self._error = error
        if runner.member not in self._again:  # it was known to be down
            self._health.failed(runner.member, error)
        await runner.stream.aclose()
        return False

    async def _start_another(self) -> None:
        if not self._waiting:
            self._waiting.extend(await self._recovered())
        if not self._waiting:
            raise self._error or UnavailableError(f"no {self._what} is configured")
        self._start(self._waiting.popleft())

    def _start(self, member: Member[_P]) -> None:
        stream = Pulled(self._ask(member.provider))
        self._running.append(_Runner(member, stream, self._clock()))

    def _widen(self) -> None:
        """Ask the next one as well when the last one asked takes longer than usual."""
        if not self._running or not self._waiting or not self._limits.urgent():
            return
        if self._clock() >= self._overdue_at(self._running[-1]) and self._health.rested(
            self._waiting[0]
        ):
            self._start(self._waiting.popleft())

    def _overdue_at(self, runner: _Runner[_P, _T]) -> float:
        """Return when a runner has taken long enough for the next one to be asked as well.

        The time counts from its last sign of life, on whatever call: one that is busy is not hung.
        """
        since = max(runner.asked_at, runner.member.alive_at)
        return since + runner.member.patience_s(self._limits.first_s)

    def _patience(self) -> float:
        """Return when something has to be decided even if nobody answers."""
        now, first_s = self._clock(), self._limits.first_s
        due = min(one.asked_at for one in self._running) + first_s
        if self._waiting and self._health.rested(self._waiting[0]):
            due = min(due, self._overdue_at(self._running[-1]))
        return max(due - now, 0.0)

    async def _recovered(self) -> list[Member[_P]]:
        """Wait for a member whose worker is being restarted; none when that takes too long."""
        if self._recover_until is None:
            self._recover_until = self._clock() + RECOVER_S
        coming = [one for one in self._health.members if hasattr(one.provider, "recovering")]
        while coming and self._clock() < self._recover_until:
            await asyncio.sleep(_LOOK_S)
            ready = [one for one in coming if not one.recovering]
            if ready:
                self._again = ready
                return ready
        return []
