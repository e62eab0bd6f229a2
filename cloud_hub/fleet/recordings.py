# SPDX-License-Identifier: Apache-2.0
"""Where recordings lie: files in the hub's data folder. Another kind of storage must do what is here."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

BLOCK = 1 << 20


class RecordingFiles:
    """Objects under keys `a/b/c`; one being received has the ending `.part`. Methods block."""

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
        """Put bytes of a part where they belong; they are on the disk when this returns.

        Raises:
            OSError: the disk is full, or fails.
        """
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

    def digest(self, key: str, length: int) -> bytes | None:
        """Return the SHA-256 of a part that has this length; None when it has not."""
        part = self._part(key)
        if not part.exists() or part.stat().st_size != length:
            return None
        digest = hashlib.sha256()
        with part.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
        return digest.digest()

    def finish(self, key: str) -> None:
        """Give a part its name. It keeps the old one too until `forget`: done again it does no harm."""
        final = self.path(key)
        final.unlink(missing_ok=True)
        os.link(self._part(key), final)

    def copy(self, key: str, other: str) -> None:
        """Give an object a second key, without a second copy of its bytes."""
        target = self.path(other)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        target.unlink(missing_ok=True)
        os.link(self.path(key), target)

    def forget(self, key: str) -> None:
        """Remove what is left of a part."""
        self._part(key).unlink(missing_ok=True)

    def _part(self, key: str) -> Path:
        path = self.path(key)
        return path.with_name(path.name + ".part")
