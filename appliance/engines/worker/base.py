# SPDX-License-Identifier: Apache-2.0
"""What all workers share, whoever started them: who serves now, and the provider that calls use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog

from appliance.engines.worker.link import Link
from appliance.engines.worker.remote import REMOTE
from appliance.plugin import ConfigurationError, Kind, UnavailableError

_log = structlog.get_logger(__name__)


class WorkerState(StrEnum):
    """What a worker is doing."""

    STARTING = "starting"
    READY = "ready"
    SILENT = "silent"
    RESTARTING = "restarting"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker as an operator sees it.

    Attributes:
        name: `KIND.NAME`, as its section of the config is called.
        placement: `worker` or `host:port`.
        pid: of its process; 0 while there is none, or when it is on another machine.
        restarts: since the box started.
        streams: requests that run on it now.
        memory_mib: of its own; 0 when that is not known.
        trouble: why it last failed, or "".
    """

    name: str
    placement: str
    state: WorkerState
    pid: int = 0
    restarts: int = 0
    streams: int = 0
    memory_mib: int = 0
    trouble: str = ""


class Worker(ABC):
    """What both sorts of workers share: who serves, and the provider that calls use.

    Attributes:
        kind: of the provider.
        name: of its section.
        provider: implements the interface of `kind`.
    """

    placement = ""

    def __init__(self, kind: Kind, name: str, capabilities: Any) -> None:
        self.kind, self.name = kind, name
        self.provider: Any = REMOTE[kind](self, capabilities)
        self._serving: Link | None = None
        self._state = WorkerState.STARTING
        self._trouble = ""
        self._log = _log.bind(worker=f"{kind.value}.{name}")

    def lease(self) -> Link:
        """Return the link to who serves now; see `Lease`."""
        if self._serving is None:
            raise UnavailableError(f"the engine worker {self.name} is {self._state.value}")
        return self._serving

    @property
    def recovering(self) -> bool:
        """Whether it cannot serve now and will again by itself."""
        return self._state in {WorkerState.SILENT, WorkerState.RESTARTING}

    def _serve(self, link: Link) -> None:
        self._serving, self._state = link, WorkerState.READY

    def _silent(self, link: Link) -> None:
        """It does not answer: whoever waits for it is told at once, and nobody else is sent to it."""
        self._log.warning("worker does not answer", streams=link.active)
        self._serving, self._state = None, WorkerState.SILENT
        link.abandon(UnavailableError(f"the engine worker {self.name} does not answer"))

    def _back(self, link: Link) -> None:
        self._log.info("worker answers again")
        link.resume()
        self._serve(link)

    def _accept(self, capabilities: Any) -> None:
        """Take over what a new process can do.

        Raises:
            ConfigurationError: running calls could not go on with it.
        """
        old = self.provider.capabilities
        for field in ("sample_rate", "sample_rates", "dimensions"):
            if getattr(old, field, None) != getattr(capabilities, field, None):
                raise ConfigurationError(
                    f"{field} would change while calls run", remedy="restart the box"
                )
        self.provider.capabilities = capabilities

    @abstractmethod
    def status(self) -> WorkerStatus:
        """Return what an operator wants to know."""

    @abstractmethod
    async def aclose(self) -> None:
        """End what this box started. Idempotent."""
