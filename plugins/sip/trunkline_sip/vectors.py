# SPDX-License-Identifier: GPL-3.0-or-later
"""Move a frame's bytes between PJSIP and our memory without touching them one by one.

pjsua2 hands a frame to Python as a `MediaFrame` whose `buf` is a C++ `vector<unsigned char>`. Through
the binding each byte would become a Python int. But the object tells its address, and a libstdc++ or
libc++ vector begins with a pointer to its first byte, so one `memmove` does it (half of the media
plane's cost at 40 calls). That is an assumption about the build: `mover` tests it on the loaded
library and gives back the slow and certain way where it does not hold.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any, Protocol

import numpy as np

BUF_OFFSET = 8
"""Where `buf` lies in `struct MediaFrame { enum type; vector buf; unsigned size; }` on 64 bit."""

memmove = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(
    ctypes.cast(ctypes.memmove, ctypes.c_void_p).value or 0
)
"""`memmove(to, from, bytes)` that keeps the interpreter lock: giving it up costs more than 640 bytes."""

_pointer_at = ctypes.c_void_p.from_address


class Mover(Protocol):
    """Copies frames in and out. One for all calls."""

    fast: bool

    def read(self, frame: Any, to: int, size: int) -> None:
        """Copy `size` bytes of a received frame to the address `to`. The frame holds that many."""

    def out(self, size: int) -> tuple[Any, int]:
        """Return a reusable vector for outgoing frames, and the address of its bytes."""
        ...

    def write(self, frame: Any, vector: Any, address: int, size: int) -> None:
        """Give `frame` the bytes of `vector` (from `out`), which were filled at `address`."""


class PointerMover:
    """By the vector's own pointer."""

    fast = True

    def __init__(self, pj: Any) -> None:
        self._vector = pj.ByteVector

    def read(self, frame: Any, to: int, size: int) -> None:  # noqa: D102
        memmove(to, _pointer_at(int(frame.this) + BUF_OFFSET).value, size)

    def out(self, size: int) -> tuple[Any, int]:  # noqa: D102
        vector = self._vector(size)
        address = _pointer_at(int(vector.this)).value
        return vector, address or 0

    def write(self, frame: Any, vector: Any, address: int, size: int) -> None:  # noqa: D102
        frame.buf = vector


class SlowMover:
    """Through the binding, byte by byte: right on any build."""

    fast = False

    def __init__(self, pj: Any) -> None:
        self._vector = pj.ByteVector
        self._keep: list[Any] = []

    def read(self, frame: Any, to: int, size: int) -> None:  # noqa: D102
        memmove(to, ctypes.c_char_p(bytes(frame.buf)), size)

    def out(self, size: int) -> tuple[Any, int]:  # noqa: D102
        buffer = np.zeros(size, np.uint8)
        self._keep.append(buffer)
        return buffer, int(buffer.ctypes.data)

    def write(self, frame: Any, vector: Any, address: int, size: int) -> None:  # noqa: D102
        frame.buf = self._vector(ctypes.string_at(address, size))


def mover(pj: Any) -> Mover:
    """Return the fast way if this build allows it, tested on real frames, else the slow one."""
    fast = PointerMover(pj)
    try:
        works = struct.calcsize("P") == 8 and _inside(pj) and _carries(pj, fast)
    except (TypeError, ValueError, AttributeError):
        works = False
    return fast if works else SlowMover(pj)


def _inside(pj: Any) -> bool:
    """Return whether `buf` lies where we think, before any pointer is followed."""
    frame = pj.MediaFrame()
    vector = pj.ByteVector(bytes(range(64)))
    begin, end = (_pointer_at(int(vector.this) + at).value or 0 for at in (0, 8))
    return int(frame.buf.this) - int(frame.this) == BUF_OFFSET and end - begin == 64


def _carries(pj: Any, fast: PointerMover) -> bool:
    """Return whether bytes written by one side are read by the other, both ways."""
    pattern = bytes((7 * i + 3) % 256 for i in range(640))
    source = np.frombuffer(pattern, np.uint8).copy()
    vector, address = fast.out(640)
    memmove(address, int(source.ctypes.data), 640)
    frame = pj.MediaFrame()
    fast.write(frame, vector, address, 640)
    back = np.zeros(640, np.uint8)
    fast.read(frame, int(back.ctypes.data), 640)
    return bytes(frame.buf) == pattern and back.tobytes() == pattern
