# SPDX-License-Identifier: Apache-2.0
"""The producer's own account of what it wrote, synced in order after each transaction of the store.

At a kill it is a lower bound of what the outbox must hold: a row that the store said is on the disk, and
that is not there later, was lost by the box itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from appliance.store import OutboxPart, Store, Upkeep


class Ledger:
    """Stands between a store and its link, and notes what the store tells the link.

    Args:
        store: whose commits are noted.
        path: of the ledger, one line a commit: stream, epoch, last number.
    """

    def __init__(self, store: Store, path: Path) -> None:
        self._store = store
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._waiting = b""

    def listen_outbox(self, listener: Callable[[str, str, int], None]) -> None:
        """Note each commit, then tell the link of it."""

        def wrote(stream: str, epoch: str, last: int) -> None:
            self._waiting += f"{stream} {epoch} {last}\n".encode()
            with contextlib.suppress(OSError):  # the disk is full: with the next line
                os.write(self._descriptor, self._waiting)
                os.fsync(self._descriptor)
                self._waiting = b""
            listener(stream, epoch, last)

        self._store.listen_outbox(wrote)

    def outbox_parts(self, box_id: str | None = None) -> list[OutboxPart]:
        """See `Store`."""
        return self._store.outbox_parts(box_id)

    def outbox_rows(
        self, stream: str, epoch: str, first: int, *, most: int, max_bytes: int
    ) -> list[tuple[int, str, str, str]]:
        """See `Store`."""
        return self._store.outbox_rows(stream, epoch, first, most=most, max_bytes=max_bytes)

    def acknowledged(self, stream: str, epoch: str, seq: int) -> None:
        """See `Store`."""
        self._store.acknowledged(stream, epoch, seq)

    def tidy_outbox(self, upkeep: Upkeep) -> bool:
        """See `Store`."""
        return self._store.tidy_outbox(upkeep)


def read(path: Path) -> dict[tuple[str, str], int]:
    """Return the last number of each (stream, epoch); a line that a kill cut short is passed over."""
    found: dict[tuple[str, str], int] = {}
    for line in path.read_bytes().split(b"\n")[:-1]:
        words = line.decode().split()
        if len(words) == 3 and words[2].isdigit():
            found[words[0], words[1]] = int(words[2])
    return found
