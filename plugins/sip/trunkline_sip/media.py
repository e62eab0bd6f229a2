# SPDX-License-Identifier: GPL-3.0-or-later
"""The audio of all legs: rings that PJSIP's media thread fills and empties, and the 20 ms tick.

PJSIP's bridge runs at 16 kHz on a clock of its own. In each tick it asks every port for a frame, in
the order of their slots, then gives every port one. So a port in the highest slot knows, when it is
given its frame, that all others are done: that is the `Tail`, and what it does is count the tick and
wake the event loop once.

    media thread   | leg 1 asked, leg 2 asked, ... | leg 1 given, leg 2 given, ... tail: tick += 1
    event loop                                                                        deliver()

A `Line` is one port with its rings. Rings have a slot a tick, so the loop may be late by
`RING_TICKS` before anything is lost, and then delivers every missed tick in order. Lines are kept and
used again: PJSIP takes ports out of its bridge some time after it was asked to.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from appliance.plugin import FRAME_SAMPLES, MediaFrame, Pcm
from trunkline_sip.vectors import Mover, memmove

if TYPE_CHECKING:
    from appliance.plugin import Leg

RING_TICKS = 64
_MASK = RING_TICKS - 1
FRAME_BYTES = 2 * FRAME_SAMPLES
QUEUE_SAMPLES = 8192
"""Playout ring of one leg (0.5 s): more than the core ever queues; the rest waits beside it."""


class Ticks:
    """The media clock. Counted on PJSIP's media thread, delivered on the event loop.

    Attributes:
        now: the tick that the media thread is in.
        late: ticks delivered more than one tick after they were done.
        lost: ticks that were overwritten before the loop came to them.
    """

    def __init__(self, wake: Callable[[], None], deliver: Callable[[int], None]) -> None:
        self.now = 0
        self.late = 0
        self.lost = 0
        self._wake = wake
        self._deliver = deliver
        self._delivered = 0
        self._scheduled = False

    def done(self) -> None:
        """All ports had their turn (media thread)."""
        self.now += 1
        if not self._scheduled:
            self._scheduled = True
            self._wake()

    def run(self) -> None:
        """Deliver what is done, in order (event loop)."""
        self._scheduled = False
        done = self.now
        behind = done - self._delivered
        if behind > RING_TICKS - 2:
            self.lost += behind - (RING_TICKS - 2)
            self._delivered = done - (RING_TICKS - 2)
        self.late += max(0, done - self._delivered - 1)
        while self._delivered < done:
            self._deliver(self._delivered)
            self._delivered += 1


class Line:
    """The rings of one leg, and what the media thread does with them.

    `asked` and `given` run on the media thread, everything else on the event loop. The playout queue
    is shared by both under a lock that is never held for longer than a copy of one frame.
    """

    def __init__(self, mover: Mover, ticks: Ticks, audio_type: int) -> None:
        self._mover = mover
        self._ticks = ticks
        self._audio = audio_type
        self._lock = threading.Lock()
        self._heard = np.zeros((RING_TICKS, FRAME_SAMPLES), np.int16)
        self._sent = np.zeros((RING_TICKS, FRAME_SAMPLES), np.int16)
        self._queue = np.zeros(QUEUE_SAMPLES, np.int16)
        self._heard_at = int(self._heard.ctypes.data)
        self._sent_at = int(self._sent.ctypes.data)
        self._queue_at = int(self._queue.ctypes.data)
        self._heard_tick = [-1] * RING_TICKS
        self._sent_tick = [-1] * RING_TICKS
        self._out, self._out_at = mover.out(FRAME_BYTES)
        self._silence, self._silence_at = mover.out(FRAME_BYTES)
        memmove(self._silence_at, self._sent_at, FRAME_BYTES)
        self._put = 0  # samples ever put into the ring
        self._taken = 0  # samples ever taken from it
        self._waiting: deque[Pcm] = deque()  # does not fit into the ring yet
        self._frames: list[MediaFrame] = []
        self.port: Any = None

    def begin(self, leg: Leg) -> None:
        """Make it the line of `leg`, empty."""
        with self._lock:
            self._put = self._taken = 0
        self._waiting.clear()
        self._heard_tick[:] = self._sent_tick[:] = [-1] * RING_TICKS
        self._frames = [MediaFrame(leg, self._heard[i], self._sent[i]) for i in range(RING_TICKS)]

    def end(self) -> None:
        """Forget the leg."""
        self._frames = []
        self._waiting.clear()

    # Media thread

    def asked(self, frame: Any) -> None:
        """PJSIP wants the next 20 ms: give what is queued, padded with silence."""
        tick = self._ticks.now
        slot = tick & _MASK
        to = self._sent_at + slot * FRAME_BYTES
        with self._lock:
            size = min(FRAME_SAMPLES, self._put - self._taken)
            if size:
                self._take(to, size)
        frame.type = self._audio
        if size:
            if size < FRAME_SAMPLES:
                memmove(to + 2 * size, self._silence_at, FRAME_BYTES - 2 * size)
            self._sent_tick[slot] = tick
            memmove(self._out_at, to, FRAME_BYTES)
            self._mover.write(frame, self._out, self._out_at, FRAME_BYTES)
        else:
            self._mover.write(frame, self._silence, self._silence_at, FRAME_BYTES)

    def _take(self, to: int, size: int) -> None:
        at = self._taken % QUEUE_SAMPLES
        first = min(size, QUEUE_SAMPLES - at)
        memmove(to, self._queue_at + 2 * at, 2 * first)
        if first < size:
            memmove(to + 2 * first, self._queue_at, 2 * (size - first))
        self._taken += size

    def given(self, frame: Any) -> None:
        """PJSIP has 20 ms of the far end: keep them."""
        if frame.size != FRAME_BYTES or frame.type != self._audio:
            return
        tick = self._ticks.now
        slot = tick & _MASK
        self._mover.read(frame, self._heard_at + slot * FRAME_BYTES, FRAME_BYTES)
        self._heard_tick[slot] = tick

    # Event loop

    def media_frame(self, tick: int) -> MediaFrame:
        """Return both directions of a finished tick; silence where nothing moved."""
        slot = tick & _MASK
        if self._heard_tick[slot] != tick:
            self._heard[slot] = 0
        if self._sent_tick[slot] != tick:
            self._sent[slot] = 0
        if self._waiting:
            self._refill()
        return self._frames[slot]

    def play(self, pcm: Pcm) -> None:
        """Append to the playout queue (copied)."""
        if pcm.dtype != np.int16 or pcm.ndim != 1:
            raise ValueError(
                f"audio must be int16 of shape (samples,), not {pcm.dtype} {pcm.shape}"
            )
        if pcm.size:
            self._waiting.append(np.array(pcm))
            self._refill()

    def _refill(self) -> None:
        """Move what fits into the ring. The media thread sees it only when it is whole."""
        while self._waiting and (room := QUEUE_SAMPLES - (self._put - self._taken)):
            pcm = self._waiting.popleft()
            if pcm.size > room:
                self._waiting.appendleft(pcm[room:])
                pcm = pcm[:room]
            at = self._put % QUEUE_SAMPLES
            first = min(pcm.size, QUEUE_SAMPLES - at)
            self._queue[at : at + first] = pcm[:first]
            self._queue[: pcm.size - first] = pcm[first:]
            self._put += pcm.size

    def queued(self) -> int:
        """Return the samples not yet taken."""
        return self._put - self._taken + sum(pcm.size for pcm in self._waiting)

    def drop(self) -> int:
        """Discard them; return how many they were."""
        waiting = sum(pcm.size for pcm in self._waiting)
        self._waiting.clear()
        with self._lock:
            dropped = self._put - self._taken
            self._put = self._taken
        return dropped + waiting
