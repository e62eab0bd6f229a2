# SPDX-License-Identifier: Apache-2.0
"""Recordings to the hub: after the call, oldest first, in pieces (tus 1.0.0), never at the cost of calls.

What the hub has confirmed is noted in a ledger beside the recordings' folder; only that may be deleted by
age. When recordings take more than they may, the oldest go, sent or not, and the hub is told which.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import structlog

from appliance.sync.hub_http import GoneError, at_hub
from appliance.wire import Identity
from appliance.wire.topics import CALLS

UPLOADS = "/v1/box/uploads"
PIECE = 256 * 1024
LOOK_EVERY_S = 10.0
TRY_AGAIN_S = 2.0
TRY_AGAIN_MAX_S = 300.0
SETTLED_S = 5.0
"""A file that was written to so recently may still be."""

CHECKSUM_MISMATCH = 460
WHOLE_TRIES = 3
"""How often a file is sent whose whole checksum is not right at the hub."""

DAY_S = 86_400.0

_log = structlog.get_logger(__name__)
_TUS = {"Tus-Resumable": "1.0.0"}

Client = Callable[[], AbstractAsyncContextManager[httpx.AsyncClient]]


@dataclass(frozen=True, slots=True)
class UploadRules:
    """What the site's policy allows.

    Attributes:
        send: recordings leave the site.
        kib_s: KiB a second at most; 0 is no bound.
        pause_calls: nothing is sent while more calls than that are under way.
        keep_days: days that a recording stays here after the hub has it; None keeps it.
        max_bytes: what all recordings here may take; None is no bound.
    """

    send: bool = True
    kib_s: int = 512
    pause_calls: int = 0
    keep_days: int | None = None
    max_bytes: int | None = None


class UploadError(Exception):
    """The hub does not take this file."""


class Ledger:
    """What the hub has confirmed, of which identity of this box. Small; methods block."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS sent (box_id TEXT, name TEXT, state TEXT, at REAL,"
            " PRIMARY KEY (box_id, name)) WITHOUT ROWID"
        )

    def note(self, box_id: str, name: str, state: str, at: float) -> None:
        """Enter that a file is `sent`, or `refused` for good."""
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO sent VALUES (?, ?, ?, ?)", (box_id, name, state, at)
            )

    def states(self, box_id: str) -> dict[str, tuple[str, float]]:
        """Return all files of this identity: (state, since when)."""
        rows = self._db.execute("SELECT name, state, at FROM sent WHERE box_id = ?", (box_id,))
        return {name: (state, at) for name, state, at in rows}

    def close(self) -> None:
        """Close the file."""
        self._db.close()


