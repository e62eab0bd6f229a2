# SPDX-License-Identifier: Apache-2.0
"""What an engine that misbehaves does to the audio of the calls: `python -m tests.benchmarks.isolation`.

A box takes real SIP calls. One engine of each kind, in a worker, does no harm (`none`), burns all the
processor time it can get in Python (`burn`), stops its process (`hang`) or returns garbage; a spare of
each kind serves. `inline-burn` runs the burning ones inside the box, for comparison.

Measured at the caller, by the kernel's time stamps of arrival: how far the spacing of two consecutive
RTP packets is from what their time stamps say, |D(i-1, i)| of RFC 3550 (6.4.1), without its smoothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from appliance.audio.g711 import encode_ulaw
from appliance.plugin.manager import PluginManager
from tests.benchmarks.report import Report
from tests.engines.memory_line import start_box
from tests.lab.process import ROOT
from tests.telephony import sipp
from tests.telephony.peers import LOOPBACK, free_port

ARMS = {
    "none": ("none", "worker"),
    "burn": ("burn", "worker"),
    "hang": ("hang", "worker"),
    "garbage": ("garbage", "worker"),
    "inline-burn": ("burn", "inline"),
}
SETTLE_S = 4.0
"""The start of the calls is not measured: greeting, first packets."""

_SO_TIMESTAMPNS = 35  # Linux: asm-generic/socket.h; Python has no name for it
_PACKET = 160
_QUIET = {0xFF, 0x7F, 0xFE, 0x7E}
"""Mu-law of the samples next to zero (ITU-T G.711)."""

_ASKS, _WAITS = 45, 225
"""A caller's rhythm in packets: it asks for 0.9 s and listens for 4.5 s."""


class RtpEnd:
    """A caller's end of a mu-law stream, in a thread: asks again and again, notes when packets come."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((LOOPBACK, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.settimeout(0.005)
        self.port = int(self._socket.getsockname()[1])
        self.packets: list[tuple[float, int, int, bool]] = []
        """Seconds of arrival, sequence number, time stamp, whether it holds speech."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        peer, sent, due = None, 0, 0.0
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                data, ancillary, _, source = self._socket.recvmsg(2048, 128)
                if peer is None:
                    peer, due = source, time.monotonic()
                self._note(data, ancillary)
            while peer is not None and time.monotonic() >= due:
                self._socket.sendto(_question(sent), peer)
                sent, due = sent + 1, due + 0.02

    def _note(self, data: bytes, ancillary: list[tuple[int, int, bytes]]) -> None:
        if len(data) < 12 or data[1] & 0x7F:
            return
        seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
        sequence, stamp = struct.unpack(">HI", data[2:8])
        loud = bool(set(data[12:]) - _QUIET)
        self.packets.append((seconds + nanoseconds / 1e9, sequence, stamp, loud))

    def close(self) -> None:
        """Stop."""
        self._stopping.set()
        self._thread.join()
        self._socket.close()

    def jitter_ms(self) -> list[float]:
        """Return |D| of each pair of consecutive packets after the first `SETTLE_S`, in milliseconds."""
        begin = self.packets[0][0] + SETTLE_S if self.packets else 0.0
        found = []
        for before, after in zip(self.packets, self.packets[1:], strict=False):
            if before[0] < begin or after[1] != (before[1] + 1) & 0xFFFF:
                continue
            spacing = ((after[2] - before[2]) & 0xFFFFFFFF) / 8.0
            found.append(abs((after[0] - before[0]) * 1000 - spacing))
        return found

    def spoken(self) -> int:
        """Return how many packets hold speech of the agent."""
        return sum(loud for *_, loud in self.packets)


def _question(number: int) -> bytes:
    head = struct.pack(">BBHII", 0x80, 0, number & 0xFFFF, number * _PACKET & 0xFFFFFFFF, 7)
    return head + (_TONE if number % (_ASKS + _WAITS) < _ASKS else _SILENCE)


