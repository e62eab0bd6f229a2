# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the telephone tests."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.audio.g711 import encode_ulaw
from tests.telephony.peers import LOOPBACK, Line


@pytest.fixture
async def line() -> AsyncIterator[Callable[..., Awaitable[Line]]]:
    """Starts lines (`await line(mode="echo", ...)`) and closes them in good order."""
    lines: list[Line] = []

    async def start(**options: Any) -> Line:
        made = Line()
        lines.append(made)
        return await made.start(**options)

    yield start
    for made in reversed(lines):
        await made.close()


@pytest.fixture
def tone_file(tmp_path: Path) -> Path:
    """One second of 440 Hz as raw mu-law."""
    samples = 8000 * np.sin(np.arange(8000) * (2 * np.pi * 440 / 8000))
    path = tmp_path / "tone.ul"
    path.write_bytes(encode_ulaw(samples.astype(np.int16)).tobytes())
    return path


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A UDP port that is taken while the test runs."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind((LOOPBACK, 0))
        yield holder.getsockname()[1]
