# SPDX-License-Identifier: Apache-2.0
"""Stereo recordings, written as calls go on: left is the caller, right is the agent.

One writer thread serves all calls, so no event loop ever waits for a disk. Each block (half a
second) goes to the file before the header that counts it, so the file is a valid WAV at every
moment and a process killed at any of them loses less than a second. What goes wrong (disk full,
disk too slow) ends that recording with a report, on the caller's own thread; the call goes on.

    writer = RecordingWriter()
    recorder = writer.open(Path("call.wav"), on_error=print)
    recorder.write(frame.heard, frame.sent)          # every tick
    result = await asyncio.wrap_future(recorder.close())
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appliance.audio.types import SAMPLE_RATE, Pcm
from appliance.audio.wav import HEADER_BYTES, MAX_DATA_BYTES, header

BLOCK_SAMPLES = SAMPLE_RATE // 2
"""Half a second is gathered before it goes to the thread: a kill loses this, and what is queued."""

MAX_PENDING_BYTES = 64 * 2**20
"""Audio of all calls that may wait for the disk: 100 calls for 10 s."""

_FRAME_BYTES = 4  # one sample of each side


@dataclass(frozen=True, slots=True)
class RecordingResult:
    """What became of a recording.

    Attributes:
        path: the file, or None when it could not even be begun.
        samples: length of what is in the file, at 16 kHz.
        error: why it ended before the call did, or "".
    """

    path: Path | None
    samples: int
    error: str


class StereoRecorder:
    """The recording of one call; made by `RecordingWriter.open`. Used on one thread."""

    def __init__(
        self, writer: RecordingWriter, file: _File, on_error: Callable[[str], None] | None
    ) -> None:
        self._writer = writer
        self._file = file
        self._on_error = on_error
        self._block = np.zeros((BLOCK_SAMPLES, 2), "<i2")
        self._filled = 0
        self._done: Future[RecordingResult] | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @property
    def samples(self) -> int:
        """Samples given so far, a side."""
        return self._file.given + self._filled

    def write(self, heard: Pcm, sent: Pcm) -> None:
        """Append one tick of both sides (16 kHz, equally long; copied). Never blocks.

        After a failure it does nothing but report it, once; after `close` nothing at all.

        Raises:
            ValueError: the two sides differ in length.
        """
        if heard.size != sent.size:
            raise ValueError(f"{heard.size} samples heard, but {sent.size} sent")
        if self._done is not None:
            return
        if self._file.trouble():
            self._report()
            return
        at = 0
        while at < heard.size:
            n = min(heard.size - at, BLOCK_SAMPLES - self._filled)
            block = self._block[self._filled : self._filled + n]
            block[:, 0] = heard[at : at + n]
            block[:, 1] = sent[at : at + n]
            self._filled += n
            at += n
            if self._filled == BLOCK_SAMPLES:
                self._send()

    def close(self) -> Future[RecordingResult]:
        """Write the rest and sync it to the disk; the future ends when that is done. Idempotent."""
        if self._done is None:
            self._send()
            self._done = self._writer.finish(self._file)
        return self._done

    def _report(self) -> None:
        on_error, self._on_error = self._on_error, None
        if on_error is not None:
            on_error(self._file.trouble())

    def _send(self) -> None:
        if self._filled:
            self._writer.put(self._file, self._block[: self._filled].tobytes())
            self._file.given += self._filled
            self._filled = 0


class _File:
    """A recording as the writer thread sees it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.given = 0
        self.refused = ""
        """Why no more audio is queued; what is queued is still written. Set beside the thread."""
        self._error = ""  # why nothing more can be written; set on the thread
        self._descriptor = -1
        self._bytes = 0

    def append(self, data: bytes) -> None:
        """Write audio, then the header that counts it."""
        if self._error:
            return
        try:
            if self._descriptor < 0:
                self._create()
            if self._bytes + len(data) > MAX_DATA_BYTES:
                self._error = f"recording to {self.path} stopped: a WAV file can be no longer"
                return
            _write_at(self._descriptor, data, HEADER_BYTES + self._bytes)
            self._bytes += len(data)
            _write_at(self._descriptor, header(2, SAMPLE_RATE, self._bytes), 0)
        except OSError as error:
            self._error = f"recording to {self.path} stopped: {error.strerror or error}"

    def finish(self) -> RecordingResult:
        """Sync and close."""
        if self._descriptor < 0 and not self._error:
            self.append(b"")
        path = self.path if self._descriptor >= 0 else None
        if self._descriptor >= 0:
            try:
                try:
                    os.fsync(self._descriptor)
                finally:
                    os.close(self._descriptor)
            except OSError as error:
                self._error = f"recording to {self.path} may be incomplete: {error.strerror}"
            self._descriptor = -1
        return RecordingResult(path, self._bytes // _FRAME_BYTES, self.trouble())

    def trouble(self) -> str:
        """Return why the recording stopped, or ""."""
        return self._error or self.refused

    def _create(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o600)
        _write_at(self._descriptor, header(2, SAMPLE_RATE, 0), 0)


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of `data`: a full disk may take a part of it first and refuse the rest."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


class RecordingWriter:
    """The thread that writes the recordings of all calls. It starts with the first recording."""

    def __init__(self, *, max_pending_bytes: int = MAX_PENDING_BYTES) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._max_pending = max_pending_bytes
        self._pending = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def open(self, path: Path, on_error: Callable[[str], None] | None = None) -> StereoRecorder:
        """Begin a recording at `path`, readable by this user only; its folder is made.

        An existing file is never overwritten: that is an error like a full disk.

        Args:
            path: where the WAV file goes.
            on_error: told once why the recording stopped, by the next `StereoRecorder.write`.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="recordings", daemon=True)
            self._thread.start()
        return StereoRecorder(self, _File(path), on_error)

    def put(self, file: _File, data: bytes) -> None:
        """Queue audio of one recording; for `StereoRecorder`."""
        with self._lock:
            fits = self._pending + len(data) <= self._max_pending
            if fits:
                self._pending += len(data)
        if not fits:
            file.refused = f"recording to {file.path} stopped: the disk is too slow for it"
            return

        def job() -> None:
            file.append(data)
            with self._lock:
                self._pending -= len(data)

        self._jobs.put(job)

    def finish(self, file: _File) -> Future[RecordingResult]:
        """Queue the end of one recording; for `StereoRecorder`."""
        done: Future[RecordingResult] = Future()
        done.set_running_or_notify_cancel()  # who stops waiting for it must not stop the thread
        self._jobs.put(lambda: done.set_result(file.finish()))
        return done

    def close(self) -> None:
        """Write what is queued and end the thread. Blocks for as long as that takes. Idempotent."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
