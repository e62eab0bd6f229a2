#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build pjsua2 with room for 256 calls from the PJSIP source that Debian carries.

The ready wheel holds four calls at a time: that number is compiled in. This script fetches the
PJSIP component of Debian's `asterisk` source package through apt (which checks its signature),
compiles it for this Python, and leaves `.cache/pjsua2-VERSION/`, which the `sip` plugin prefers
over the wheel. A second run finds the result and does nothing.

    python plugins/sip/build_pjsua2.py [--jobs N] [--into DIR] [--force]

Standard library only. Needs Debian or Ubuntu, and the packages in `PACKAGES`; as root it installs
what is missing, otherwise it names it. The system's own apt lists are not touched.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

PACKAGES = (
    "build-essential",
    "swig",
    "libopus-dev",
    "libssl-dev",
    "libsrtp2-dev",
    "libspeex-dev",
    "libspeexdsp-dev",
    "libgsm1-dev",
)
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITES = ("sid", "forky")
MINIMUM = (2, 17)
CALLS = 256

CONFIG_SITE = f"""\
#define PJSUA_MAX_CALLS {CALLS}
#define PJSUA_MAX_ACC 64
#define PJSUA_MAX_CONF_PORTS 600
#define PJ_IOQUEUE_MAX_HANDLES 1024
#define PJMEDIA_HAS_VIDEO 0
#define PJ_LOG_MAX_LEVEL 5
"""

CONFIGURE = (
    "--enable-epoll",
    "--with-external-srtp",
    "--with-external-gsm",
    "--with-external-speex",
    "--enable-speex-resample",
    "--disable-speex-aec",
    "--disable-ilbc-codec",
    "--disable-g7221-codec",
    "--disable-libyuv",
    "--disable-libwebrtc",
    "--disable-video",
    "--disable-sound",
    "--disable-sdl",
    "--disable-ffmpeg",
    "--disable-v4l2",
    "--disable-openh264",
    "--disable-upnp",
)

CFLAGS = "-O2 -fPIC -DNDEBUG"
"""NDEBUG: without it a malformed message that trips an assertion would end the process."""


class BuildError(Exception):
    """Something is missing or failed; the message says what to do."""


def say(text: str) -> None:
    """Show progress."""
    print(f"build-pjsua2: {text}", flush=True)  # noqa: T201


def run(command: list[str], cwd: Path, log: Path, **env: str) -> None:
    """Run a command with its output in `log`; show the end of it when it fails."""
    with log.open("ab") as out:
        done = subprocess.run(
            command, cwd=cwd, stdout=out, stderr=out, env={**os.environ, **env}, check=False
        )
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise BuildError(f"`{' '.join(command[:4])} ...` failed:\n{tail}\nThe whole log: {log}")


def missing_packages() -> list[str]:
    """Return those of PACKAGES that are not installed."""
    if not shutil.which("dpkg-query"):
        raise BuildError(
            "this needs Debian or Ubuntu (no dpkg here); the ready wheel works without"
        )
    query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *PACKAGES]
    listed = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    installed = {line.split()[0] for line in listed.splitlines() if line.endswith(" installed")}
    return [name for name in PACKAGES if name not in installed]


def ensure_packages(log: Path) -> None:
    """Install what is missing (as root), or say what to install."""
    missing = missing_packages()
    if not missing:
        return
    if os.geteuid():
        raise BuildError(f"missing packages; run: sudo apt-get install {' '.join(missing)}")
    say(f"installing {' '.join(missing)}")
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(install, Path("/"), log, **quiet)
    except BuildError:
        run(["apt-get", "update"], Path("/"), log, **quiet)
        run(install, Path("/"), log, **quiet)


def debian_mirror() -> str:
    """Return the Debian mirror that this system is set to use."""
    query = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(SITE)"]
    listed = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    for line in listed.splitlines():
        origin, _, site = line.partition(" ")
        if origin == "Debian" and not site.rstrip("/").endswith("-security"):
            return site
    raise BuildError("no Debian mirror in apt's sources; set DEBIAN_MIRROR to one and run again")


def fetch(work: Path, log: Path) -> Path:
    """Fetch the source by a private apt list; return the PJSIP tarball."""
    mirror = os.environ.get("DEBIAN_MIRROR") or debian_mirror()
    if not Path(KEYRING).exists():
        raise BuildError(f"{KEYRING} is missing; install debian-archive-keyring")
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    options = {
        "Dir::State::lists": work / "lists",
        "Dir::Cache": work / "cache",
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "APT::Sandbox::User": "",
    }
    apt = [
        "apt-get",
        *(part for key, value in options.items() for part in ("-o", f"{key}={value}")),
    ]
    for suite in SUITES:
        line = f"deb-src [check-valid-until=no signed-by={KEYRING}] {mirror} {suite} main\n"
        (work / "sources.list").write_text(line)
        try:
            run([*apt, "update"], work, log)
            run([*apt, "source", "--download-only", "asterisk"], work, log)
        except BuildError as error:
            problem = error
            continue
        found = sorted(work.glob("*.orig-Xpjproject.tar.*"))
        if found:
            return found[0]
        problem = BuildError(f"Debian {suite}'s asterisk source has no PJSIP component")
    raise problem