class Uploads:
    """Runs as long as the box does: `start`, then `aclose`.

    Args:
        folder: of the recordings: `DAY/CALL.wav`.
        ledger: file of the ledger.
        identity: who this box is now.
        client: opens a client for the hub.
        rules: see there.
        is_over: whether a call (by id) has ended.
        calls: how many are under way.
        report: `Store.report`.
    """

    def __init__(
        self,
        folder: Path,
        ledger: Path,
        identity: Callable[[], Identity | None],
        client: Client,
        rules: UploadRules,
        *,
        is_over: Callable[[str], bool],
        calls: Callable[[], int],
        report: Callable[[str, str, Mapping[str, Any]], None],
    ) -> None:
        self._folder = folder
        self._ledger_path = ledger
        self._identity = identity
        self._client = client
        self._rules = rules
        self._is_over = is_over
        self._calls = calls
        self._report = report
        self._ledger: Ledger | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="uploads")

    async def aclose(self) -> None:
        """Stop at once; what was under way goes on after the next start. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    async def _run(self) -> None:
        pause = TRY_AGAIN_S
        while True:
            wait = LOOK_EVERY_S
            try:
                identity = self._identity()
                if identity is not None and await self._step(identity.box_id):
                    wait, pause = 0.0, TRY_AGAIN_S
            except (httpx.HTTPError, OSError, sqlite3.Error) as error:
                _log.warning("recordings wait", why=str(error) or type(error).__name__)
                wait, pause = pause, min(pause * 2, TRY_AGAIN_MAX_S)
            except Exception:  # whatever happens here, calls go on
                _log.exception("recordings cannot be sent")
                wait, pause = pause, min(pause * 2, TRY_AGAIN_MAX_S)
            await asyncio.sleep(wait)

    async def _step(self, box_id: str) -> bool:
        """Send the oldest recording that is due, tidy up; False when there was none."""
        if self._ledger is None:
            self._ledger = await asyncio.to_thread(Ledger, self._ledger_path)
        path = await asyncio.to_thread(self._look, self._ledger, box_id)
        if path is None or not self._rules.send:
            return False
        try:
            await self._send(path)
            state = "sent"
        except UploadError as error:
            _log.error("the hub does not take a recording", file=path.name, why=str(error))
            state = "refused"
        except FileNotFoundError:
            return True  # deleted meanwhile
        await asyncio.to_thread(self._ledger.note, box_id, path.name, state, time.time())
        return True

    # -- the disk ----------------------------------------------------------------------------

    def _look(self, ledger: Ledger, box_id: str) -> Path | None:
        """Delete what policy says, and return the oldest recording that is to be sent."""
        states, now = ledger.states(box_id), time.time()
        files = sorted((path.stat().st_mtime, path) for path in self._folder.glob("*/*.wav"))
        files = [(at, path) for at, path in files if now - at > SETTLED_S]
        keep_s = None if self._rules.keep_days is None else self._rules.keep_days * DAY_S
        for _, path in files:
            state, since = states.get(path.name, ("", now))
            if keep_s is not None and state == "sent" and now - since > keep_s:
                path.unlink(missing_ok=True)
        self._make_room([path for _, path in files if path.exists()], states)
        for _, path in files:
            if path.name not in states and path.exists() and self._is_over(path.stem):
                return path
        return None

    def _make_room(self, files: list[Path], states: Mapping[str, tuple[str, float]]) -> None:
        most = self._rules.max_bytes
        if most is None:
            return
        sizes = {path: path.stat().st_size for path in files}
        total = sum(sizes.values())
        for path in files:
            if total <= most:
                return
            if not self._is_over(path.stem):
                continue
            if path.name not in states:
                dropped = {"kind": "recording", "reason": "no room", "size": sizes[path]}
                _log.error("a recording was deleted unsent: no room", call_id=path.stem)
                self._report(CALLS, "dropped", {**dropped, "call_id": path.stem})
            path.unlink(missing_ok=True)
            total -= sizes[path]

    # -- the hub -----------------------------------------------------------------------------

    async def _send(self, path: Path) -> None:
        size, digest = await asyncio.to_thread(_measure, path)
        told = {"call_id": path.stem, "sha256": digest, "content_type": "audio/wav"}
        pairs = (
            f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in told.items()
        )
        begun = {**_TUS, "Upload-Length": str(size), "Upload-Metadata": ",".join(pairs)}
        async with self._client() as client:
            answer = _answered(await client.post(UPLOADS, headers=begun))
            try:
                url = at_hub(client, answer.headers["Location"])
            except (GoneError, KeyError) as error:
                raise UploadError("the hub names no place of its own for it") from error
            answer = _answered(await client.head(url, headers=_TUS))
            wrong = 0
            while answer.headers.get("Upload-Status") != "complete":
                offset = int(answer.headers["Upload-Offset"])
                answer = await self._send_piece(client, url, path, offset)
                if answer.status_code == CHECKSUM_MISMATCH:
                    wrong += 1
                    if wrong == WHOLE_TRIES:
                        raise UploadError("it arrives damaged each time")
                if answer.status_code in {CHECKSUM_MISMATCH, httpx.codes.CONFLICT}:
                    answer = await client.head(url, headers=_TUS)
                _answered(answer)

    async def _send_piece(
        self, client: httpx.AsyncClient, url: str, path: Path, offset: int
    ) -> httpx.Response:
        while self._calls() > self._rules.pause_calls:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(1.0)
        began = time.monotonic()
        piece = await asyncio.to_thread(_read, path, offset)
        checksum = base64.b64encode(hashlib.sha256(piece).digest()).decode()
        headers = {
            **_TUS,
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": str(offset),
            "Upload-Checksum": f"sha256 {checksum}",
        }
        answer = await client.patch(url, headers=headers, content=piece)
        if self._rules.kib_s:
            due = began + len(piece) / (self._rules.kib_s * 1024)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        return answer


def _answered(answer: httpx.Response) -> httpx.Response:
    """Tell apart what is worth trying again.

    Raises:
        UploadError: the hub will never take it.
        httpx.HTTPStatusError: it does not take it now.
    """
    final = {httpx.codes.BAD_REQUEST, httpx.codes.REQUEST_ENTITY_TOO_LARGE}
    if answer.status_code in final:
        raise UploadError(f"the hub said {answer.status_code}")
    answer.raise_for_status()
    return answer


def _measure(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path, offset: int) -> bytes:
    with contextlib.closing(path.open("rb")) as file:
        file.seek(offset)
        return file.read(PIECE)
