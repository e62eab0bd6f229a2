# SPDX-License-Identifier: Apache-2.0
"""`./run`: says in one line what the system lacks, and starts at once when all is prepared."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("sh", "cat", "cksum", "dirname", "mkdir", "rm", "ls", "sed", "grep", "dpkg-query", "tail")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what `run` reads, without anything prepared."""
    for name in ("run", "pyproject.toml", *(path.name for path in ROOT.glob("requirements*.lock"))):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "plugins" / "one").mkdir(parents=True)
    shutil.copy(ROOT / "plugins" / "espeak" / "pyproject.toml", tmp_path / "plugins" / "one")
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "peers.sh", tmp_path / "tests")
    return tmp_path


@pytest.fixture
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PATH with the basic tools only, used by somebody who is not root."""
    folder = tmp_path_factory.mktemp("bin")
    for tool in TOOLS:
        found = shutil.which(tool)
        if found:
            (folder / tool).symlink_to(found)
    program(folder / "id", "echo 1000")
    return folder


def program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def run(
    script: Path, path: Path | str, *arguments: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(script), *arguments],
        env={"PATH": str(path), "HOME": str(script.parent), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_python_one_line_names_the_packages(checkout: Path, bare: Path) -> None:
    done = run(checkout / "run", bare)
    assert done.returncode == 1
    assert done.stderr == (
        "run: Python 3.11 or newer is missing. "
        "On Debian or Ubuntu: sudo apt-get install python3 python3-venv\n"
    )


def test_a_python_that_is_too_old_is_not_taken(checkout: Path, bare: Path) -> None:
    program(bare / "python3", "exit 1")
    done = run(checkout / "run", bare)
    assert "Python 3.11 or newer is missing" in done.stderr


def test_without_a_compiler_one_line_names_the_package(checkout: Path, bare: Path) -> None:
    program(checkout / ".venv" / "bin" / "python", "exit 0")
    (checkout / ".venv" / "installed").write_text("an older state")
    done = run(checkout / "run", bare)
    assert done.returncode == 1
    assert done.stderr == (
        "run: a C++ compiler is missing. "
        "On Debian or Ubuntu: sudo apt-get install build-essential\n"
    )


def test_what_failed_is_shown_with_the_place_of_the_whole_log(checkout: Path, bare: Path) -> None:
    (bare / "sleep").symlink_to(shutil.which("sleep") or "/bin/sleep")
    program(checkout / ".venv" / "bin" / "python", "echo no such version; exit 1")
    (checkout / ".venv" / "installed").write_text("an older state")
    for compiler in ("cc", "c++"):
        program(bare / compiler, "exit 0")
    done = run(checkout / "run", bare)
    assert done.returncode == 1
    assert "no such version" in done.stderr
    assert ".cache/install.log" in done.stderr
    assert not (checkout / ".venv" / "installed").exists()


def test_when_all_is_prepared_the_recipe_starts_at_once(checkout: Path, bare: Path) -> None:
    prepare(checkout)
    began = time.monotonic()
    done = run(checkout / "run", bare, "demo", "--fast")
    assert time.monotonic() - began < 1
    assert done.stdout == "just demo --fast\n"
    assert run(checkout / "run", bare).stdout == "just --list --unsorted\n"


def test_a_changed_dependency_is_noticed(checkout: Path, bare: Path) -> None:
    prepare(checkout)
    with (checkout / "plugins" / "one" / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert run(checkout / "run", bare, "demo").stdout == ""


def prepare(checkout: Path) -> None:
    """Leave behind what an installation leaves."""
    locks = sorted(path.name for path in checkout.glob("requirements*.lock"))
    files = " ".join([*locks, "pyproject.toml", "plugins/*/pyproject.toml"])
    stamp = subprocess.run(
        f"cat {files} | cksum", shell=True, cwd=checkout, capture_output=True, check=True
    )
    program(checkout / ".venv" / "bin" / "python", "exit 1")
    program(checkout / ".venv" / "bin" / "just", 'echo "just $*"')
    (checkout / ".venv" / "installed").write_bytes(stamp.stdout.rstrip(b"\n"))


def test_missing_test_peers_are_named_in_one_line(checkout: Path, bare: Path) -> None:
    done = run(checkout / "tests" / "peers.sh", bare)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "The tests need these Debian packages: sudo apt-get install sip-tester"
    )
    assert done.stderr.count("\n") == 1


def test_present_test_peers_need_nothing(checkout: Path, bare: Path) -> None:
    for name in ("sipp", "sox", "debootstrap", "swig", "c++"):
        program(bare / name, "exit 0")
    (bare / "dpkg-query").unlink(missing_ok=True)
    program(bare / "dpkg-query", "echo 'install ok installed'")
    done = run(checkout / "tests" / "peers.sh", bare)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_recipe_is_listed_with_what_it_does() -> None:
    just = shutil.which("just", path=f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert just is not None
    listed = subprocess.run(
        [just, "--justfile", str(ROOT / "Justfile"), "--list"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    recipes = [line for line in listed.splitlines()[1:] if line.strip()]
    for wanted in ("demo", "test", "lint", "types", "check", "build-pjsua2", "bench-call", "lock"):
        assert any(line.split()[0] == wanted for line in recipes), wanted
    assert all("#" in line for line in recipes), listed
