# SPDX-License-Identifier: Apache-2.0
"""`trunkline call`, against a real SIP telephone in another process whose answers are known."""

from __future__ import annotations

import asyncio
import json
import sys
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from appliance.caller.build import line_settings
from appliance.cli.root import app
from appliance.plugin import ConfigurationError
from tests.caller.lab import RATE

ROOT = Path(__file__).parents[2]
LATENCY, STOP = 8000, 2400
PATH_S = 0.25
"""Codec, jitter buffers and the loop of a busy machine, both ways."""


@asynccontextmanager
async def tone_phone(farewell: int) -> AsyncIterator[int]:
    """Run a telephone that answers with tones; give its port."""
    numbers = (LATENCY, STOP, 2 * RATE, farewell)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.caller.tone_phone", *map(str, numbers)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        async with asyncio.timeout(30):
            while not (line := (await process.stdout.readline()).strip()).isdigit():
                assert line or process.returncode is None
        yield int(line)
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 15)
        except TimeoutError:
            process.kill()
            await process.wait()


async def call(*arguments: str) -> tuple[int, dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "appliance.cli", "call", *arguments, "--json"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, json.loads(out)


@pytest.mark.slow
async def test_it_measures_a_real_sip_call_and_records_it(tmp_path: Path) -> None:
    script = tmp_path / "script.yaml"
    script.write_text(
        """
- say: Hello there, what are your opening hours?
- {say: "Sorry, hold on.", interrupt_after_s: 0.6}
- say: Goodbye.
""",
        encoding="utf-8",
    )
    recording = tmp_path / "call.wav"
    async with tone_phone(farewell=3) as port:
        arguments = ("--script", str(script), "--record", str(recording), "--codec", "PCMU")
        code, result = await call(f"sip:100@127.0.0.1:{port}", *arguments)
    assert code == 0
    (one,) = result["calls"]
    assert (one["codec"], one["cause"], one["complete"]) == ("PCMU", "remote_hangup", True)
    latencies = [turn["answer_latency_s"] for turn in one["turns"]]
    assert len(latencies) == 3
    assert all(LATENCY / RATE <= value < LATENCY / RATE + PATH_S for value in latencies)
    stop = one["turns"][1]["barge_in_stop_s"]
    assert STOP / RATE <= stop < STOP / RATE + PATH_S
    assert result["results"]["answer_latency"]["n"] == 3
    assert result["results"]["barge_in_stop"]["unit"] == "ms"
    with wave.open(str(recording)) as file:
        both = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    for turn in one["turns"]:
        at = round(turn["speech_start_s"] * RATE)
        assert abs(int(both[at, 0])) > 327
        assert abs(int(both[round(turn["reply_start_s"] * RATE), 1])) > 184


@pytest.mark.slow
async def test_two_calls_at_once_and_nobody_there() -> None:
    async with tone_phone(farewell=1) as port:
        target = f"sip:100@127.0.0.1:{port}"
        code, result = await call(target, "--say", "Hello.", "--calls", "2")
        assert code == 0
        assert [len(one["turns"]) for one in result["calls"]] == [1, 1]
        assert result["results"]["answer_latency"]["n"] == 2
    code, result = await call("sip:100@127.0.0.1:9", "--say", "Hello.", "--answer-timeout", "1")
    assert code == 1
    assert not result["calls"][0]["answered"]


def test_wrong_use_ends_with_code_2_and_says_why(tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["call", "sip:1@127.0.0.1", "--say", "a", "--wav", "b.wav"])
    assert run.exit_code == 2
    assert "one of --script, --say and --wav" in run.stderr
    script = tmp_path / "script.yaml"
    script.write_text("- {sing: la}", encoding="utf-8")
    run = CliRunner().invoke(app, ["call", "sip:1@127.0.0.1", "--script", str(script)])
    assert run.exit_code == 2
    assert "turns.0.sing" in run.stderr


def test_the_line_fits_the_target() -> None:
    assert line_settings("sip:100@127.0.0.1:5060")["bind"] == "127.0.0.1"
    assert line_settings("sip:100@localhost")["bind"] == "127.0.0.1"
    assert line_settings("sip:pbx.example.com")["bind"] == "0.0.0.0"
    assert line_settings("sip:1@[2001:db8::1]:5060")["bind"] == "::"
    assert line_settings("sip:1@192.0.2.1;transport=TCP")["tcp_port"] == 0
    assert line_settings("sip:1@192.0.2.1", "PCMA")["codecs"] == ["PCMA"]
    with pytest.raises(ConfigurationError, match="no SIP address"):
        line_settings("100")
