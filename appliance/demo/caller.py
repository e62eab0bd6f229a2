# SPDX-License-Identifier: Apache-2.0
"""The demonstration's caller: `trunkline call` in a process of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import Any

CALL_LIMIT_S = 240


def free_udp_port() -> int:
    """Return a port of the loopback interface that nobody uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def place_call(target: str, script: Path, record: Path) -> dict[str, Any]:
    """Place the call; return its result, or what the caller said instead as `error`.

    Args:
        target: SIP address.
        script: what the caller says.
        record: file for what the caller hears.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "appliance.cli", "call", target),
        *("--script", str(script), "--record", str(record), "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), CALL_LIMIT_S)
    except TimeoutError:
        return {"error": f"the caller did not finish within {CALL_LIMIT_S} s"}
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        result: dict[str, Any] = json.loads(out)
    except ValueError:
        return {"error": err.decode(errors="replace").strip() or f"exit code {process.returncode}"}
    return result
