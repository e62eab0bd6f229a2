# SPDX-License-Identifier: Apache-2.0
"""The hub as the box sees it: waits to be claimed, keeps the link up, renews the certificate in time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import structlog

from appliance.store import Upkeep
from appliance.sync.claim import ClaimError, Door
from appliance.sync.health import BoxFacts, HealthMeter
from appliance.sync.identity import HubFiles
from appliance.sync.link import HubLink, LinkState, LinkStore
from appliance.sync.mqtt import Endpoint
from appliance.wire import Identity, WireError, topics

FOLDER = "hub"
"""Of the box's identity, in its data folder."""

LOOK_EVERY_S = 2.0
"""How often the identity's file is looked at: `trunkline hub claim` is another process."""

RENEW_EVERY_S = 3600.0
"""How often it is asked whether the certificate is due, and how long after a failure it is tried again."""

HEALTH_EVERY_S = 60.0

_log = structlog.get_logger(__name__)


class HubStore(LinkStore, Protocol):
    """The part of the store that is needed here."""

    async def own_outbox(self, box_id: str) -> int:
        """Keep for this identity alone what was written for nobody yet; see `Store`."""
        ...

    def report(self, stream: str, kind: str, data: Mapping[str, Any]) -> None:
        """Write a fact for the hub; see `Store`."""
        ...


class Hub:
    """Runs as long as the box does. `start`, then `aclose`.

    Args:
        store: where the outbox is.
        data_dir: the box's data folder.
        facts: what the box itself knows of its health; called on the event loop.
        handlers: see `HubLink`.
        upkeep: of the outbox.
        software: name and version, for the hub's list of boxes.
    """

    def __init__(
        self,
        store: HubStore,
        data_dir: Path,
        *,
        facts: Callable[[], BoxFacts] = BoxFacts,
        handlers: Mapping[str, Callable[[bytes], None]] | None = None,
        upkeep: Upkeep | None = None,
        software: str = "",
    ) -> None:
        self.files = HubFiles(data_dir / FOLDER)
        self._store = store
        self._facts = facts
        self._meter = HealthMeter(data_dir)
        self._handlers = handlers
        self._upkeep = upkeep
        self._software = software
        self._link: HubLink | None = None
        self._identity: Identity | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. Whether there is a hub or not, calls are answered."""
        self._task = asyncio.create_task(self._run(), name="hub")

    async def aclose(self) -> None:
        """End the link; what was not sent stays in the store. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._unlink()

    async def state(self) -> LinkState | None:
        """Return how the link is; None while the box belongs to no hub.

        Raises:
            StoreError: the store cannot be read.
        """
        return None if self._link is None else await asyncio.to_thread(self._link.state)

    async def _run(self) -> None:
        renew_at = health_at = 0.0
        while True:
            try:
                await self._follow()
                now = asyncio.get_running_loop().time()
                if self._link is not None and now >= health_at:
                    health_at = now + HEALTH_EVERY_S
                    await self._report_health()
                if self._link is not None and now >= renew_at:
                    renew_at = now + RENEW_EVERY_S * (0.5 + random.random())  # noqa: S311 - jitter
                    await self._renew()
            except Exception:  # whatever happens here, the box goes on
                _log.exception("the hub's part of the box stumbled")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _follow(self) -> None:
        """Have the link belong to the identity that lies on the disk."""
        try:
            identity = await asyncio.to_thread(self.files.identity)
        except WireError as error:
            _log.error("the box's hub identity cannot be read", error=str(error))
            return
        if identity == self._identity:
            return
        await self._unlink()
        if identity is None:
            self._identity = None
            _log.warning("the box belongs to no hub any more")
            return
        withheld = await self._store.own_outbox(identity.box_id)
        if withheld:
            _log.warning("facts of a former hub identity are not sent to this one", rows=withheld)
        endpoint = Endpoint(
            identity.mqtt_host, identity.mqtt_port, identity.box_id, self.files.tls_context
        )
        self._link = HubLink(
            self._store,
            endpoint,
            handlers=self._handlers,
            upkeep=self._upkeep,
            software=self._software,
        )
        self._link.start()
        self._identity = identity  # last: what fails before this is tried again

    async def _report_health(self) -> None:
        facts, state = self._facts(), await self.state()
        health = await asyncio.to_thread(self._meter.read, facts, state)
        self._store.report(topics.FLEET, "health", health.model_dump(exclude_none=True))

    async def _renew(self) -> None:
        if not await asyncio.to_thread(self.files.renewal_due):
            return
        try:
            async with Door.of(self.files) as door:
                await door.renew(self.files)
        except ClaimError as error:
            _log.error("the box's certificate was not renewed", error=str(error))

    async def _unlink(self) -> None:
        if self._link is not None:
            await asyncio.to_thread(self._link.close)
            self._link = None
