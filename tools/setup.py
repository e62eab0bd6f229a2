# SPDX-License-Identifier: Apache-2.0
"""`./run setup --gpu`: puts the CUDA builds of the engines' libraries into `.venv`.

`./run` itself prepares everything for a processor. On a machine with an NVIDIA GPU this compiles
llama-cpp-python with CUDA, replaces ONNX Runtime by its CUDA build, adds the CUDA libraries that it and
CTranslate2 load (its wheel carries CUDA code as it is), and asks each of them whether it sees the GPU.
Versions and hashes are those of requirements-gpu.lock and requirements-source.lock.

Exit code 1, and one line that says what is missing, when the machine cannot do it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WHEELS = ROOT / ".cache" / "wheels-cuda"
MARKER = ROOT / ".venv" / "gpu"
"""Holds the folders of the CUDA libraries; `run` puts them on LD_LIBRARY_PATH."""
CUDA_HOME = "/usr/local/cuda"
"""Where the toolkit is when neither PATH nor the environment variable of this name tells."""
OLDEST_CUDA = (12, 0)
CHECKS = {
    "llama.cpp": "import llama_cpp; print(llama_cpp.llama_supports_gpu_offload())",
    "CTranslate2": "import ctranslate2; print(ctranslate2.get_cuda_device_count() > 0)",
    "ONNX Runtime": "import onnxruntime as o; print('CUDAExecutionProvider' in o.get_available_providers())",
}


class MissingError(Exception):
    """The machine lacks something; the message is one line that says what to do."""


def main() -> int:
    """Do what the command line asks; return the exit code."""
    parser = argparse.ArgumentParser(prog="./run setup", description=__doc__.partition("\n")[0])
    parser.add_argument("--gpu", action="store_true", help="install the CUDA builds")
    parser.add_argument("--check", action="store_true", help="with --gpu: only say what is missing")
    options = parser.parse_args()
    if not options.gpu:
        print("Everything is prepared for this processor. For an NVIDIA GPU: ./run setup --gpu")
        return 0
    try:
        gpu, nvcc = find_gpu(), find_nvcc()
        print(f"GPU: {gpu}. CUDA compiler: {nvcc}.")
        if options.check:
            return 0
        compile_llama(nvcc)
        install_wheels()
        return check()
    except MissingError as missing:
        print(f"setup --gpu: {missing}", file=sys.stderr)
        return 1


def find_gpu() -> str:
    """Return the GPUs' names.

    Raises:
        MissingError: there is no GPU or no driver.
    """
    if shutil.which("nvidia-smi") is None:
        raise MissingError("no NVIDIA GPU here, or its driver is not installed (no nvidia-smi)")
    done = subprocess.run(
        ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    names = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode or not names:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise MissingError(f"nvidia-smi finds no GPU: {said[0]}")
    return ", ".join(names)


def find_nvcc() -> str:
    """Return the CUDA compiler's path.

    Raises:
        MissingError: there is none, or it is too old for llama.cpp.
    """
    home = Path(os.environ.get("CUDA_HOME", CUDA_HOME)) / "bin"
    found = shutil.which("nvcc") or shutil.which("nvcc", path=home)
    if found is None:
        raise MissingError(
            "the CUDA toolkit is missing (no nvcc): install cuda-toolkit 12 or newer"
        )
    done = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    release = re.search(r"release (\d+)\.(\d+)", done.stdout)
    if release is None:
        raise MissingError(
            f"{found} --version does not tell its release: reinstall the CUDA toolkit"
        )
    if (int(release[1]), int(release[2])) < OLDEST_CUDA:
        oldest = ".".join(map(str, OLDEST_CUDA))
        raise MissingError(
            f"the CUDA toolkit is {release[1]}.{release[2]}: {oldest} or newer is needed"
        )
    return found


def compile_llama(nvcc: str) -> None:
    """Build llama-cpp-python with CUDA, unless that was done before, and install it.

    Raises:
        MissingError: it cannot be compiled; pip has said why.
    """
    lock = ROOT / "requirements-source.lock"
    version = re.search(r"^llama-cpp-python==(\S+)", lock.read_text(), re.MULTILINE)
    assert version is not None
    pattern = f"llama_cpp_python-{version[1]}-*.whl"
    if not list(WHEELS.glob(pattern)):
        print("Compiling llama.cpp with CUDA: 10 to 30 minutes, once", flush=True)
        environ = {
            "CMAKE_ARGS": "-DGGML_CUDA=on -DLLAVA_BUILD=OFF",
            "CUDACXX": nvcc,
            "PATH": f"{Path(nvcc).parent}:{os.environ['PATH']}",
        }
        options = ("--require-hashes", "--no-deps", "--no-build-isolation", "--no-binary", ":all:")
        _pip(["wheel", *options, "--no-cache-dir", "-w", str(WHEELS), "-r", str(lock)], environ)
    (wheel,) = WHEELS.glob(pattern)
    _pip(["install", "--no-deps", "--no-index", "--force-reinstall", str(wheel)])


def install_wheels() -> None:
    """Replace ONNX Runtime by its CUDA build and add the CUDA libraries.

    Raises:
        MissingError: they cannot be installed; pip has said why.
    """
    lock = ROOT / "requirements-gpu.lock"
    # Both builds are the package `onnxruntime`: the one must go before the other comes.
    _pip(["uninstall", "--yes", "onnxruntime"])
    _pip(["install", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(lock)])
    folders = sorted((Path(sysconfig.get_path("purelib")) / "nvidia").glob("*/lib"))
    MARKER.write_text(":".join(map(str, folders)))


def check() -> int:
    """Ask every library whether it sees the GPU; return the exit code."""
    environ = {**os.environ, "LD_LIBRARY_PATH": MARKER.read_text()}
    failed = 0
    for name, question in CHECKS.items():
        done = subprocess.run(
            [sys.executable, "-c", question],
            capture_output=True,
            text=True,
            env=environ,
            check=False,
        )
        fine = done.stdout.strip().endswith("True")
        failed += not fine
        said = (done.stderr.strip().splitlines() or ["it sees no GPU"])[-1]
        print(f"{name}: {'sees the GPU' if fine else said}")
    if failed:
        return 1
    print("Done. `trunkline doctor --tune` proposes settings for the GPU.")
    print(f"A box started without ./run needs: LD_LIBRARY_PATH={MARKER.read_text()}")
    return 0


def _pip(arguments: list[str], environ: dict[str, str] | None = None) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, env={**os.environ, **(environ or {})}, check=False)
    if done.returncode:
        raise MissingError(f"pip {arguments[0]} failed with code {done.returncode}; see above")


if __name__ == "__main__":
    sys.exit(main())
