# SPDX-License-Identifier: Apache-2.0
"""SIPp callers that play real audio for as long as a call lasts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from appliance.audio.g711 import encode_ulaw
from appliance.plugin import Pcm
from tests.telephony.peers import free_port, free_range
from tests.telephony.sipp import ack, bye, expect, invite, pause, play, trying


def available() -> bool:
    """Return whether SIPp is installed."""
    return shutil.which("sipp") is not None


def write_audio(path: Path, pcm_8k: Pcm) -> None:
    """Write what the callers play: raw mu-law at 8 kHz."""
    path.write_bytes(encode_ulaw(pcm_8k).tobytes())


def start(
    folder: Path,
    port: int,
    audio: Path,
    *,
    calls: int,
    hold_s: float,
    rate: int = 10,
    at_once: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start `calls` calls to 100 at 127.0.0.1:`port`, `rate` a second; exit code 0: none failed."""
    most = at_once or calls
    steps = [invite(), trying(), expect(200), ack(), play(audio), pause(int(hold_s * 1000))]
    text = "\n".join([*steps, bye(2), expect(200)])
    scenario = folder / f"caller-{calls}.xml"
    scenario.write_text(
        f'<?xml version="1.0" encoding="ISO-8859-1" ?>\n<scenario name="caller">\n{text}\n</scenario>\n'
    )
    limit = int(calls / rate + hold_s * calls / most + 60)
    return subprocess.Popen(
        [
            *("sipp", f"127.0.0.1:{port}", "-sf", str(scenario), "-s", "100"),
            *("-i", "127.0.0.1", "-mi", "127.0.0.1", "-p", str(free_port())),
            *("-m", str(calls), "-l", str(most), "-r", str(rate), "-nostdin"),
            *("-mp", str(free_range(4 * most)), "-timeout", f"{limit}s"),
        ],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
