# SPDX-License-Identifier: Apache-2.0
"""Checks of a recording store. See `appliance.plugin.acting.RecordingStore` for the contract."""

from __future__ import annotations

import tempfile
import wave
from pathlib import Path

from appliance.plugin.acting import RecordingStore
from appliance.plugin.conformance import sound
from appliance.plugin.conformance.drive import loop_stays_free
from appliance.plugin.conformance.findings import Check, ViolationError, check, require
from appliance.plugin.conformance.subject import Subject
from appliance.plugin.errors import InvalidRequestError
from appliance.plugin.speech import SAMPLE_RATE


def recording(folder: str, seconds: float = 1.0) -> Path:
    """Write a stereo WAV file and return its path."""
    path = Path(folder) / "check.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(sound.babble(seconds, SAMPLE_RATE).repeat(2).tobytes())
    return path


async def _round_trip(store: RecordingStore, seconds: float = 1.0) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wav = recording(folder, seconds)
        content = wav.read_bytes()
        uri = await store.put("check-call", wav)
        require(bool(uri), "put returned no URI")
        back = Path(folder) / "back.wav"
        await store.fetch(uri, back)
        require(back.read_bytes() == content, "what came back differs from what was stored")
        await store.delete(uri)
        await store.delete(uri)
        await _is_gone(store, uri, back)


async def _is_gone(store: RecordingStore, uri: str, to: Path) -> None:
    try:
        await store.fetch(uri, to)
    except InvalidRequestError:
        return
    raise ViolationError("a deleted recording can still be fetched")


async def use(store: RecordingStore, subject: Subject) -> None:
    """Store a recording and take it away again."""
    await _round_trip(store, 0.1)


@check("what is put can be fetched, and deleted twice")
async def it_keeps_recordings(subject: Subject) -> str:
    """And after that it is gone: the caller has a right to it."""
    await _round_trip(subject.provider)
    return ""


@check("the event loop is never blocked longer than 20 ms")
async def the_loop_stays_free(subject: Subject) -> str:
    """Recordings are long and disks are slow; a frame of every call leaves each 20 ms."""
    store: RecordingStore = subject.provider
    with tempfile.TemporaryDirectory() as folder:
        wav = recording(folder, 120.0)

        async def put() -> None:
            await store.delete(await store.put("check-call", wav))

        return await loop_stays_free(put)


CHECKS: tuple[Check, ...] = (it_keeps_recordings, the_loop_stays_free)
