# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Asterisk 22 as the PBX of tests: Debian's package in a chroot, built once and kept.

    python -m tests.telephony.asterisk_lab            build it (as root; about two minutes, once)

It lies in `.cache/asterisk`. Each run has a configuration folder of its own inside the chroot, so runs
do not disturb each other, and listens on 127.0.0.1 only.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.telephony.peers import free_port, free_range, until

REPOSITORY = Path(__file__).resolve().parents[2]
LAB = REPOSITORY / ".cache" / "asterisk"
CONFIGS = REPOSITORY / "configs" / "pbx" / "asterisk"
SUITE = "sid"

MODULES = (
    "app_dial",
    "app_echo",
    "app_playback",
    "app_verbose",
    "bridge_holding",
    "bridge_native_rtp",
    "bridge_simple",
    "bridge_softmix",
    "chan_pjsip",
    "codec_alaw",
    "codec_g722",
    "codec_resample",
    "codec_ulaw",
    "format_pcm",
    "format_wav",
    "func_callerid",
    "func_pjsip_endpoint",
    "pbx_config",
    "bridge_builtin_features",
    "res_musiconhold",
    "res_pjproject",
    "res_pjsip",
    "res_pjsip_acl",
    "res_pjsip_authenticator_digest",
    "res_pjsip_caller_id",
    "res_pjsip_dtmf_info",
    "res_pjsip_endpoint_identifier_ip",
    "res_pjsip_endpoint_identifier_user",
    "res_pjsip_header_funcs",
    "res_pjsip_logger",
    "res_pjsip_nat",
    "res_pjsip_outbound_authenticator_digest",
    "res_pjsip_refer",
    "res_pjsip_registrar",
    "res_pjsip_rfc3326",
    "res_pjsip_sdp_rtp",
    "res_pjsip_session",
    "res_pjsip_pubsub",
    "res_rtp_asterisk",
    "res_sorcery_astdb",
    "res_sorcery_config",
    "res_sorcery_memory",
    "res_srtp",
    "res_timing_timerfd",
)


class LabError(Exception):
    """The lab cannot be built or started; the message says why."""


def _run(*command: str | Path, log: Path) -> None:
    with log.open("ab") as out:
        done = subprocess.run(
            [str(part) for part in command],
            stdout=out,
            stderr=out,
            check=False,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        )
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise LabError(f"`{command[0]} ...` failed; its log is {log}:\n{tail}")


def _mirror() -> str:
    query = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(SITE)"]
    listed = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    sites = [line.split(" ", 1)[1] for line in listed.splitlines() if line.startswith("Debian ")]
    found = [site for site in sites if not site.rstrip("/").endswith("-security")]
    if not found:
        raise LabError("no Debian mirror in apt's sources")
    return os.environ.get("DEBIAN_MIRROR") or found[0]


def build() -> Path:
    """Make the chroot if it is not there; return it.

    Raises:
        LabError: not root, debootstrap missing, or a step failed.
    """
    if (LAB / "usr/sbin/asterisk").exists():
        return LAB
    if os.geteuid():
        raise LabError("the Asterisk lab is a chroot: building and using it needs root")
    if not shutil.which("debootstrap"):
        raise LabError("debootstrap is missing: apt-get install debootstrap")
    LAB.parent.mkdir(parents=True, exist_ok=True)
    fresh = LAB.with_name("asterisk.new")
    shutil.rmtree(fresh, ignore_errors=True)
    log = LAB.with_name("asterisk-lab.log")
    log.write_bytes(b"")
    sys.stderr.write("asterisk lab: debootstrap (one to two minutes)\n")
    _run("debootstrap", "--variant=minbase", SUITE, fresh, _mirror(), log=log)
    sys.stderr.write("asterisk lab: installing asterisk\n")
    _run("chroot", fresh, "apt-get", "-o", "Acquire::Check-Valid-Until=false", "update", log=log)
    install = ["apt-get", "install", "-y", "--no-install-recommends"]
    _run("chroot", fresh, *install, "asterisk", "asterisk-core-sounds-en-wav", log=log)
    _run("chroot", fresh, "apt-get", "clean", log=log)
    shutil.rmtree(LAB, ignore_errors=True)
    fresh.rename(LAB)
    return LAB


