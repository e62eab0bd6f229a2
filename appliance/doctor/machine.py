# SPDX-License-Identifier: Apache-2.0
"""Checks of the machine: Python, processor, memory, GPU, disk, clock, open files."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from appliance.doctor.finding import Finding, fail, ok, warn

LIBRARIES = ("numpy", "onnxruntime", "ctranslate2", "llama-cpp-python", "pjsua2-python")
VECTOR_FLAGS = ("avx512f", "avx2", "asimd")
FILES_NEEDED = 4096
MEMORY_NEEDED_GB = 2.0
DISK_NEEDED_GB = 2.0
SLOW_SYNC_MS = 50.0


def python() -> Finding:
    """Python and the libraries that plugins load."""
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    version = platform.python_version()
    what = f"Python {version}; {', '.join(found) or 'no engine library'}"
    if not found:
        return warn("python", what, "install a plugin: the box runs no engine of its own")
    return ok("python", what)


def processor(threads: int = 1, cpuinfo: str | None = None) -> Finding:
    """Cores, vector instructions, and whether engines ask for more threads than there are."""
    text = cpuinfo if cpuinfo is not None else _read(Path("/proc/cpuinfo"))
    words = set(re.findall(r"\w+", text))
    vector = next((flag for flag in VECTOR_FLAGS if flag in words), "")
    cores = len(os.sched_getaffinity(0))
    what = f"{cores} cores, {vector or 'no vector instructions that engines need'}"
    if not vector:
        return warn("cpu", what, "use a processor with AVX2: engines are many times slower without")
    if threads > cores:
        remedy = f"set box.threads to {cores} or less: more threads than cores are far slower"
        return warn("cpu", f"{what}; box.threads is {threads}", remedy)
    if cores < 2:
        return warn("cpu", what, "give the box two cores: media must not wait for engines")
    return ok("cpu", what)


def memory(meminfo: str | None = None) -> Finding:
    """Memory that is free for models and calls."""
    text = meminfo if meminfo is not None else _read(Path("/proc/meminfo"))
    kilobytes = {
        key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+)", text, re.MULTILINE)
    }
    free, total = (kilobytes.get(key, 0) / 1e6 for key in ("MemAvailable", "MemTotal"))
    what = f"{free:.1f} GB of {total:.1f} GB available"
    if free < MEMORY_NEEDED_GB:
        return warn("memory", what, "close other programs or use a smaller model pack")
    return ok("memory", what)


def gpu() -> Finding:
    """An NVIDIA GPU, as its driver tells."""
    if shutil.which("nvidia-smi") is None:
        return ok("gpu", "none: engines run on the processor")
    query = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return warn("gpu", f"nvidia-smi fails: {error}", "repair or remove the NVIDIA driver")
    return ok("gpu", "; ".join(done.stdout.strip().splitlines()) or "none")


def disk(folder: Path, samples: int = 20) -> Finding:
    """Room in the data folder, and how long the disk takes to make a write durable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        usage = shutil.disk_usage(folder)
        sync_ms = _sync_ms(folder, samples)
    except OSError as error:
        what = f"{folder} cannot be written: {error.strerror or error}"
        return fail("disk", what, "make box.data_dir a folder that this user may write")
    free = usage.free / 1e9
    what = f"{free:.1f} GB free in {folder}, fsync takes {sync_ms:.1f} ms"
    if free < DISK_NEEDED_GB:
        return warn("disk", what, "make room: recordings take about 4 MB a minute")
    if sync_ms > SLOW_SYNC_MS:
        return warn(
            "disk", what, "put box.data_dir on a faster disk: each call writes as it goes on"
        )
    return ok("disk", what)


def _sync_ms(folder: Path, samples: int) -> float:
    with tempfile.TemporaryFile(dir=folder) as file:
        times = []
        for _ in range(samples):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def monotonic() -> Finding:
    """The clock that media is timed by: fine-grained, and woken in time."""
    resolution_us = time.get_clock_info("monotonic").resolution * 1e6
    late = []
    for _ in range(20):
        began = time.perf_counter()
        time.sleep(0.002)
        late.append((time.perf_counter() - began - 0.002) * 1000)
    worst = max(late)
    what = f"resolution {resolution_us:.3g} us, a 2 ms sleep is late by at most {worst:.1f} ms"
    if resolution_us > 1000 or worst > 15:
        remedy = "this machine is overloaded or its virtual clock is coarse; audio may stutter"
        return warn("timer", what, remedy)
    return ok("timer", what)


def open_files(soft: int | None = None) -> Finding:
    """How many files and sockets the box may have open."""
    limit = soft if soft is not None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit < FILES_NEEDED:
        remedy = f"raise it: `ulimit -n {FILES_NEEDED}`, or LimitNOFILE={FILES_NEEDED} in systemd"
        return warn("open files", f"limit {limit}", remedy)
    return ok("open files", f"limit {limit}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
