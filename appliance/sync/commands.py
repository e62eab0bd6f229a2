# SPDX-License-Identifier: Apache-2.0
"""What the hub tells this box to do: each command once, in time, and its result reported.

A ledger on the disk holds every command that was taken up, before it is begun: sent again it is not done
again, and after a crash its result is reported all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import structlog
from pydantic import BaseModel, Field, ValidationError

from appliance.sync.files import write_whole
from appliance.sync.hub_http import NotTheHubsError, verify
from appliance.wire import Command, CommandResult, Identity, WireError
from appliance.wire.topics import FLEET

LONGEST_S = 900.0
"""How long a command may take."""

REMEMBERED = timedelta(days=30)
"""How long after its end a command is known; a hub's command lives 7 days at most."""

EARLY = timedelta(minutes=10)
"""By how much the hub's clock may be ahead of the box's."""

_log = structlog.get_logger(__name__)


class CommandError(Exception):
    """A command could not be done; the text is for a person at the hub."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a command; `then` is called once that is on its way to the hub."""

    output: Mapping[str, Any] = field(default_factory=dict)
    then: Callable[[], None] | None = None


Action = Callable[[Mapping[str, Any]], Awaitable[Done]]
"""Does a command with these parameters. Raises `CommandError`."""


class FactStore(Protocol):
    """The part of the store that is needed here."""

    def report(self, stream: str, kind: str, data: Mapping[str, Any]) -> None:
        """Write a fact for the hub."""
        ...

    async def sync(self) -> None:
        """Wait until it is on the disk."""
        ...


class Entry(BaseModel):
    """A command in the ledger; without a result it was begun and not ended."""

    kind: str
    expires_at: str
    result: CommandResult | None = None
    reported: bool = False


class Ledger(BaseModel):
    """All commands that are remembered, by id."""

    entries: dict[str, Entry] = Field(default_factory=dict)


class Commands:
    """Runs as long as the box does: `start`, then `aclose`.

    Args:
        path: of the ledger.
        identity: who this box is now; None while it belongs to no hub.
        store: takes the results.
        actions: what can be done, by kind.
        now: the box's clock, aware.
    """

    def __init__(
        self,
        path: Path,
        identity: Callable[[], Identity | None],
        store: FactStore,
        actions: Mapping[str, Action],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._path = path
        self._identity = identity
        self._store = store
        self._actions = actions
        self._now = now
        self._ledger = Ledger()
        self._writing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Report what a crash kept from being reported. Blocks for one small file."""
        self._loop = asyncio.get_running_loop()
        try:
            self._ledger = Ledger.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            pass  # the first start
        except (ValidationError, OSError) as error:
            _log.error("the ledger of commands cannot be read", why=str(error))
        for command_id, entry in self._ledger.entries.items():
            if not entry.reported:
                self._spawn(self._settle(command_id, entry))

    async def aclose(self) -> None:
        """End what runs; it is reported as failed at the next start. Idempotent."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def received(self, payload: bytes) -> None:
        """Take a `Command` message; for the link, on any thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the box is being stopped
                loop.call_soon_threadsafe(self._received, payload)

    def _received(self, payload: bytes) -> None:
        identity = self._identity()
        if identity is None:
            return
        try:
            command = _checked(payload, identity)
        except (NotTheHubsError, WireError) as error:
            # No result either: a stranger could end the hub's own commands with it.
            _log.error("a command was ignored", why=str(error))
            return
        if command.id not in self._ledger.entries:
            entry = Entry(kind=command.kind, expires_at=command.expires_at)
            self._ledger.entries[command.id] = entry
            self._spawn(self._run(command, entry))

    async def _run(self, command: Command, entry: Entry) -> None:
        await self._write()
        late = self._late(command)
        if late:
            await self._finish(command.id, entry, "expired", late)
            return
        action = self._actions.get(command.kind)
        if action is None:
            why = f"this box does not know the command {command.kind!r}"
            await self._finish(command.id, entry, "failed", why)
            return
        _log.info("the hub's command is done", kind=command.kind)
        try:
            async with asyncio.timeout(LONGEST_S):
                done = await action(command.parameters)
        except TimeoutError:
            await self._finish(command.id, entry, "failed", f"not done within {LONGEST_S:.0f} s")
        except CommandError as error:
            await self._finish(command.id, entry, "failed", str(error))
        except Exception as error:  # a command must not take the box with it
            _log.exception("a command failed", kind=command.kind)
            await self._finish(command.id, entry, "failed", f"{type(error).__name__}: {error}")
        else:
            await self._finish(command.id, entry, "done", "", done.output)
            if done.then is not None:
                done.then()

    def _late(self, command: Command) -> str:
        now = self._now()
        issued = datetime.fromisoformat(command.issued_at)
        expires = datetime.fromisoformat(command.expires_at)
        if now > expires:
            return f"it came after {command.expires_at}; the box's clock says {now.isoformat()}"
        if issued > now + EARLY:
            return f"the box's clock is behind: it says {now.isoformat()}"
        return ""

    async def _settle(self, command_id: str, entry: Entry) -> None:
        """Report what a former process began or did."""
        if entry.result is None and entry.kind == "restart":
            await self._finish(command_id, entry, "done", "the box has started again")
        elif entry.result is None:
            await self._finish(command_id, entry, "failed", "the box was stopped meanwhile")
        else:
            await self._report(entry)

    async def _finish(
        self,
        command_id: str,
        entry: Entry,
        status: Any,
        detail: str,
        output: Mapping[str, Any] | None = None,
    ) -> None:
        entry.result = CommandResult(
            id=command_id, status=status, detail=detail, output=dict(output or {})
        )
        await self._write()
        await self._report(entry)

    async def _report(self, entry: Entry) -> None:
        assert entry.result is not None
        self._store.report(FLEET, "command.result", entry.result.model_dump(mode="json"))
        await self._store.sync()
        entry.reported = True
        entry.result = entry.result.model_copy(update={"output": {}})  # may be long
        await self._write()

    async def _write(self) -> None:
        async with self._writing:
            self._forget()
            data = self._ledger.model_dump_json().encode()
            await asyncio.to_thread(write_whole, self._path, data)

    def _forget(self) -> None:
        before = self._now() - REMEMBERED
        self._ledger.entries = {
            command_id: entry
            for command_id, entry in self._ledger.entries.items()
            if not entry.reported or datetime.fromisoformat(entry.expires_at) > before
        }

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:  # a full disk: what is not reported now is reported after the next start
            _log.exception("a command's result could not be written")


def _checked(payload: bytes, identity: Identity) -> Command:
    verify(payload, identity)
    command = Command.decode(payload)
    if command.box_id != identity.box_id:
        raise NotTheHubsError("the command is another box's")
    return command
