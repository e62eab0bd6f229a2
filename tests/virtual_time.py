# SPDX-License-Identifier: Apache-2.0
"""An event loop whose clock jumps: waiting costs no time. For code without threads of its own."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of sleeping for a timeout, moves the clock by it."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            return super().select(None)
        ready = super().select(0)
        if not ready and timeout > 0:
            self.offset += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.offset


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time; a task left behind is an error that names it."""
    loop = VirtualLoop()
    try:
        result = loop.run_until_complete(main)
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
        if left:
            msg = f"tasks left behind: {left}"
            raise AssertionError(msg)
        return result
    finally:
        loop.close()
