# SPDX-License-Identifier: Apache-2.0
"""Pins every third-party dependency of the project with its hashes: `./run lock`.

It reads what `pyproject.toml` and `plugins/*/pyproject.toml` ask for, resolves all of it together, and
writes four files that `run` installs from:

    requirements-build.lock     what builds packages
    requirements-source.lock    what exists as source only and is compiled once
    requirements.lock           everything else, as wheels
    requirements-gpu.lock       what `./run setup --gpu` adds: CUDA builds and CUDA's own libraries

No file names an index: packages come from wherever this machine's pip gets them.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMPILED = {"llama-cpp-python"}
UNWANTED = {"torch", "transformers", "nvidia-cublas-cu12", "triton", "tensorflow"}
GPU = ("onnxruntime-gpu[cuda,cudnn]<1.27", "nvidia-cublas-cu12", "nvidia-cudnn-cu12")
"""ONNX Runtime from 1.27 on is built for CUDA 13, CTranslate2 for CUDA 12: one box has one CUDA."""
HEADER = "# Written by ./run lock; do not edit. Names, versions and hashes only.\n"


def main() -> None:
    """Resolve and write the lock files."""
    root = _toml(ROOT / "pyproject.toml")
    wanted = list(root["project"]["dependencies"]) + root["dependency-groups"]["dev"]
    for extra in root["project"]["optional-dependencies"].values():
        wanted += extra
    for plugin in sorted(ROOT.glob("plugins/*/pyproject.toml")):
        wanted += _toml(plugin)["project"]["dependencies"]
    wanted = [one for one in wanted if not _name(one).startswith("trunkline")]
    build = resolve(root["dependency-groups"]["build"])
    # The build tools are pinned in both, so that the second install changes nothing of the first.
    pinned = [f"{name}=={_version(entry)}" for name, entry in build.items()]
    everything = resolve(sorted({*wanted, *pinned}))
    bad = UNWANTED & everything.keys()
    if bad:
        sys.exit(f"These do not belong into the box: {', '.join(sorted(bad))}")
    _write("requirements-build.lock", build)
    _write("requirements-source.lock", {n: e for n, e in everything.items() if n in COMPILED})
    _write("requirements.lock", {n: e for n, e in everything.items() if n not in COMPILED})
    _write("requirements-gpu.lock", gpu(everything))


def gpu(everything: dict[str, str]) -> dict[str, str]:
    """Return the lock entries of the CUDA builds: only what `everything` does not hold already."""
    shared = [
        f"{name}=={_version(entry)}" for name, entry in everything.items() if name == "protobuf"
    ]
    return {n: e for n, e in resolve([*GPU, *shared]).items() if n not in everything}


def resolve(requirements: list[str]) -> dict[str, str]:
    """Return the lock entry (version, marker and hashes) of everything that is needed, by name."""
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", "-", "--quiet"),
        *("--generate-hashes", "--universal", "--python-version", "3.11"),
        *("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"),
        *("--fork-strategy", "fewest"),
    ]
    text = "\n".join(requirements)
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    entries: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", done.stdout.strip()):
        name = _name(entry)
        if _on_linux(entry):
            entries[name] = f"{entries[name]}\n{entry}" if name in entries else entry
    return entries


def _on_linux(entry: str) -> bool:
    """Tell whether the entry is for Linux: the box runs on nothing else."""
    marker = entry.partition(";")[2].partition("\\")[0]
    other = ("== 'win32'", "== 'Windows'", "== 'darwin'", "== 'Darwin'", "== 'emscripten'")
    return " or " in marker or not any(word in marker for word in other)


def _toml(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    return data


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[._-]+", "-", found.group()).lower() if found else ""


def _version(entry: str) -> str:
    return entry.split("==", 1)[1].split(maxsplit=1)[0]


def _write(name: str, entries: dict[str, str]) -> None:
    text = HEADER + "\n".join(entries[key] for key in sorted(entries)) + "\n"
    (ROOT / name).write_text(text, encoding="utf-8")
    print(f"{name}: {len(entries)} packages")


if __name__ == "__main__":
    main()
