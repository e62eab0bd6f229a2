# SPDX-License-Identifier: Apache-2.0
"""The one thread that writes: facts are queued and committed in groups.

With `synchronous=FULL` every commit waits for the disk, so many facts share one: a group is committed
200 ms after its first fact, at 64 facts, or at once when somebody waits for one of them.

Facts survive a failing disk: a group that cannot be committed stays in memory, in order, and is tried
again every second. Requests (what somebody waits for) fail at once instead, with a clear error.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import structlog
from sqlite_utils import Database

from appliance.store import database
from appliance.store.errors import StoreClosedError, StoreError
from appliance.store.outbox import Outbox

GROUP_SECONDS = 0.2
GROUP_SIZE = 64
RETRY_SECONDS = 1.0
MAX_WAITING = 100_000
"""Facts kept in memory while the disk fails (about 50 MB); beyond it new ones are lost, and counted."""

Work: TypeAlias = Callable[[Database], Any]
T = TypeVar("T")

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Job:
    work: Work
    what: str
    done: Future[Any] | None = None
    """Set for a request: somebody waits."""
    value: Any = None


class Writer:
    """Runs all changes of one store.

    Args:
        path: the file; it must be open to this process alone (`database.FileLock`).
        outbox: what jobs put into it is written in their transaction.

    Raises:
        StoreError: it cannot be opened.
    """

    def __init__(self, path: Path, outbox: Outbox) -> None:
        self.fault = ""
        """Why facts cannot be written now, or ""."""
        self.lost = 0
        """Facts lost because the disk failed for too long."""
        self.opened = 1
        """Grows when a damaged file was set aside and a new one begun."""
        self._path = path
        self._db: Database | None = database.open_for_writing(path)
        self._outbox = outbox
        outbox.attach(self._db)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._facts: deque[_Job] = deque()  # of groups that could not be committed
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def put(self, what: str, work: Work) -> None:
        """Queue a fact. `what` names it in the log should SQLite refuse it.

        Raises:
            StoreClosedError: the store was closed.
        """
        self._check_open()
        if self._jobs.qsize() + len(self._facts) >= MAX_WAITING:
            self.lost += 1
            return
        self._jobs.put(_Job(work, what))

    def request(self, what: str, work: Callable[[Database], T]) -> Future[T]:
        """Queue a change that somebody waits for. The future ends when it is on the disk.

        Raises:
            StoreClosedError: the store was closed.
        """
        self._check_open()
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()  # who stops waiting does not undo the change
        self._jobs.put(_Job(work, what, done))
        return done

    def close(self) -> None:
        """Commit what is queued, if the disk lets us, and end the thread. Idempotent; blocks."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            self._thread.join()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError("the store is closed")

    # -- on the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        going = True
        while going:
            group, going = self._gather()
            if self._facts:  # older than all of this group
                group = [*self._facts, *group]
                self._facts.clear()
            if group:
                self._commit(group)
        if self._facts:
            _log.error(
                "facts were lost: the store could not be written to the end",
                facts=len(self._facts),
                fault=self.fault,
            )
        if self._db is not None:
            self._db.close()

    def _gather(self) -> tuple[list[_Job], bool]:
        """Return the next group, and False when the store is to close."""
        group: list[_Job] = []
        until: float | None = time.monotonic() + RETRY_SECONDS if self._facts else None
        while len(group) < GROUP_SIZE:
            try:
                wait = None if until is None else max(0.0, until - time.monotonic())
                job = self._jobs.get(timeout=wait)
            except queue.Empty:
                break
            if job is None:
                return group, False
            if not group and until is None:
                until = time.monotonic() + GROUP_SECONDS
            group.append(job)
            if job.done is not None:
                until = 0.0  # take what is there already, then go
        return group, True

    def _commit(self, group: list[_Job]) -> None:
        try:
            refusals = self._transact(group)
        except StoreError as error:
            self._failed(group, error)
            return
        for job, refusal in zip(group, refusals, strict=True):
            if job.done is None:
                continue
            if refusal is None:
                job.done.set_result(job.value)
            else:
                job.done.set_exception(refusal)
        if self.fault:
            self.fault = ""
            _log.warning("the store is written again", path=str(self._path), lost=self.lost)

    def _transact(self, group: list[_Job]) -> list[Exception | None]:
        """Commit a group; return for each job why it alone was refused, or None.

        Raises:
            StoreError: nothing of the group could be committed.
        """
        if self._db is None:
            self._db = database.open_for_writing(self._path)
            self._outbox.attach(self._db)
            self.opened += 1
        refusals: list[Exception | None] = [None] * len(group)
        try:
            try:
                with self._db.atomic(), self._outbox.transaction(self._db):
                    for job in group:
                        job.value = job.work(self._db)
            except Exception as error:
                if _is_environment(error):
                    raise
                # one of them is at fault: find it, keep the others
                with self._db.atomic(), self._outbox.transaction(self._db):
                    refusals = [self._do(self._db, job) for job in group]
            self._outbox.committed()
            return refusals
        except sqlite3.Error as error:
            if database.primary_code(error) in database.CORRUPT:
                self._db.close()
                self._db = None  # the next try begins a new file
                database.set_aside(self._path, str(error))
            raise database.explain(error, self._path) from error

    def _do(self, db: Database, job: _Job) -> Exception | None:
        """Run one job in a savepoint (three times the cost); return why it alone was refused."""
        try:
            with db.atomic(), self._outbox.savepoint():
                job.value = job.work(db)
        except Exception as error:  # a faulty job must not stop the writer
            if _is_environment(error):
                raise
            refusal: Exception = error
            if isinstance(error, sqlite3.Error):
                refusal = StoreError(f"the store refused {job.what}: {error}")
        else:
            return None
        if job.done is None:
            _log.error("the store refused a fact", what=job.what, error=str(refusal))
        return refusal

    def _failed(self, group: list[_Job], error: StoreError) -> None:
        """Keep the facts of a group that could not be committed; tell who waits."""
        self._facts.extend(job for job in group if job.done is None)
        for job in group:
            if job.done is not None:
                job.done.set_exception(error)
        if str(error) != self.fault:
            self.fault = str(error)
            _log.error("the store cannot be written", path=str(self._path), error=self.fault)


def _is_environment(error: Exception) -> bool:
    """Return whether it is the disk's or the file's fault, and no job's: all are tried again."""
    codes = database.FAILING | database.LOCKED | database.CORRUPT
    return isinstance(error, sqlite3.Error) and database.primary_code(error) in codes
