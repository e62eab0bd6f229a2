# SPDX-License-Identifier: Apache-2.0
"""Proposes settings that suit the hardware: threads, placement, batch sizes, calls. Changes nothing.

What it goes by was measured on small machines with small models: more threads than free cores are slower
by a factor, two threads for one engine gain less than one thread each for two, and batches gain nothing
on a processor but are all on a GPU. How many calls a machine truly holds, `trunkline capacity` measures.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.config import BoxConfig, Configured
from appliance.plugin import Kind

SMALL_BOX = 4
"""Up to so many cores, every engine gets one thread."""

CALLS_PER_CORE = 5
"""Calls that one core holds with models of about half a billion weights, at two thirds of its time."""

CALLS_PER_GPU_GIB = 2
"""Calls for each GiB of GPU memory that the models leave free; a call's attention memory takes 0.25 GiB."""

GPU_MODELS_GIB = 8
"""What recognizer and model of a large pack take."""

MOST_CALLS = 250
TOKENS_PER_CALL = 1024
LEAST_WORKER_GIB = 2.0
"""Below this much memory, processes of their own cost more than they protect."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as its driver tells: `memory_gib` in all."""

    name: str
    memory_gib: float


@dataclass(frozen=True, slots=True)
class Hardware:
    """What there is for the box.

    Attributes:
        cores: that this process may use.
        memory_gib: of the machine.
        gpus: NVIDIA GPUs.
    """

    cores: int
    memory_gib: float
    gpus: Sequence[Gpu] = ()


@dataclass(slots=True)
class Proposal:
    """Settings with their reasons.

    Attributes:
        hardware: what it was made for.
        settings: section (`speech_to_text.local`) to key to value.
        why: section and key (`box.threads`) to a sentence.
    """

    hardware: Hardware
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)

    def put(self, section: str, key: str, value: Any, why: str) -> None:
        """Propose one setting."""
        self.settings.setdefault(section, {})[key] = value
        self.why[f"{section}.{key}"] = why

    def toml(self) -> str:
        """Return the settings as TOML to paste, each with its reason."""
        lines = [f"# Proposed for {describe(self.hardware)}"]
        for section, values in self.settings.items():
            lines += ["", f"[{section}]"]
            shown = {key: f"{key} = {_literal(value)}" for key, value in values.items()}
            width = max(map(len, shown.values()))
            for key, text in shown.items():
                lines.append(f"{text:<{width}}  # {self.why[f'{section}.{key}']}")
        return "\n".join(lines) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        hardware = self.hardware
        gpus = [{"name": gpu.name, "memory_gib": gpu.memory_gib} for gpu in hardware.gpus]
        return {
            "hardware": {
                "cores": hardware.cores,
                "memory_gib": hardware.memory_gib,
                "gpus": gpus,
            },
            "settings": self.settings,
            "why": self.why,
        }


def describe(hardware: Hardware) -> str:
    """Return the hardware in a few words."""
    gpus = ", ".join(f"{gpu.name} ({gpu.memory_gib:g} GiB)" for gpu in hardware.gpus) or "no GPU"
    cores = "1 core" if hardware.cores == 1 else f"{hardware.cores} cores"
    return f"{cores}, {hardware.memory_gib:g} GiB of memory, {gpus}"


