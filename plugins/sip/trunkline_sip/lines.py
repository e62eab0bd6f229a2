# SPDX-License-Identifier: GPL-3.0-or-later
"""The pool of lines and their places in PJSIP's bridge. Lives on the SIP thread.

Ports are made once and used again: PJSIP takes a port out of its bridge some ticks after it was
asked, and a call costs no allocation.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import structlog

from trunkline_sip import directors
from trunkline_sip.media import Line, Ticks
from trunkline_sip.vectors import mover

log = structlog.get_logger("trunkline.sip")

REST_TICKS = 5
"""A line that was given back is not used again before the media thread surely let go of it."""

SPARE_SLOTS = 32
"""For lines at rest. A line that found no slot below the tail's would be heard one tick late."""


class Lines:
    """Makes, lends and connects lines."""

    def __init__(self, pj: Any, ticks: Ticks, calls: int) -> None:
        self._pj = pj
        self._ticks = ticks
        self._mover = mover(pj)
        self._free: deque[tuple[int, Line]] = deque()
        self._all: list[Line] = []
        self._format = directors.audio_format()
        self._tail = self._clock(2 * calls + SPARE_SLOTS)
        if not self._mover.fast:
            log.warning("sip_media_slow_path", reason="unknown memory layout of this pjsua2 build")

    def _clock(self, below: int) -> Any:
        """Put the tail behind every slot that calls and their lines will use."""
        plugs = [directors.Plug() for _ in range(below)]
        for plug in plugs:
            plug.createPort("plug", self._format)
        tail = directors.TailPort(self._ticks)
        tail.createPort("tail", self._format)
        tail.startTransmit(tail)
        for plug in plugs:
            self._pj.AudioMediaPort.__swig_destroy__(plug)
        return tail

    def take(self) -> Line:
        """Lend a line."""
        if self._free and self._ticks.now - self._free[0][0] >= REST_TICKS:
            return self._free.popleft()[1]
        line = Line(self._mover, self._ticks, self._pj.PJMEDIA_FRAME_TYPE_AUDIO)
        port = directors.LinePort(line)
        port.createPort("line", self._format)
        line.port = port
        self._all.append(line)
        return line

    def connect(self, line: Line, bridged: Any) -> None:
        """Join a line with a call's audio both ways.

        They need no parting: PJSIP takes the call's port out of the bridge when its stream stops, at
        hold and at the end, and connections go with it.
        """
        bridged.startTransmit(line.port)
        line.port.startTransmit(bridged)

    def give_back(self, line: Line) -> None:
        """The call is over."""
        self._free.append((self._ticks.now, line))

    def close(self) -> None:
        """Delete the ports, before the library ends."""
        for line in self._all:
            self._pj.AudioMediaPort.__swig_destroy__(line.port)
            line.port = None
        self._pj.AudioMediaPort.__swig_destroy__(self._tail)
