# SPDX-License-Identifier: Apache-2.0
"""`./run setup --gpu`: says in one line what the machine lacks, before it changes anything."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMI = 'echo "NVIDIA L40S"'
NVCC = 'echo "Cuda compilation tools, release 12.6, V12.6.85"'


def setup(folder: Path, *options: str, **programs: str) -> subprocess.CompletedProcess[str]:
    """Run the script where nothing but `programs` (name: shell script) is installed."""
    for name, body in programs.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "setup.py"), *options],
        env={"PATH": str(folder), "CUDA_HOME": str(folder / "none")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        ({}, "no NVIDIA GPU here"),
        ({"nvidia_smi": "echo No devices were found; exit 6"}, "No devices were found"),
        ({"nvidia_smi": SMI}, "no nvcc"),
        ({"nvidia_smi": SMI, "nvcc": 'echo "release 11.8, V11.8.89"'}, "12.0 or newer"),
        ({"nvidia_smi": SMI, "nvcc": "echo hello"}, "does not tell its release"),
    ],
    ids=["no driver", "a driver without a GPU", "no toolkit", "an old toolkit", "a broken toolkit"],
)
def test_what_is_missing_is_said_in_one_line(
    tmp_path: Path, programs: dict[str, str], said: str
) -> None:
    done = setup(tmp_path, "--gpu", **programs)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_with_gpu_and_toolkit_the_check_passes_and_names_both(tmp_path: Path) -> None:
    done = setup(tmp_path, "--gpu", "--check", nvidia_smi=SMI, nvcc=NVCC)
    assert (done.returncode, done.stderr) == (0, "")
    assert "NVIDIA L40S" in done.stdout
    assert str(tmp_path / "nvcc") in done.stdout


def test_without_an_option_it_changes_nothing_and_says_how_to_go_on(tmp_path: Path) -> None:
    done = setup(tmp_path)
    assert done.returncode == 0
    assert "./run setup --gpu" in done.stdout


def test_all_cuda_packages_are_of_one_cuda_and_pinned_with_hashes() -> None:
    text = (ROOT / "requirements-gpu.lock").read_text()
    names = re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE)
    assert "onnxruntime-gpu" in names
    assert all(name.endswith("-cu12") for name in names if name.startswith("nvidia"))
    assert text.count("--hash=sha256:") >= len(names)
    assert "onnxruntime" not in names
