# SPDX-License-Identifier: Apache-2.0
"""A worker on another machine, which somebody else starts: connected to, and watched."""

from __future__ import annotations

import asyncio
from typing import Any

from appliance.engines.worker import codec
from appliance.engines.worker.base import Worker, WorkerState, WorkerStatus
from appliance.engines.worker.link import Link
from appliance.engines.worker.process import TlsFiles
from appliance.engines.worker.pulse import PulseEvents, PulseLimits, follow
from appliance.plugin import ConfigurationError, Kind, ProviderError

CONNECT_S = 5.0
"""How long the start of a box waits for it."""

AGAIN_S = 2.0
"""Between two attempts to reach one that was not there."""


class DistantWorker(Worker):
    """A provider in a worker on another machine, which somebody else starts and watches.

    Args:
        kind: of the provider.
        name: of its section.
        address: `host:port`.
        tls: this box's certificate, and who signed the worker's.
        capabilities: assumed until the worker has told its own.
    """

    def __init__(
        self, kind: Kind, name: str, address: str, tls: TlsFiles, capabilities: Any
    ) -> None:
        super().__init__(kind, name, capabilities)
        self.placement = address
        self._tls = tls
        self._link: Link | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect; when it cannot be reached, go on trying while the box runs without it.

        Raises:
            ConfigurationError: a certificate cannot be read, or another kind of provider is there.
        """
        try:
            credentials = self._tls.client()
        except OSError as error:
            message = f"the certificates for {self.placement} cannot be used: {error}"
            raise ConfigurationError(message) from error
        self._link = Link(self.placement, credentials)
        self._state = WorkerState.SILENT
        try:
            await self._meet(self._link, first=True)
        except ConfigurationError:
            raise
        except ProviderError as error:
            self._trouble = str(error)
            self._log.warning("worker cannot be reached yet", error=str(error))
        self._watching = asyncio.ensure_future(self._watch(self._link))

    async def _meet(self, link: Link, *, first: bool = False) -> None:
        found = await link.describe(CONNECT_S)
        if found.kind != self.kind.value:
            message = f"{self.placement} hosts a {found.kind}, not a {self.kind.value}"
            raise ConfigurationError(message, remedy="correct the port, or its --engine")
        capabilities = codec.capabilities(found)
        if first:
            self.provider.capabilities = capabilities
        else:
            self._accept(capabilities)
        self._serve(link)

    async def _watch(self, link: Link) -> None:
        limits = PulseLimits(every_s=0.25)
        while self._serving is None:
            if await link.healthy(limits.timeout_s):
                try:
                    await self._meet(link)
                    break
                except ProviderError as error:
                    self._trouble = str(error)
                    self._log.error("worker cannot be used", error=str(error))
            await asyncio.sleep(AGAIN_S)
        events = PulseEvents(
            silent=lambda: self._silent(link),
            back=lambda: self._back(link),
            check=lambda: "",
            wants_to_run=lambda: False,
        )
        await follow(link, limits, events)

    def status(self) -> WorkerStatus:
        """Return what an operator wants to know."""
        return WorkerStatus(
            f"{self.kind.value}.{self.name}",
            self.placement,
            self._state,
            streams=self._link.active if self._link else 0,
            trouble=self._trouble,
        )

    async def aclose(self) -> None:
        """Disconnect. Idempotent."""
        self._serving, self._state = None, WorkerState.STOPPED
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._link is not None:
            await self._link.close()
