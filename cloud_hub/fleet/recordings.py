# SPDX-License-Identifier: Apache-2.0
"""Where recordings lie: files in a folder, or objects of an S3-compatible storage (`recordings_s3`).

A recording arrives in pieces that are kept under its key until they are whole, checked and given their
name. Every process of the hub must reach the same storage.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

BLOCK = 1 << 20


class RecordingStore(Protocol):
    """Objects under keys `a/b/c`. Methods block; what cannot be done now raises OSError."""

    def write(self, key: str, offset: int, data: bytes) -> None:
        """Keep a piece for good; a piece that was written at this offset before is replaced.

        Raises:
            OSError: the storage is full, away, or fails.
        """

    def finish(self, key: str, length: int, sha256: bytes) -> bool:
        """Make the object of its pieces if they are whole and right; say so. Again does no harm.

        Raises:
            OSError: the storage is full, away, or fails.
        """

    def forget(self, key: str) -> None:
        """Remove the pieces; the object, if there is one, stays."""

    def copy(self, key: str, other: str) -> None:
        """Give an object a second key, which lives on its own.

        Raises:
            OSError: there is no such object, or the storage fails.
        """

    def remove(self, key: str) -> None:
        """Remove the object and its pieces; what is not there is no error."""

    def size(self, key: str) -> int | None:
        """Return the object's length in bytes; None when there is none."""

    def read(self, key: str, first: int, last: int) -> Iterator[bytes]:
        """Return the bytes from `first` to `last`, both included, in blocks."""


class RecordingFiles:
    """Files in a folder; one being received has the ending `.part`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, key: str) -> Path:
        """Return where an object lies.

        Raises:
            ValueError: the key leads out of the folder.
        """
        path = (self._folder / key).resolve()
        if not path.is_relative_to(self._folder.resolve()):
            raise ValueError(f"{key} is no key")
        return path

    def write(self, key: str, offset: int, data: bytes) -> None:
        """Put bytes where they belong; they are on the disk when this returns."""
        part = self._part(key)
        part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(part, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(handle, data[written:], offset + written)
            os.fsync(handle)
        finally:
            os.close(handle)

    def finish(self, key: str, length: int, sha256: bytes) -> bool:
        """Give a whole part its name. It keeps the old one too until `forget`."""
        part = self._part(key)
        if not part.exists() or part.stat().st_size != length:
            return False
        with part.open("rb") as file:
            if hashlib.file_digest(file, "sha256").digest() != sha256:
                return False
        final = self.path(key)
        final.unlink(missing_ok=True)
        os.link(part, final)
        return True

    def forget(self, key: str) -> None:
        """Remove what is left of a part."""
        self._part(key).unlink(missing_ok=True)

    def copy(self, key: str, other: str) -> None:
        """Give an object a second key, without a second copy of its bytes."""
        target = self.path(other)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        target.unlink(missing_ok=True)
        os.link(self.path(key), target)

    def remove(self, key: str) -> None:
        """Remove the file and its part."""
        self.forget(key)
        self.path(key).unlink(missing_ok=True)

    def size(self, key: str) -> int | None:
        """Return the file's length."""
        path = self.path(key)
        return path.stat().st_size if path.is_file() else None

    def read(self, key: str, first: int, last: int) -> Iterator[bytes]:
        """Return a stretch of the file."""
        left = last - first + 1
        with self.path(key).open("rb") as file:
            file.seek(first)
            while left > 0 and (block := file.read(min(BLOCK, left))):
                left -= len(block)
                yield block

    def _part(self, key: str) -> Path:
        path = self.path(key)
        return path.with_name(path.name + ".part")