_TONE = encode_ulaw(np.tile(np.array([3000, -3000], np.int16), _PACKET // 2)).tobytes()
_SILENCE = encode_ulaw(np.zeros(_PACKET, np.int16)).tobytes()


async def serve(folder: Path, arm: str, port: int) -> None:
    """Be the box: say when it is ready, and what became of the workers when told to end."""
    harm, placement = ARMS[arm]
    transport = f'use = "sip"\nbind = "{LOOPBACK}"\nudp_port = {port}\ncodecs = ["PCMU"]'
    box = await start_box(
        folder,
        None,
        harm=harm,
        placements=(placement, "worker"),
        transport=f"{transport}\ntcp_port = 0",
        plugins=PluginManager.discover(["sip"]),
    )
    try:
        print(json.dumps({"ready": True}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        restarts = sum(worker.restarts for worker in box.engines.workers())
        print(json.dumps({"restarts": restarts}), flush=True)
    finally:
        await box.aclose()


def measure(arm: str, calls: int, seconds: float) -> dict[str, list[float]]:
    """Run one arm; return samples by result name."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "box.log").open("w") as log:
            box = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.benchmarks.isolation"),
                    *("--serve", name, "--arm", arm, "--port", str(port)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
            )
            try:
                _answer(box, folder)
                ends = asyncio.run(_call(folder, port, calls, seconds))
                assert box.stdin is not None
                box.stdin.write("end\n")
                box.stdin.flush()
                told = _answer(box, folder)
                box.wait(30)
            finally:
                box.kill()
                box.wait()
    return {
        "rtp_jitter": [value for end in ends for value in end.jitter_ms()],
        "seconds_of_speech_per_call": [end.spoken() * 0.02 for end in ends],
        "worker_restarts": [float(told["restarts"])],
    }


def _answer(box: subprocess.Popen[str], folder: Path) -> dict[str, Any]:
    assert box.stdout is not None
    for line in box.stdout:
        if line.startswith("{"):
            answer: dict[str, Any] = json.loads(line)
            return answer
    raise RuntimeError(f"the box ended:\n{(folder / 'box.log').read_text()[-3000:]}")


async def _call(folder: Path, port: int, calls: int, seconds: float) -> list[RtpEnd]:
    ends = [RtpEnd() for _ in range(calls)]
    steps = [sipp.invite(sipp.sdp(port="[field0]")), sipp.trying(), sipp.expect(200), sipp.ack()]
    steps += [sipp.pause(int((seconds + SETTLE_S) * 1000)), sipp.bye(2), sipp.expect(200)]
    fields = [str(end.port) for end in ends]
    callers = await sipp.sipp(folder, port, *steps, calls=calls, fields=fields)
    await callers.done(seconds + SETTLE_S + 60)
    for end in ends:
        end.close()
    return ends


def main() -> None:
    """Run all arms, interleaved, and report; p99 of `rtp_jitter` is to stay below 5 ms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--calls", type=int, default=4, help="calls at a time (default 4)")
    parser.add_argument("--seconds", type=float, default=30, help="of each run (default 30)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each arm (default 3)")
    parser.add_argument(
        "--arm", choices=ARMS, action="append", help="only this one; may be repeated"
    )
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(serve(options.serve, options.arm[0], options.port))
        return
    samples: dict[str, list[float]] = defaultdict(list)
    for _ in range(options.rounds):
        for arm in options.arm or ARMS:
            print(f"  {arm}", flush=True)
            for result, values in measure(arm, options.calls, options.seconds).items():
                samples[f"{arm}/{result}@{options.calls}"] += values
    report = Report("isolation")
    units = {"rtp_jitter": "ms", "seconds_of_speech_per_call": "s", "worker_restarts": "count"}
    for name, values in sorted(samples.items()):
        report.add(name, units[name.partition("/")[2].partition("@")[0]], values)
    report.show()
    report.write(options.json)


if __name__ == "__main__":
    main()
