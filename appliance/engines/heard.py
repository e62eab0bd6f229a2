# SPDX-License-Identifier: Apache-2.0
"""The audio of a caller's turn, kept so that each recognizer of a chain can be given all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from appliance.plugin import Flush, Pcm


class Heard:
    """Takes a stream once, and gives it out from its beginning as often as it is wanted.

    Attributes:
        flushed_at: when each flush came, in seconds of the event loop's clock.
        ended: when the stream ended, or None.
    """

    def __init__(self, source: AsyncIterator[Pcm | Flush]) -> None:
        self.flushed_at: list[float] = []
        self.ended: float | None = None
        self._items: list[Pcm | Flush] = []
        self._error: Exception | None = None
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._more = self._loop.create_future()
        self._asked = self._loop.create_future()
        self._taking = asyncio.ensure_future(self._take())

    async def _take(self) -> None:
        try:
            async for item in self._source:
                self._items.append(item)
                if isinstance(item, Flush):
                    self.flushed_at.append(self._loop.time())
                    self._tell_asked()
                self._tell()
        except Exception as error:
            self._error = error
        finally:
            self.ended = self._loop.time()
            self._tell_asked()
            self._tell()

    def _tell(self) -> None:
        more, self._more = self._more, self._loop.create_future()
        more.set_result(None)

    def _tell_asked(self) -> None:
        asked, self._asked = self._asked, self._loop.create_future()
        asked.set_result(None)

    def asked(self) -> asyncio.Future[None]:
        """Return what is done at the next flush, or at the end. It is shared: do not cancel it."""
        return self._asked

    def wanted(self) -> int:
        """Return how many finals are owed for what came so far."""
        unfinished = self.ended is not None and bool(self._items)
        unfinished = unfinished and not isinstance(self._items[-1], Flush)
        return len(self.flushed_at) + unfinished

    def asked_at(self, final: int) -> float:
        """Return when the final of this number, from 0, was asked for."""
        if final < len(self.flushed_at):
            return self.flushed_at[final]
        return self._loop.time() if self.ended is None else self.ended

    async def listen(self) -> AsyncIterator[Pcm | Flush]:
        """Yield everything from the beginning, then what comes.

        Raises:
            Exception: what the source raised.
        """
        position = 0
        while True:
            if position < len(self._items):
                yield self._items[position]
                position += 1
            elif self.ended is not None:
                if self._error is not None:
                    raise self._error
                return
            else:
                await asyncio.shield(self._more)

    async def aclose(self) -> None:
        """Take no more, and close the source. Idempotent."""
        self._taking.cancel()
        await asyncio.gather(self._taking, return_exceptions=True)
        with suppress(Exception):
            await self._source.aclose()  # type: ignore[attr-defined]
