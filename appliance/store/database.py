# SPDX-License-Identifier: Apache-2.0
"""Opening the SQLite file: durability settings, one writing process, and what to do with a damaged one."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import structlog
from sqlite_utils import Database

from appliance.store.errors import StoreError, StoreFullError, StoreLockedError
from appliance.store.schema import migrate

BUSY_MS = 5000
"""How long a statement waits for another connection's lock."""

ALWAYS_CHECK_BYTES = 64 * 2**20
"""Files up to this size are checked at every start; larger ones only after an unclean end."""

CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
FAILING = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOMEM,
    }
)

_log = structlog.get_logger(__name__)


def primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code of an error, or -1."""
    code = getattr(error, "sqlite_errorcode", None)
    return -1 if code is None else code & 0xFF


def explain(error: sqlite3.Error, path: Path) -> StoreError:
    """Return what a person is told about an SQLite error."""
    code = primary_code(error)
    if code in LOCKED:
        return StoreLockedError(
            f"{path} is locked by another program",
            remedy="close what has it open for writing (a database browser?)",
        )
    if code in FAILING:
        return StoreFullError(
            f"{path} cannot be written: {error}",
            remedy=f"free space on the disk and check the rights on {path.parent}",
        )
    if code in CORRUPT:
        return StoreError(
            f"{path} is damaged: {error}", remedy="the box sets it aside when it next writes to it"
        )
    return StoreError(f"{path}: {error}")


class FileLock:
    """Keeps a second process from writing the same store. The kernel frees it at any kind of exit.

    Raises:
        StoreLockedError: another process holds it.
        StoreFullError: the lock file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        lock = path.with_name(path.name + ".lock")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreFullError(
                f"{lock} cannot be written: {error.strerror}",
                remedy="check the disk and the rights on the data folder",
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise StoreLockedError(
                f"{path} is in use by another box (process {holder or 'unknown'})",
                remedy="stop it, or give this one a data folder of its own",
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another process in. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def open_for_writing(path: Path) -> Database:
    """Open the file, check it, bring it to the newest schema.

    A damaged file is set aside under another name, never deleted, and a new one begun.

    Raises:
        StoreError: it cannot be opened; see `appliance.store.errors`.
    """
    try:
        return _open_checked(path)
    except sqlite3.DatabaseError as error:
        if primary_code(error) not in CORRUPT:
            raise explain(error, path) from error
        set_aside(path, str(error))
    try:
        return _open_checked(path)
    except sqlite3.DatabaseError as error:
        raise explain(error, path) from error


def open_for_reading(path: Path) -> Database:
    """Open an existing file so that nothing in it can be changed.

    Raises:
        StoreError: there is no such file, or it cannot be read.
    """
    if not path.is_file():
        raise StoreError(
            f"there is no store at {path}", remedy="it is made when the box first starts"
        )
    try:
        db = _connect(path)
    except sqlite3.Error as error:
        raise explain(error, path) from error
    try:
        db.execute("PRAGMA query_only = ON")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        db.close()
        raise explain(error, path) from error
    return db


def set_aside(path: Path, why: str) -> Path:
    """Rename a damaged file and what belongs to it; return its new name.

    Raises:
        StoreFullError: the folder cannot be written.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    try:
        for suffix in ("", "-wal", "-shm"):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
    except OSError as error:
        raise StoreFullError(
            f"{path} is damaged ({why}) and cannot be set aside: {error.strerror}",
            remedy=f"check the disk and the rights on {path.parent}",
        ) from error
    _log.error(
        "the store is damaged: it was set aside and a new one begun",
        path=str(path),
        set_aside=str(aside),
        reason=why,
        remedy="`sqlite3 FILE .recover` may save what the old one holds",
    )
    return aside


def _connect(path: Path) -> Database:
    connection = sqlite3.connect(
        path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False
    )
    return Database(connection, execute_plugins=False)


def _open_checked(path: Path) -> Database:
    """Open for writing, or raise what SQLite says."""
    unclean = path.with_name(path.name + "-wal").exists()
    if not path.exists():
        path.touch(mode=0o600)  # calls are private; WAL and SHM files take the same rights
    db = _connect(path)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if unclean or path.stat().st_size <= ALWAYS_CHECK_BYTES:
            _check(db)
        migrate(db)
    except BaseException:
        db.close()
        raise
    return db


def _check(db: Database) -> None:
    found = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    if found != "ok":
        error = sqlite3.DatabaseError(found)
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error