def look() -> Hardware:
    """Return the hardware of this machine, what a control group grants of it where it grants less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    group = Path("/sys/fs/cgroup")
    cores = min(len(os.sched_getaffinity(0)), _granted_cores(_read(group / "cpu.max")))
    limit = _read(group / "memory.max")
    if limit.isdigit():
        memory = min(memory, int(limit) / 2**30)
    return Hardware(cores, round(memory, 1), tuple(_gpus()))


def _granted_cores(text: str) -> int:
    """Return the cores that `cpu.max` (Linux, control groups v2: "200000 100000") grants."""
    quota, _, period = text.partition(" ")
    if not (quota.isdigit() and period.isdigit() and int(period)):
        return 1 << 20
    return max(1, int(quota) // int(period))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _gpus() -> list[Gpu]:
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_gpus(done.stdout)


def parse_gpus(text: str) -> list[Gpu]:
    """Read what `nvidia-smi` prints: a name and MiB of memory in each line. Other lines are left out."""
    found = []
    for line in text.splitlines():
        name, _, memory = line.rpartition(",")
        if re.fullmatch(r"\s*\d+\s*", memory):
            found.append(Gpu(name.strip(), round(int(memory) / 1024, 1)))
    return found


def propose(hardware: Hardware, config: BoxConfig | None = None) -> Proposal:
    """Return settings for the hardware.

    Args:
        hardware: from `look`.
        config: what is configured now: its sections are named, and only settings that its
            providers have. Without one, the sections of the example configuration.
    """
    made = Proposal(hardware)
    model_threads, recognizer_threads = threads(hardware)
    gpu = max(hardware.gpus, key=lambda one: one.memory_gib, default=None)
    made.put(
        "box",
        "threads",
        1,
        "one thread an engine: each more must find a free core"
        if hardware.cores <= SMALL_BOX
        else "of engines that are not named below",
    )
    calls = most_calls(hardware)
    made.put("limits", "max_calls", calls, "an estimate: `trunkline capacity` measures it")
    for kind, one in _engines(config):
        section = f"{kind.value}.{one.name}"
        if _loads_a_model(one):
            _place(made, section, hardware)
        match kind:
            case Kind.SPEECH_TO_TEXT:
                _recognizer(made, section, one, recognizer_threads, gpu)
            case Kind.LANGUAGE_MODEL:
                _model(made, section, one, model_threads, calls, gpu)
    return made


def threads(hardware: Hardware) -> tuple[int, int]:
    """Return the threads of the model and of the recognizer; two cores stay for media and the rest."""
    if hardware.cores <= SMALL_BOX:
        return 1, 1
    free = hardware.cores - 2
    return min(8, max(1, free * 2 // 3)), min(8, max(1, free // 3))


def most_calls(hardware: Hardware) -> int:
    """Return how many calls to allow: what processors hold, or more where a GPU does the work."""
    calls = CALLS_PER_CORE * hardware.cores
    if hardware.gpus:
        free = sum(gpu.memory_gib for gpu in hardware.gpus) - GPU_MODELS_GIB
        calls = max(calls, min(int(CALLS_PER_GPU_GIB * free), 50 * hardware.cores))
    return min(calls, MOST_CALLS)


@dataclass(frozen=True, slots=True)
class _Example:
    """A section of the example configuration, where there is no configuration yet."""

    name: str
    keys: frozenset[str]


_EXAMPLES: Mapping[Kind, _Example] = {
    Kind.SPEECH_TO_TEXT: _Example(
        "local", frozenset({"model", "threads", "device", "compute_type", "batch_size"})
    ),
    Kind.LANGUAGE_MODEL: _Example(
        "local",
        frozenset(
            {"model", "threads", "gpu_layers", "context_tokens", "max_sequences", "batch_tokens"}
        ),
    ),
}


def _engines(config: BoxConfig | None) -> Iterable[tuple[Kind, _Example]]:
    kinds = (Kind.SPEECH_TO_TEXT, Kind.LANGUAGE_MODEL, Kind.TEXT_TO_SPEECH)
    if config is None:
        return [(kind, _EXAMPLES[kind]) for kind in kinds if kind in _EXAMPLES]
    return [
        (kind, _Example(one.name, frozenset(one.offer.settings.model_fields)))
        for kind in kinds
        for one in config.providers(kind).values()
        if _local(one)
    ]


def _local(one: Configured) -> bool:
    return bool(getattr(one.offer.capabilities, "local", True)) and not one.placement.remote


def _loads_a_model(one: _Example) -> bool:
    return "model" in one.keys


def _place(made: Proposal, section: str, hardware: Hardware) -> None:
    if hardware.cores > 1 and hardware.memory_gib >= LEAST_WORKER_GIB:
        made.put(section, "placement", "worker", "a crash or a stall of it never touches a call")
    else:
        made.put(section, "placement", "inline", "too small for processes of their own")


def _recognizer(
    made: Proposal, section: str, one: _Example, threads_: int, gpu: Gpu | None
) -> None:
    if gpu is not None and "device" in one.keys:
        made.put(section, "device", "cuda", f"on the {gpu.name}")
        made.put(section, "compute_type", "float16", "what tensor cores compute")
        made.put(section, "batch_size", 16, "a GPU computes 16 utterances in little more than one")
    elif "threads" in one.keys:
        made.put(section, "threads", threads_, "utterances computed at once, one thread each")


def _model(
    made: Proposal, section: str, one: _Example, threads_: int, calls: int, gpu: Gpu | None
) -> None:
    if "gpu_layers" not in one.keys:
        return
    if gpu is not None:
        made.put(section, "gpu_layers", -1, f"all of them on the {gpu.name}")
        made.put(section, "batch_tokens", 512, "a step of a GPU has room for long prompts")
    else:
        made.put(section, "threads", threads_, "of a step; more than free cores is far slower")
    sequences = min(256, calls + 8)
    made.put(section, "max_sequences", sequences, f"{calls} calls and 8 shared prompts")
    tokens = max(8192, TOKENS_PER_CALL * calls)
    made.put(section, "context_tokens", tokens, f"{TOKENS_PER_CALL} a call")


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
