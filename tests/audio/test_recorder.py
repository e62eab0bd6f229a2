# SPDX-License-Identifier: Apache-2.0
"""Recordings: what is in the file, at every moment, and what happens when it cannot be written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.audio import wav
from appliance.audio.recorder import BLOCK_SAMPLES, RecordingWriter, StereoRecorder
from tests.store.full_disk import KINDS, disk

ROOT = Path(__file__).parents[2]


@pytest.fixture
def writer() -> Iterator[RecordingWriter]:
    writer = RecordingWriter()
    yield writer
    writer.close()


def read(path: Path) -> NDArray[np.int16]:
    """Return shape (samples, 2), by the standard library's reader."""
    with wave.open(str(path), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 16000)
        raw = file.readframes(file.getnframes())
        assert len(raw) == 4 * file.getnframes()
    return np.frombuffer(raw, "<i2").reshape(-1, 2)


def frames_in(path: Path) -> int:
    """Samples a side written so far: 0 while the file does not exist or has no header yet."""
    return len(read(path)) if path.exists() and path.stat().st_size else 0


def tick(recorder: StereoRecorder, number: int) -> None:
    recorder.write(np.full(320, number, np.int16), np.full(320, -number, np.int16))


def test_the_caller_is_left_and_the_agent_right_sample_by_sample(
    writer: RecordingWriter, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    recorder = writer.open(tmp_path / "day" / "call.wav")
    sides = [rng.integers(-32768, 32767, (2, n)).astype(np.int16) for n in (320, 1, 9000, 0, 777)]
    for heard, sent in sides:
        recorder.write(heard, sent)
    assert recorder.samples == 10098
    result = recorder.close().result(10)
    assert (result.path, result.samples, result.error) == (tmp_path / "day/call.wav", 10098, "")
    assert np.array_equal(read(tmp_path / "day/call.wav").T, np.concatenate(sides, axis=1))
    assert (tmp_path / "day/call.wav").stat().st_mode & 0o777 == 0o600


def test_a_recording_of_nothing_is_an_empty_wav(writer: RecordingWriter, tmp_path: Path) -> None:
    result = writer.open(tmp_path / "call.wav").close().result(10)
    assert (result.samples, result.error) == (0, "")
    assert read(tmp_path / "call.wav").shape == (0, 2)


def test_closing_twice_is_one_closing_and_writing_afterwards_does_nothing(
    writer: RecordingWriter, tmp_path: Path
) -> None:
    recorder = writer.open(tmp_path / "call.wav")
    tick(recorder, 1)
    done = recorder.close()
    assert recorder.close() is done
    tick(recorder, 2)
    assert done.result(10).samples == 320


def test_many_calls_are_recorded_side_by_side_by_one_thread(
    writer: RecordingWriter, tmp_path: Path
) -> None:
    recorders = [writer.open(tmp_path / f"{n}.wav") for n in range(20)]
    for _ in range(60):
        for number, recorder in enumerate(recorders):
            tick(recorder, number)
    assert [thread.name for thread in threading.enumerate()].count("recordings") == 1
    for number, recorder in enumerate(recorders):
        result = recorder.close().result(10)
        assert result.samples == 60 * 320
        assert np.array_equal(
            np.unique(read(tmp_path / f"{number}.wav")), sorted({number, -number})
        )


def test_the_file_is_a_valid_wav_of_all_but_the_last_second_while_the_call_goes_on(
    writer: RecordingWriter, tmp_path: Path
) -> None:
    path = tmp_path / "call.wav"
    recorder = writer.open(path)
    for number in range(1, 101):
        tick(recorder, number)
        if recorder.samples >= 2 * BLOCK_SAMPLES:
            deadline = time.monotonic() + 10
            while frames_in(path) < recorder.samples - 16000:
                assert time.monotonic() < deadline
    recorder.close().result(10)


def test_an_existing_file_is_never_overwritten(writer: RecordingWriter, tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(b"precious")
    recorder = writer.open(path)
    tick(recorder, 1)
    result = recorder.close().result(10)
    assert result.path is None
    assert "File exists" in result.error
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_full_disk_the_recording_stops_with_one_report_and_the_file_stays_valid(
    tmp_path: Path, kind: str
) -> None:
    reports: list[str] = []
    writer = RecordingWriter()
    with disk(kind, tmp_path / "disk") as full:
        failing = writer.open(full.folder / "call.wav", reports.append)
        other = writer.open(tmp_path / "other.wav", reports.append)
        for number in range(1, 26):
            tick(failing, number)
            tick(other, number)
        deadline = time.monotonic() + 10
        while not frames_in(failing.path):
            assert time.monotonic() < deadline
        full.fill()
        while not reports:
            tick(failing, 99)
            assert time.monotonic() < deadline
        for _ in range(100):
            tick(failing, 99)
        result = failing.close().result(10)
        assert reports == [result.error]
        assert re.search(full.message, result.error)
        assert np.array_equal(np.unique(read(failing.path)[: 25 * 320, 0]), range(1, 26))
        assert len(read(failing.path)) == result.samples
    tick(other, 26)
    assert other.close().result(10).samples == 26 * 320
    writer.close()


def test_a_disk_that_is_too_slow_costs_the_recording_and_not_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    pwrite = os.pwrite

    def slow_pwrite(*arguments: Any) -> int:
        answers.wait()
        return pwrite(*arguments)

    monkeypatch.setattr(os, "pwrite", slow_pwrite)
    writer = RecordingWriter(max_pending_bytes=200_000)
    reports: list[str] = []
    recorder = writer.open(tmp_path / "call.wav", reports.append)
    for number in range(500):
        tick(recorder, number)
    assert len(reports) == 1
    assert "too slow" in reports[0]
    answers.set()
    result = recorder.close().result(10)
    assert result.error == reports[0]
    assert len(read(tmp_path / "call.wav")) == result.samples
    writer.close()


def test_sides_of_different_length_are_refused(writer: RecordingWriter, tmp_path: Path) -> None:
    recorder = writer.open(tmp_path / "call.wav")
    with pytest.raises(ValueError, match="320 samples heard, but 160 sent"):
        recorder.write(np.zeros(320, np.int16), np.zeros(160, np.int16))


def test_closing_the_writer_ends_its_thread_and_writes_what_was_queued(tmp_path: Path) -> None:
    writer = RecordingWriter()
    recorder = writer.open(tmp_path / "call.wav")
    for number in range(500):
        tick(recorder, number)
    done = recorder.close()
    writer.close()
    writer.close()
    assert done.done()
    assert len(read(tmp_path / "call.wav")) == 500 * 320
    assert "recordings" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.slow
def test_killed_at_any_moment_a_recording_opens_and_lacks_less_than_a_second(
    tmp_path: Path,
) -> None:
    for n, ticks in enumerate((3, 40, 77, 100, 131)):
        path = tmp_path / f"{n}.wav"
        command = [sys.executable, "-m", "tests.audio.recording_process", str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
            assert process.stdout is not None
            given = 0
            while given < ticks:
                given = int(process.stdout.readline())
            process.kill()
        if not frames_in(path):
            assert given < 50
            continue
        heard = read(path)[::320, 0]
        assert len(heard) >= given - 50
        assert np.array_equal(heard, range(1, len(heard) + 1))


def test_wav_files_are_written_and_read_back_as_telephone_audio(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    mono = np.arange(-800, 800).astype(np.int16)
    wav.write(path, mono)
    assert np.array_equal(wav.read_mono(path), mono)
    wav.write(path, np.stack([mono, mono + 2], axis=1))
    assert np.array_equal(wav.read_mono(path), mono + 1)
    assert abs(wav.read_mono(path, 8000).size - 800) <= 1
    wav.write(path, mono, rate=8000)
    assert abs(wav.read_mono(path).size - 3200) <= 1


def test_what_is_no_wav_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(b"RIFF....")
    with pytest.raises(ValueError, match=r"x\.wav is not a PCM WAV file"):
        wav.read_mono(path)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(b"\x80" * 100)
    with pytest.raises(ValueError, match="8 bit samples"):
        wav.read_mono(path)
