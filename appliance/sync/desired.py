# SPDX-License-Identifier: Apache-2.0
"""What the hub wants this box to be: fetched, checked, laid out, switched to between calls, reported.

A call keeps the agent that it began with: a switch changes what the next call gets. Nothing that comes
from the hub can take the box out of service: what is invalid is refused, and what fails in its first calls
is given up by the box itself (`trial`). One task does all of it in turn, its files on another thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import structlog

from appliance.call.agent import Agent
from appliance.sync import trial
from appliance.sync.hub_http import GoneError, NotTheHubsError, verify
from appliance.sync.releases import Check, Loaded, ReleaseError, Releases
from appliance.sync.trial import Release, State
from appliance.wire import Bundle, Desired, Identity, Reported, WireError
from appliance.wire.message import MAX_MESSAGE_BYTES
from appliance.wire.topics import FLEET

LOOK_EVERY_S = 10.0
"""How often it is looked for changes made on the box."""

FETCH_S = 60.0
"""How long a bundle may take; it is small."""

TRY_AGAIN_S = 2.0
TRY_AGAIN_MAX_S = 120.0
"""Pauses between attempts to fetch a bundle; each is twice the one before."""

_log = structlog.get_logger(__name__)

Report = Callable[[str, str, Mapping[str, Any]], None]
Fetch = Callable[[str, int], Awaitable[bytes]]


class DesiredState:
    """Runs as long as the box does: `start`, then `aclose`. `loaded` is what new calls get.

    Args:
        folder: where releases are kept.
        identity: who this box is now; None while it belongs to no hub.
        report: `Store.report`.
        fetch: returns at most so many bytes from a URL at the hub.
        check: says what this box cannot do of a bundle.
        software: name and version.
        changed: told when `loaded` is another.
    """

    def __init__(
        self,
        folder: Path,
        identity: Callable[[], Identity | None],
        report: Report,
        fetch: Fetch,
        check: Check,
        *,
        software: str = "",
        changed: Callable[[Loaded | None], None] = lambda _: None,
    ) -> None:
        self._releases = Releases(folder, check)
        self._identity = identity
        self._report = report
        self._fetch = fetch
        self._software = software
        self._changed = changed
        self._state = State()
        self._drift: dict[str, Any] = {}
        self._offer: Desired | None = None
        self._ended: deque[tuple[Release, bool]] = deque()
        self._fetch_at = 0.0
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self.loaded: Loaded | None = None

    @property
    def state(self) -> State:
        """What runs and how it came to that."""
        return self._state

    def start(self) -> None:
        """Bring back what ran before the box was stopped, however that happened. Blocks for some files."""
        self._loop = asyncio.get_running_loop()
        try:
            self._state = self._releases.state()
            self._use(self._load())
            self._drift = self._releases.drift(self._state.running)
            self._tell()
        except Exception:  # without the hub's agents the box still has its own
            _log.exception("the hub's configuration could not be read")
        self._task = asyncio.create_task(self._run(), name="desired state")

    async def aclose(self) -> None:
        """Stop following the hub. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def received(self, payload: bytes) -> None:
        """Take a `Desired` message; for the link, on any thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the box is being stopped
                loop.call_soon_threadsafe(self._received, payload)

    def agent(self, name: str) -> Agent | None:
        """Return an agent of the hub's for a new call."""
        return None if self.loaded is None else self.loaded.agent(name)

    def version_id(self, agent: Agent) -> str:
        """Return the hub's id of this version; "" when the hub did not send it, or not like this."""
        return "" if self.loaded is None else self.loaded.version_id(agent)

    def call_ended(self, revision: str, *, failed: bool) -> None:
        """Note how a call of the agent with this `Agent.revision` ended."""
        loaded = self.loaded
        if loaded is None or self._state.trial is None:
            return
        agents = (loaded.agent(name) for name in loaded.names())
        if revision in {agent.revision() for agent in agents if agent is not None}:
            self._ended.append((loaded.release, failed))
            self._wake.set()

    # -- offers ------------------------------------------------------------------------------

    def _received(self, payload: bytes) -> None:
        identity = self._identity()
        if identity is None:
            return
        try:
            verify(payload, identity)
            desired = Desired.decode(payload)
        except (NotTheHubsError, WireError) as error:
            _log.error("a desired state was ignored", why=str(error))
            return
        if desired.box_id not in {"", identity.box_id}:
            _log.error("a desired state was ignored", why="it is another box's")
            return
        if self._offer is None or desired.version >= self._offer.version:
            self._offer, self._fetch_at = desired, 0.0
        self._wake.set()

    async def _run(self) -> None:
        pause = TRY_AGAIN_S
        while True:
            waiting = self._fetch_at - self._now() if self._offer is not None else LOOK_EVERY_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(0.0, min(waiting, LOOK_EVERY_S)))
            self._wake.clear()
            try:
                await self._count_calls()
                if self._offer is None:
                    await self._look()
                elif self._now() >= self._fetch_at:
                    done = await self._take(self._offer)
                    pause = TRY_AGAIN_S if done else min(pause * 2, TRY_AGAIN_MAX_S)
                    self._fetch_at = 0.0 if done else self._now() + pause
            except Exception:  # whatever happens here, calls are answered
                _log.exception("the hub's configuration could not be followed")
                self._fetch_at = self._now() + TRY_AGAIN_MAX_S

    async def _count_calls(self) -> None:
        while self._ended:
            release, failed = self._ended.popleft()
            after = trial.call_ended(self._state, release, failed=failed)
            if after.running == self._state.running:
                await self._go(after)
                continue
            _log.error("the hub's configuration is taken back", why=after.errors)
            try:
                await self._go(after)
            except OSError:  # what fails must not go on because the disk is full
                _log.exception("the return to the former configuration could not be noted")
                self._state = after
                self._use(await asyncio.to_thread(self._load))

    async def _look(self) -> None:
        drift = await asyncio.to_thread(self._releases.drift, self._state.running)
        if drift != self._drift:
            _log.warning("the hub's agents were changed on this box", what=sorted(drift))
            self._drift = drift
            self._tell()

    async def _take(self, desired: Desired) -> bool:
        """Do what an offer says; False when it is to be tried again."""
        identity = self._identity()
        if identity is not None:
            before = trial.owned(self._state, identity.box_id)
            if not trial.is_new(before, desired.version):
                self._tell()
            elif not await self._take_new(desired, before, identity):
                return False
        if self._offer is desired:
            self._offer = None
        else:
            self._wake.set()
        return True

    async def _take_new(self, desired: Desired, before: State, identity: Identity) -> bool:
        release = Release(version=desired.version, sha256=desired.sha256)
        errors: tuple[str, ...]
        try:
            async with asyncio.timeout(FETCH_S):
                payload = await self._fetch(desired.bundle_url, MAX_MESSAGE_BYTES)
            _check_origin(payload, desired, identity)
            loaded = await asyncio.to_thread(self._releases.stage, release, payload, before.running)
            await asyncio.to_thread(self._releases.keep_edits, before.running, release)
            await self._go(trial.switched(before, release), loaded)
        except (httpx.HTTPError, OSError) as error:
            why = str(error) or type(error).__name__
            _log.warning("the hub's bundle cannot be had now", version=desired.version, why=why)
            return False
        except (GoneError, NotTheHubsError, WireError) as error:
            errors = (str(error),)
        except ReleaseError as error:
            errors = error.problems
        else:
            _log.info("new calls get the hub's configuration", version=desired.version)
            return True
        _log.error("the hub's configuration was refused", version=desired.version, why=errors)
        await self._go(trial.refused(before, desired.version, errors))
        return True

    # -- what runs ---------------------------------------------------------------------------

    async def _go(self, state: State, loaded: Loaded | None = None) -> None:
        """Enter a state: on the disk first, then in effect, then reported."""
        if state == self._state:
            return
        await asyncio.to_thread(self._releases.write, state)
        moved = state.running != self._state.running
        self._state = state
        if moved:
            self._use(loaded or await asyncio.to_thread(self._load))
        if state.trial is None:
            await asyncio.to_thread(self._releases.prune, state)
        self._drift = await asyncio.to_thread(self._releases.drift, self._state.running)
        self._tell()

    def _load(self) -> Loaded | None:
        """Return what the state says, or what can be had instead."""
        while self._state.running is not None:
            try:
                return self._releases.load(self._state.running)
            except (ReleaseError, OSError) as error:
                _log.error("the hub's configuration cannot be used any more", why=str(error))
                self._state = trial.rolled_back(self._state, str(error))
                with contextlib.suppress(OSError):  # it will be found out again
                    self._releases.write(self._state)
        return None

    def _use(self, loaded: Loaded | None) -> None:
        self.loaded = loaded
        self._changed(loaded)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _tell(self) -> None:
        if not self._state.box_id:
            return
        self._report(FLEET, "state.reported", self._reported().model_dump(exclude_none=True))

    def _reported(self) -> Reported:
        state, loaded = self._state, self.loaded
        agents = {}
        if loaded is not None:
            for document in loaded.bundle.agents:
                agents[document.name] = {"version": document.version, "sha256": document.sha256}
        return Reported(
            version=state.seen,
            status=state.status,
            errors=state.errors,
            drift=self._drift,
            state={
                "software": self._software,
                "running": state.running.version if state.running else 0,
                "on_trial": state.trial is not None,
                "agents": agents,
            },
        )


def _check_origin(payload: bytes, desired: Desired, identity: Identity) -> None:
    """Check that the bytes are what the hub announced, signed by it, and meant for this box.

    Raises:
        NotTheHubsError: they are not.
        WireError: they are no bundle.
    """
    if hashlib.sha256(payload).hexdigest() != desired.sha256:
        raise NotTheHubsError("the bundle does not have the hash that was announced")
    verify(payload, identity)
    bundle = Bundle.decode(payload)
    if (bundle.version, bundle.box_id) != (desired.version, identity.box_id):
        raise NotTheHubsError("the bundle is not the one that was announced for this box")