class Asterisk:
    """One running Asterisk, configured from the examples in `configs/pbx/asterisk`."""

    def __init__(self) -> None:
        self.port = 0
        self._root = build()
        self._folder = Path(tempfile.mkdtemp(prefix="lab-", dir=self._root / "tmp"))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, extra: str = "", *, box: str = "") -> Asterisk:
        """Write the configuration, start, and wait until it is up.

        Args:
            extra: more lines for pjsip.conf.
            box: `address:port` of a box that is a trunk by address.
        """
        self.port = free_port()
        self._configure(extra, box or "192.0.2.10:5060")
        if not (self._root / "dev/null").exists():
            (self._root / "dev/null").touch()
        inside = f"/{self._folder.relative_to(self._root)}"
        command = f"exec asterisk -f -C {inside}/asterisk.conf -vvv"
        self._process = await asyncio.create_subprocess_exec(
            "chroot",
            str(self._root),
            "/bin/sh",
            "-c",
            command,
            stdout=(self._folder / "console.log").open("wb"),
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + 30
        while "has been up" not in await self.cli("core show uptime") and (
            "System uptime" not in await self.cli("core show uptime")
        ):
            if time.monotonic() > deadline or self._process.returncode is not None:
                raise LabError(f"Asterisk does not start:\n{self.console()[-3000:]}")
            await asyncio.sleep(0.1)
        return self

    def _configure(self, extra: str, box: str) -> None:
        inside = f"/{self._folder.relative_to(self._root)}"
        folders = {
            "astetcdir": inside,
            "astrundir": inside,
            "astlogdir": inside,
            "astdbdir": inside,
        }
        lines = [f"{key} => {value}" for key, value in folders.items()]
        fixed = ["astmoddir => /usr/lib/asterisk/modules", "astvarlibdir => /var/lib/asterisk"]
        modules = next(self._root.glob("usr/lib/*/asterisk/modules"), None)
        if modules:
            fixed[0] = f"astmoddir => /{modules.relative_to(self._root)}"
        fixed += ["astdatadir => /usr/share/asterisk", "astspooldir => /var/spool/asterisk"]
        write = self._write
        write("asterisk.conf", "\n".join(["[directories]", *lines, *fixed, "[options]", ""]))
        loads = "\n".join(f"load = {name}.so" for name in MODULES)
        write("modules.conf", f"[modules]\nautoload = no\n{loads}\n")
        write("logger.conf", "[logfiles]\nconsole => notice,warning,error,verbose\n")
        start = free_range(200)
        write("rtp.conf", f"[general]\nrtpstart={start}\nrtpend={start + 198}\nstrictrtp=yes\n")
        for name in ("pjsip.conf", "extensions.conf"):
            text = (CONFIGS / name).read_text()
            text = text.replace("bind=0.0.0.0:5060", f"bind=127.0.0.1:{self.port}")
            text = text.replace("192.0.2.10:5060", box)
            text = text.replace("192.0.2.10", box.partition(":")[0])
            write(name, text + (extra if name == "pjsip.conf" else ""))
        for name in ("features.conf", "musiconhold.conf", "ccss.conf", "stasis.conf", "udptl.conf"):
            write(name, "")
        write(
            "musiconhold.conf", "[default]\nmode=files\ndirectory=/usr/share/asterisk/sounds/en\n"
        )

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)

    async def cli(self, command: str) -> str:
        """Run a console command; return what it prints."""
        inside = f"/{self._folder.relative_to(self._root)}"
        process = await asyncio.create_subprocess_exec(
            *(
                "chroot",
                str(self._root),
                "asterisk",
                "-C",
                f"{inside}/asterisk.conf",
                "-rx",
                command,
            ),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        return out.decode(errors="replace")

    async def shows(self, command: str, text: str, timeout_s: float = 15.0) -> str:
        """Wait until a console command prints `text`; return the line."""
        deadline = time.monotonic() + timeout_s
        while True:
            shown = await self.cli(command)
            for line in shown.splitlines():
                if text in line:
                    return line
            if time.monotonic() > deadline:
                raise AssertionError(f"{command} never showed {text}:\n{shown}\n{self.console()}")
            await asyncio.sleep(0.1)

    def console(self) -> str:
        """Return what it has logged."""
        log = self._folder / "console.log"
        return log.read_text(errors="replace") if log.exists() else ""

    async def stop(self) -> None:
        """End it and remove its configuration."""
        if self._process is not None and self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            process = self._process
            try:
                await until(lambda: process.returncode is not None, 5.0, "Asterisk ends")
            except AssertionError:
                os.killpg(self._process.pid, signal.SIGKILL)
                await self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        print(build())  # noqa: T201
    except LabError as error:
        sys.exit(str(error))
