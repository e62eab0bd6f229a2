# SPDX-License-Identifier: Apache-2.0
"""All streams of a box together: the more urgent one goes first. No I/O; see `sender`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from appliance.sync.sender import Kept, Limits, Sender, Want
from appliance.wire.link import Ack, Refusal
from appliance.wire.topics import STREAMS


class KeptPart(Kept, Protocol):
    """What of one epoch of one stream is on the disk."""

    @property
    def stream(self) -> str: ...  # noqa: D102


class Outbox:
    """Decides what the box sends next.

    Args:
        kept: what is on the disk, oldest epoch first.
        limits: the knobs.
        random: uniform in [0, 1), for the jitter.
        streams: the most urgent first.
    """

    def __init__(
        self,
        kept: Iterable[KeptPart],
        limits: Limits,
        random: Callable[[], float],
        streams: Sequence[str] = STREAMS,
    ) -> None:
        parts = list(kept)
        self._senders = {
            name: Sender(name, [one for one in parts if one.stream == name], limits, random)
            for name in streams
        }

    @property
    def fault(self) -> str:
        """Why the hub does not take what we send, or ""."""
        return next((one.fault for one in self._senders.values() if one.fault), "")

    def connected(self, now: float) -> None:
        """The broker is there."""
        for sender in self._senders.values():
            sender.connected(now)

    def disconnected(self) -> None:
        """The broker is gone."""
        for sender in self._senders.values():
            sender.disconnected()

    def wrote(self, stream: str, epoch: str, last: int) -> None:
        """Rows up to `last` are on the disk."""
        if stream in self._senders:
            self._senders[stream].wrote(epoch, last)

    def refresh(self, kept: Iterable[KeptPart]) -> None:
        """Old rows were deleted: `kept` is what is still there."""
        parts = list(kept)
        for name, sender in self._senders.items():
            sender.refresh([one for one in parts if one.stream == name])

    def acknowledged(self, ack: Ack, now: float) -> bool:
        """The hub has told how much it has; return whether that is to be noted on the disk."""
        sender = self._senders.get(ack.stream)
        return sender is not None and sender.acknowledged(ack, now)

    def refused(self, refusal: Refusal, now: float) -> None:
        """The hub cannot read what we send."""
        why = f"the hub refuses what the box sends: {refusal.detail or refusal.code}"
        for name, sender in self._senders.items():
            if refusal.stream in {"", name}:
                sender.refused(why, now)

    def next(self, now: float) -> Want | None:
        """Return what to send now, or None."""
        for sender in self._senders.values():
            want = sender.next(now)
            if want is not None:
                return want
        return None

    def sent(self, want: Want, rows: int, now: float) -> None:
        """`rows` rows of `want` were given to the broker."""
        self._senders[want.stream].sent(want, rows, now)

    def wake_at(self, now: float) -> float | None:
        """Return when to call `next` again if nothing happens before; None is never."""
        times = [sender.wake_at(now) for sender in self._senders.values()]
        return min((at for at in times if at is not None), default=None)
