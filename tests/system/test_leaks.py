# SPDX-License-Identifier: Apache-2.0
"""Many calls in a row through the real media plane leave nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.lab import sipp
from tests.lab.process import StubBox, poll

pytestmark = pytest.mark.slow

SETTINGS = {"bind": "127.0.0.1", "udp_port": 0, "tcp_port": None, "codecs": ["PCMU"]}


def settled(box: StubBox) -> dict[str, Any]:
    """Return the counters once no call is left."""
    return poll(box.stats, lambda stats: stats["calls"] == 0, 20, "calls are left")


def test_two_hundred_calls_in_a_row_leave_no_thread_file_task_or_memory(tmp_path: Path) -> None:
    audio = tmp_path / "tone.ul"
    tone = (6000 * np.sin(np.arange(8000) * 0.2)).astype(np.int16)
    sipp.write_audio(audio, tone)
    ports = {"rtp_port_start": 31000, "rtp_port_end": 31999}
    with StubBox({**SETTINGS, **ports}, words=10) as box:
        port = int(box.ready["listening"][0].rsplit(":", 1)[1])

        def run(calls: int) -> dict[str, Any]:
            peer = sipp.start(tmp_path, port, audio, calls=calls, hold_s=0.2, rate=25, at_once=8)
            assert peer.wait() == 0, "SIPp reports failed calls"
            return settled(box)

        # SIP keeps a finished transaction for 32 s (RFC 3261, 17.1.1.2): only after that is it flat.
        before = run(850)
        after = run(200)
    assert after["counters"]["calls_in"] == 1050
    for what in ("threads", "python_threads", "files", "tasks"):
        assert after[what] == before[what], what
    assert after["objects"] - before["objects"] < 200 * 5
    assert after["rss_kib"] - before["rss_kib"] < 2048
