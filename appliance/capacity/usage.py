# SPDX-License-Identifier: Apache-2.0
"""What a process and all that it started have used, as Linux counts it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Usage:
    """A snapshot of a tree of processes.

    Attributes:
        cpu_s: processor seconds, user and system, of all threads and of children that have ended.
        pss_mib: memory, shared pages divided among those who share them (Pss of proc(5)).
        files: open files and sockets.
        threads: threads.
        processes: living processes.
    """

    cpu_s: float
    pss_mib: float
    files: int
    threads: int
    processes: int


def usage(roots: Iterable[int]) -> Usage:
    """Return what the processes `roots` and their descendants use. Ended ones count nothing."""
    parents: dict[int, list[int]] = {}
    cpu: dict[int, float] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit() and (stat := _stat(folder)) is not None:
            pid = int(folder.name)
            parents.setdefault(int(stat[1]), []).append(pid)
            cpu[pid] = sum(int(stat[index]) for index in (11, 12, 13, 14)) / _TICKS_PER_S
    found: list[int] = []
    waiting = [pid for pid in roots if pid in cpu]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += parents.get(pid, [])
    return Usage(
        sum(cpu[pid] for pid in found),
        sum(map(_pss_mib, found)),
        sum(_count(pid, "fd") for pid in found),
        sum(_count(pid, "task") for pid in found),
        len(found),
    )


def _stat(folder: Path) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on; None when the process has ended."""
    try:
        return (folder / "stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None


def _pss_mib(pid: int) -> float:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(ln.split()[1]) / 1024 for ln in lines if ln.startswith("Pss:")), 0.0)


def _count(pid: int, folder: str) -> int:
    try:
        return len(os.listdir(_PROC / str(pid) / folder))  # noqa: PTH208  names alone are enough
    except OSError:
        return 0
