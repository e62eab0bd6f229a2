# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on a box itself: messages that are sent again and out of order, and a wrong clock."""

from __future__ import annotations

import random
import time
from collections import deque
from datetime import datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import Any

from appliance.store import changes, store
from appliance.sync import mqtt
from appliance.wire import ids, topics


class Repeating(mqtt.Connection):
    """A connection that holds messages back behind later ones and sends old ones again."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._sent: deque[tuple[str, bytes]] = deque(maxlen=40)
        self._held: tuple[str, bytes] | None = None
        self._chance = random.Random()

    def publish(self, stream: str, payload: bytes) -> bool:
        """Send it, now or after the next; and with it some that were sent before."""
        if stream == topics.PRESENCE:
            return super().publish(stream, payload)
        if self._held is None and self._chance.random() < 0.25:
            self._held = (stream, payload)
            return True
        sent = super().publish(stream, payload)
        self._sent.append((stream, payload))
        if self._held is not None:
            super().publish(*self._held)
            self._sent.append(self._held)
            self._held = None
        again = min(self._chance.randrange(4), len(self._sent))
        for old in self._chance.sample(self._sent, again):
            super().publish(*old)
        return sent


def shift_clock(seconds: float) -> None:
    """Have this process's box live at another time: what it writes and the ids that it makes."""
    off = timedelta(seconds=seconds)

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + off

    for module in (changes, ids, store):
        vars(module)["datetime"] = Shifted
    clock = SimpleNamespace(time_ns=lambda: time.time_ns() + int(seconds * 1e9))
    vars(ids)["time"] = clock