def unpack(tarball: Path, source: Path) -> str:
    """Unpack PJSIP into `source` and return its version."""
    source.mkdir()
    subprocess.run(["tar", "-xf", tarball, "-C", source, "--strip-components=1"], check=True)
    text = (source / "version.mak").read_text()
    parts = [
        re.search(rf"PJ_VERSION_{key}\s*:=\s*(\d*)", text) for key in ("MAJOR", "MINOR", "REV")
    ]
    numbers = tuple(int(part[1]) for part in parts if part and part[1])
    if numbers < MINIMUM:
        raise BuildError(f"the source is PJSIP {numbers}, older than {MINIMUM}")
    return ".".join(map(str, numbers))


def compile_pjsip(source: Path, jobs: int, log: Path) -> Path:
    """Configure and build; return the folder with pjsua2.py and its library."""
    (source / "pjlib/include/pj/config_site.h").write_text(CONFIG_SITE)
    makefile = source / "pjmedia/build/Makefile"
    makefile.write_text(makefile.read_text().replace("bdimad_dev.o", ""))  # not in the package
    say("configure")
    run(["./configure", *CONFIGURE], source, log, CFLAGS=CFLAGS, CXXFLAGS=CFLAGS)
    say("dependencies")
    run(["make", "dep"], source, log)
    say("PJSIP libraries (about half a minute)")
    run(["make", f"-j{jobs}", "lib"], source, log)
    say("Python bindings (about two minutes)")
    python = source / "pjsip-apps/src/swig/python"
    run(["make", "pjsua2_wrap.cpp"], python, log)
    code = "import sys; sys.argv = ['setup.py', 'build_ext', '--inplace']; exec(open('setup.py').read())"
    run([sys.executable, "-c", code], python, log, CFLAGS="-O1 -g0", MAKE="make")
    return python


def install(python: Path, target: Path, version: str) -> None:
    """Put the result in place in one step, after trying it."""
    fresh = target.with_name(target.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for name in ("pjsua2.py", f"_pjsua2{suffix}"):
        shutil.copy2(python / name, fresh / name)
    (fresh / "CALLS").write_text(f"{CALLS}\n")
    probe = "import pjsua2 as p; e = p.Endpoint(); e.libCreate(); print(e.libVersion().full); e.libDestroy()"
    tried = subprocess.run(
        [sys.executable, "-c", probe], cwd=fresh, capture_output=True, text=True, check=False
    )
    if tried.returncode or version not in tried.stdout:
        raise BuildError(f"the build does not load:\n{tried.stdout}{tried.stderr}")
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def existing(cache: Path) -> Path | None:
    """Return a finished build for this Python."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for folder in sorted(cache.glob("pjsua2-*"), reverse=True):
        if (folder / f"_pjsua2{suffix}").exists() and (folder / "CALLS").exists():
            return folder
    return None


def build(cache: Path, jobs: int) -> Path:
    """Do all of it; return the folder."""
    cache.mkdir(parents=True, exist_ok=True)
    log = cache / "build-pjsua2.log"
    log.write_bytes(b"")
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if not header.exists():
        raise BuildError(f"{header} is missing; install python3-dev (or your Python's headers)")
    ensure_packages(log)
    with tempfile.TemporaryDirectory(prefix="pjsua2-", dir=cache) as folder:
        work = Path(folder)
        say("fetching the source from Debian")
        tarball = fetch(work, log)
        version = unpack(tarball, work / "src")
        say(f"PJSIP {version}, {tarball.name}")
        result = compile_pjsip(work / "src", jobs, log)
        target = cache / f"pjsua2-{version}"
        install(result, target, version)
    log.unlink()
    return target


def main() -> int:
    """Parse the arguments, build, report."""
    root = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--into", type=Path, default=root / ".cache", help="folder of the result")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--force", action="store_true", help="build again")
    arguments = parser.parse_args()
    done = None if arguments.force else existing(arguments.into)
    if done:
        say(f"already built: {done}")
        return 0
    try:
        target = build(arguments.into.resolve(), arguments.jobs)
    except (BuildError, OSError, tarfile.TarError, subprocess.SubprocessError) as error:
        say(f"failed: {error}")
        return 1
    say(f"done: {target} holds {CALLS} calls; the sip plugin uses it from now on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
