# SPDX-License-Identifier: Apache-2.0
"""Tells observer hooks what happened in calls, beside the calls: none can delay or break one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import structlog

from appliance.plugin.loading import HOOK_TIMEOUT_S, LoadedPlugin, PluginFault, in_daemon_thread

log = structlog.get_logger(__name__)

OBSERVER_HOOKS = frozenset(
    {"call_ringing", "call_answered", "turn_committed", "tool_called", "call_ended"}
)

CAPACITY = 1000
"""Notifications that may wait. Beyond it the newest are dropped and counted."""


class Observers:
    """A bounded queue and the one task that empties it.

    Each hook runs in a thread of its own, one at a time and in order, because a hook is ordinary
    blocking code. One that takes longer than `HOOK_TIMEOUT_S` is reported and its plugin is told
    nothing more; one that raises is logged and told again next time.

    Attributes:
        dropped: notifications lost because the queue was full.
    """

    def __init__(
        self, plugins: Iterable[LoadedPlugin], failed: Callable[[PluginFault], None]
    ) -> None:
        told = list(plugins)
        self._listeners = {
            hook: [plugin for plugin in told if hook in plugin.hook_names]
            for hook in OBSERVER_HOOKS
        }
        self._failed = failed
        self._queue: asyncio.Queue[tuple[str, Mapping[str, Any]]] = asyncio.Queue(CAPACITY)
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def notify(self, hook: str, facts: Mapping[str, Any]) -> None:
        """Queue a notification; costs nothing when nobody listens."""
        if hook not in OBSERVER_HOOKS:
            raise ValueError(f"no observer hook is named {hook!r}")
        if not self._listeners[hook]:
            return
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), name="plugin-observers")
        copies = {  # the hook runs later, in another thread, and may do with them what it likes
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in facts.items()
        }
        try:
            self._queue.put_nowait((hook, copies))
        except asyncio.QueueFull:
            self.dropped += 1
            if self.dropped.bit_count() == 1:  # at 1, 2, 4, 8, ...: not a line for each
                log.warning("observer_queue_full", hook=hook, dropped=self.dropped)

    async def _run(self) -> None:
        while True:
            hook, facts = await self._queue.get()
            for plugin in list(self._listeners[hook]):
                await self._tell(plugin, hook, facts)
            self._queue.task_done()

    async def _tell(self, plugin: LoadedPlugin, hook: str, facts: Mapping[str, Any]) -> None:
        work = partial(getattr(plugin.hooks, hook), **facts)
        future = in_daemon_thread(work, f"plugin-{plugin.id}-{hook}")
        done, _ = await asyncio.wait([asyncio.wrap_future(future)], timeout=HOOK_TIMEOUT_S)
        if not done:
            message = f"hook {hook} did not return within {HOOK_TIMEOUT_S:g} s; it is told no more"
            for listeners in self._listeners.values():
                if plugin in listeners:
                    listeners.remove(plugin)
            log.error("observer_hung", plugin=plugin.id, hook=hook)
            self._failed(PluginFault(plugin.id, "observer", message))
            return
        error = future.exception()
        if error is not None:
            log.error("observer_failed", plugin=plugin.id, hook=hook, error=repr(error))

    async def aclose(self) -> None:
        """Empty the queue within `HOOK_TIMEOUT_S`, then stop. Idempotent."""
        if self._task is None:
            return
        task, self._task = self._task, None
        if not task.done():
            try:
                await asyncio.wait_for(self._queue.join(), HOOK_TIMEOUT_S)
            except TimeoutError:
                log.warning("observers_cut_short", waiting=self._queue.qsize())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
