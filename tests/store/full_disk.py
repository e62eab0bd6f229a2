# SPDX-License-Identifier: Apache-2.0
"""Disks that can be filled and freed, for the tests of what is written while a call goes on."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path


class FileSizeLimit:
    """A disk on which no file can grow: the operating system's own limit. Needs no rights."""

    message = "disk I/O error|File too large"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        """Let no file grow beyond what the largest one has."""
        largest = max(path.stat().st_size for path in self.folder.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, self._limits[1]))

    def free(self) -> None:
        """Give room again."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)


class SmallDisk:
    """A file system of two megabytes. Needs root."""

    message = "full|No space left on device"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)

    def fill(self) -> None:
        """Write until nothing more fits."""
        with self._ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"\0" * 4096) == 4096:
                pass

    def free(self) -> None:
        """Give room again."""
        self._ballast.unlink(missing_ok=True)

    def remove(self) -> None:
        """Unmount."""
        subprocess.run(["umount", "--lazy", self.folder], check=True)


KINDS = ["file size limit", "small disk"] if os.geteuid() == 0 else ["file size limit"]


@contextlib.contextmanager
def disk(kind: str, folder: Path) -> Iterator[FileSizeLimit | SmallDisk]:
    """Give a disk of one of `KINDS`, and clean it up."""
    folder.mkdir()
    made = SmallDisk(folder) if kind == "small disk" else FileSizeLimit(folder)
    try:
        yield made
    finally:
        made.free()
        if isinstance(made, SmallDisk):
            made.remove()
