# SPDX-License-Identifier: Apache-2.0
"""Each peer in a virtual environment of its own, made once and kept. The product never sees them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab.process import ROOT

CACHE = ROOT / ".cache" / "peers"
_SHARED = ("faster-whisper==1.2.1", "espeakng-loader==0.2.4", "pluggy", "structlog", "pydantic")
"""The recognizer and the voice that all arms have, and what Trunkline's voice wrapper imports."""


@dataclass(frozen=True)
class Peer:
    """A framework to be measured.

    Attributes:
        name: of its arm.
        module: its agent, run by `python -m`.
        packages: what is installed: the framework first.
    """

    name: str
    module: str
    packages: tuple[str, ...]


PIPECAT = Peer("pipecat", "tests.benchmarks.peers.pipecat_agent", ("pipecat-ai==1.14.0", *_SHARED))
LIVEKIT = Peer(
    "livekit",
    "tests.benchmarks.peers.livekit_agent",
    ("livekit-agents==1.8.9", "livekit-plugins-openai==1.8.9", *_SHARED),
)
PEERS: Mapping[str, Peer] = {peer.name: peer for peer in (PIPECAT, LIVEKIT)}


@dataclass(frozen=True)
class Environment:
    """A peer's environment: its Python, and the version of every package in it."""

    python: Path
    versions: Mapping[str, str]


def prepare(peer: Peer) -> Environment:
    """Return the environment of a peer; the first time takes minutes and about a gigabyte.

    Raises:
        RuntimeError: something cannot be installed; the message is pip's.
    """
    key = hashlib.sha256("\n".join(peer.packages).encode()).hexdigest()[:10]
    folder = CACHE / f"{peer.name}-{key}"
    python = folder / "bin" / "python"
    done = folder / "versions.json"
    if not done.exists():
        print(f"  installing {peer.packages[0]} into an environment of its own", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        _pip(python, "install", "--quiet", *peer.packages)
        listed = json.loads(_pip(python, "list", "--format=json"))
        done.write_text(json.dumps({one["name"]: one["version"] for one in listed}, indent=2))
    return Environment(python, json.loads(done.read_text()))


def python_path() -> str:
    """Return the import path that a peer's agent needs beside its own environment."""
    return f"{ROOT}:{ROOT / 'plugins' / 'espeak'}"


def _pip(python: Path, *arguments: str) -> str:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return done.stdout
