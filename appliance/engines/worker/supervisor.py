# SPDX-License-Identifier: Apache-2.0
"""All workers of a box."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appliance.engines.worker.base import Worker, WorkerStatus
from appliance.engines.worker.distant import DistantWorker
from appliance.engines.worker.launch import socket_folder
from appliance.engines.worker.local import LocalWorker
from appliance.engines.worker.process import TlsFiles, WorkerSpec
from appliance.engines.worker.pulse import PulseLimits
from appliance.plugin import Kind, ProviderError


class Supervisor:
    """All workers of a box, and the private folder of their sockets."""

    def __init__(self) -> None:
        logging.getLogger("grpc").setLevel(logging.WARNING)  # it logs every call at debug
        self._workers: dict[tuple[Kind, str], Worker] = {}
        self._folder: Path | None = None

    async def add_local(
        self, name: str, spec: WorkerSpec, limits: PulseLimits | None = None
    ) -> LocalWorker:
        """Start a worker process.

        Raises:
            ProviderError: see `LocalWorker.start`.
        """
        if self._folder is None:
            self._folder = socket_folder()
        worker = LocalWorker(name, spec, self._folder, limits)
        await worker.start()
        self._workers[worker.kind, name] = worker
        return worker

    async def add_distant(
        self, kind: Kind, name: str, address: str, tls: TlsFiles, capabilities: Any
    ) -> DistantWorker:
        """Connect to a worker on another machine.

        Raises:
            ConfigurationError: see `DistantWorker.start`.
        """
        worker = DistantWorker(kind, name, address, tls, capabilities)
        try:
            await worker.start()
        except ProviderError:
            await worker.aclose()
            raise
        self._workers[kind, name] = worker
        return worker

    def local(self, kind: Kind, name: str) -> LocalWorker:
        """Return a worker of this box.

        Raises:
            KeyError: this section has none.
        """
        worker = self._workers[kind, name]
        if not isinstance(worker, LocalWorker):
            raise KeyError(name)
        return worker

    async def remove(self, kind: Kind, name: str) -> None:
        """End a worker, if there is one."""
        worker = self._workers.pop((kind, name), None)
        if worker is not None:
            await worker.aclose()

    def status(self) -> Sequence[WorkerStatus]:
        """Return the state of every worker."""
        return [worker.status() for worker in self._workers.values()]

    async def aclose(self) -> None:
        """End all workers of this box. Idempotent."""
        workers, self._workers = self._workers, {}
        await asyncio.gather(*(worker.aclose() for worker in workers.values()))
        folder, self._folder = self._folder, None
        if folder is not None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
