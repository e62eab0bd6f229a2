# SPDX-License-Identifier: Apache-2.0
"""A worker process of this box: restarted when it crashed, killed when it hangs or grows, replaced on
demand.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance.engines.worker.base import Worker, WorkerState, WorkerStatus
from appliance.engines.worker.launch import WorkerProcess
from appliance.engines.worker.process import WorkerSpec
from appliance.engines.worker.pulse import PulseEvents, PulseLimits, follow
from appliance.plugin import ConfigurationError, ProviderError, UnavailableError

START_S = 300.0
"""Longest that a provider may take to load its model."""

DRAIN_S = 120.0
"""How long the streams of a replaced worker may still run."""

BACK_OFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
"""Wait before the first, second, ... restart in a row."""

STABLE_S = 60.0
"""A worker that ran this long before it failed is restarted as if it were the first time."""


def back_off_s(failures: int) -> float:
    """Return how long to wait before the restart after so many failures in a row, from 1."""
    return BACK_OFF_S[min(max(failures, 1), len(BACK_OFF_S)) - 1]


class LocalWorker(Worker):
    """A provider in a process of this box.

    Args:
        name: of its section.
        spec: what to host; `listen` and `parent` are filled in here.
        folder: for sockets, private.
        limits: of patience with a process that does not answer.
    """

    placement = "worker"

    def __init__(
        self, name: str, spec: WorkerSpec, folder: Path, limits: PulseLimits | None = None
    ) -> None:
        super().__init__(spec.offer.kind, name, spec.offer.capabilities)
        self._spec = _bounded(spec)
        self._folder = folder
        self._limits = limits or PulseLimits()
        self._process: WorkerProcess | None = None
        self._watching: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._replacing = asyncio.Lock()
        self._restarts = 0
        self._failures = 0
        self._began = 0.0

    async def start(self) -> None:
        """Start the first process.

        Raises:
            ProviderError: see `WorkerProcess.launch`.
        """
        process = await self._launch(self._spec)
        self.provider.capabilities = process.capabilities
        self._adopt(process)

    async def replace(self, spec: WorkerSpec | None = None) -> None:
        """Put a new process in the old one's place without losing a stream.

        New requests go to the new one as soon as its provider is built; the old one ends when its
        streams have, or after `DRAIN_S`.

        Args:
            spec: another provider or other settings for the same section; None for the same again.

        Raises:
            ProviderError: the new one cannot serve; the old one stays.
        """
        async with self._replacing:
            wanted = self._spec if spec is None else _bounded(spec)
            process = await self._launch(wanted)
            try:
                self._accept(process.capabilities)
            except ConfigurationError:
                await process.stop()
                raise
            old, watching = self._process, self._watching
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            self._spec = wanted
            self._adopt(process)
            if old is not None:
                retiring = asyncio.ensure_future(_retire(old))
                self._retiring.add(retiring)
                retiring.add_done_callback(self._retiring.discard)
            self._log.info("worker replaced", pid=process.pid, old=old.pid if old else 0)

    async def _launch(self, spec: WorkerSpec) -> WorkerProcess:
        path = self._folder / secrets.token_hex(4)  # short: an address holds 107 characters
        spec = replace(spec, listen=f"unix:{path}", parent=os.getpid())
        return await WorkerProcess.launch(spec, START_S)

    def _adopt(self, process: WorkerProcess) -> None:
        self._process, self._began = process, asyncio.get_running_loop().time()
        self._serve(process.link)
        self._watching = asyncio.ensure_future(self._watch(process))

    async def _watch(self, process: WorkerProcess) -> None:
        link = process.link
        events = PulseEvents(
            silent=lambda: self._silent(link),
            back=lambda: self._back(link),
            check=lambda: self._too_big(process),
            wants_to_run=process.wants_to_run,
        )
        why = await follow(link, self._limits, events, process.exited)
        self._serving, self._state, self._trouble = None, WorkerState.RESTARTING, why
        link.abandon(UnavailableError(f"the engine worker {self.name} {why}"))
        self._process = None
        self._log.error("worker failed", pid=process.pid, why=why)
        await process.kill()
        if asyncio.get_running_loop().time() - self._began > STABLE_S:
            self._failures = 0
        await self._restart()

    def _too_big(self, process: WorkerProcess) -> str:
        used, limit = process.memory_mib(), self._spec.memory_mib
        return f"uses {used} MiB of memory, {limit} are allowed" if used > limit else ""

    async def _restart(self) -> None:
        while True:
            self._failures += 1
            await asyncio.sleep(back_off_s(self._failures))
            try:
                process = await self._launch(self._spec)
            except ProviderError as error:
                self._trouble = str(error)
                self._log.error("worker does not start", error=str(error))
                continue
            self._restarts += 1
            self._log.info("worker restarted", pid=process.pid, restarts=self._restarts)
            self._adopt(process)
            return

    def status(self) -> WorkerStatus:
        """Return what an operator wants to know."""
        process = self._process
        return WorkerStatus(
            f"{self.kind.value}.{self.name}",
            self.placement,
            self._state,
            pid=process.pid if process else 0,
            restarts=self._restarts,
            streams=process.link.active if process else 0,
            memory_mib=process.memory_mib() if process else 0,
            trouble=self._trouble,
        )

    async def aclose(self) -> None:
        """End every process. Idempotent."""
        self._serving, self._state = None, WorkerState.STOPPED
        tasks = [*self._retiring, *([self._watching] if self._watching else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        process, self._process = self._process, None
        if process is not None:
            await process.stop()


async def _retire(process: WorkerProcess) -> None:
    """Let a replaced process finish what it has begun, then end it; at once when cancelled."""
    idle = asyncio.ensure_future(process.link.idle())
    try:
        either: set[asyncio.Future[Any]] = {idle, process.exited}
        await asyncio.wait(either, timeout=DRAIN_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        idle.cancel()
        await process.stop()


def _bounded(spec: WorkerSpec) -> WorkerSpec:
    """Return it with a bound on memory: half of the machine's where none is set."""
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 21
    return replace(spec, memory_mib=spec.memory_mib or half)
