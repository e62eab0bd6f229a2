# SPDX-License-Identifier: Apache-2.0
"""The link: one thread that connects, reads the outbox from the store, sends, and notes what the hub has.

Nothing that a call does ever waits for it, and it asks nothing of the event loop: facts reach it through the
store, and the store tells it that there are new ones.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog

from appliance.store import OutboxPart, StoreError, Upkeep
from appliance.sync.mqtt import Connection, Endpoint, Events
from appliance.sync.outbox import Outbox
from appliance.sync.sender import Limits, Want
from appliance.wire import Ack, Batch, Refusal, WireError, encode_batch, topics
from appliance.wire.link import BATCH_BYTES

RECONNECT_S = 1.0
RECONNECT_MAX_S = 120.0
"""Waits between attempts double from the first to the second, with jitter: a thousand boxes that lost
their hub at one moment must not come back at one moment."""

READY_WITHIN_S = 30.0
"""For the broker to take connection and subscription."""

NOTE_AFTER_S = 1.0
"""How long an acknowledgement waits for the next before it is noted: each note is a commit."""

TIDY_EVERY_S = 3600.0
SIZE_EVERY_S = 60.0
TIDY_STEPS = 20
"""Steps of upkeep at a time, between them what is due is sent."""

STORE_RETRY_S = 5.0
QUIET_S = 0.1

_log = structlog.get_logger(__name__)


class LinkStore(Protocol):
    """The part of the store that is needed here."""

    def listen_outbox(self, listener: Callable[[str, str, int], None]) -> None: ...  # noqa: D102
    def outbox_parts(self, box_id: str | None = None) -> list[OutboxPart]: ...  # noqa: D102
    def outbox_rows(  # noqa: D102
        self, stream: str, epoch: str, first: int, *, most: int, max_bytes: int
    ) -> list[tuple[int, str, str, str]]: ...
    def acknowledged(self, stream: str, epoch: str, seq: int) -> None: ...  # noqa: D102
    def tidy_outbox(self, upkeep: Upkeep) -> bool: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class LinkState:
    """How the link is.

    Attributes:
        connected: to the broker.
        fault: what is wrong, for a person, or "".
        waiting_rows: facts that the hub has not acknowledged.
        waiting_bytes: the same, about.
    """

    connected: bool
    fault: str
    waiting_rows: int
    waiting_bytes: int


class HubLink:
    """Moves the outbox to the hub. `start`, then `close`; both from any thread.

    Args:
        store: where the outbox is.
        endpoint: where the hub's broker is.
        handlers: what to do with what the hub sends, by the topic's last level (`desired`, `command`);
            called on the link's thread, so they must be quick.
        limits: of sending.
        upkeep: of the outbox.
        software: name and version, for the hub's list of boxes.
    """

    def __init__(
        self,
        store: LinkStore,
        endpoint: Endpoint,
        *,
        handlers: Mapping[str, Callable[[bytes], None]] | None = None,
        limits: Limits | None = None,
        upkeep: Upkeep | None = None,
        software: str = "",
    ) -> None:
        self._store = store
        self._endpoint = endpoint
        self._handlers = dict(handlers or {})
        self._limits = limits or Limits()
        self._upkeep = upkeep or Upkeep()
        self._software = software
        self._inbox: queue.SimpleQueue[Callable[[float], None]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._outbox = Outbox((), self._limits, random.random)
        self._loaded = False
        self._connection: Connection | None = None
        self._ready = False
        self._trouble = ""
        self._crowded = ""
        self._attempts = 0
        self._connect_at = 0.0
        self._ready_by = 0.0
        self._acks: dict[tuple[str, str], int] = {}
        self._note_at = 0.0
        self._tidy_at = 0.0
        self._size_at = 0.0
        self._quiet_until = 0.0
        self._thread = threading.Thread(target=self._run, name="hub link", daemon=True)

    def start(self) -> None:
        """Begin. Returns at once, whether there is a hub or not."""
        self._store.listen_outbox(
            lambda *wrote: self._inbox.put(lambda _: self._outbox.wrote(*wrote))
        )
        self._thread.start()

    def close(self) -> None:
        """End the connection and the thread. What was not sent stays in the store. Blocks; idempotent."""
        self._stop.set()
        self._inbox.put(lambda _: None)
        if self._thread.is_alive():
            self._thread.join()

    def state(self) -> LinkState:
        """Return how the link is.

        Raises:
            StoreError: the store cannot be read.
        """
        parts = self._parts()
        rows = sum(part.last - part.acked for part in parts)
        kept = sum(part.last - part.floor + 1 for part in parts)
        size = sum(part.bytes for part in parts)
        fault = self._trouble or self._crowded or self._outbox.fault
        return LinkState(self._ready, fault, rows, size * rows // kept if kept else 0)

    def _parts(self) -> list[OutboxPart]:
        return self._store.outbox_parts(self._endpoint.box_id)

    # -- on the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            now = time.monotonic()
            try:
                if not self._loaded:
                    self._load(now)
                self._work(now)
            except StoreError as error:
                self._quiet_until = now + STORE_RETRY_S
                _log.error("the outbox cannot be read", error=str(error))
            except Exception:  # the link must outlive any one message
                self._quiet_until = now + STORE_RETRY_S
                _log.exception("the hub link stumbled")
        if self._connection is not None:
            self._connection.close()
        self._note_acks()

    def _load(self, now: float) -> None:
        """Begin from what is on the disk."""
        self._outbox = Outbox(self._parts(), self._limits, random.random)
        self._loaded = True
        if self._ready:
            self._outbox.connected(now)

    def _work(self, now: float) -> None:
        for event in self._events(now):
            event(now)
        now = time.monotonic()
        if self._stop.is_set() or now < self._quiet_until:
            return
        if self._connection is None and now >= self._connect_at:
            self._connect(now)
        if self._connection is not None and not self._ready and now >= self._ready_by:
            self._disconnect(now, "the hub's broker does not answer")
        self._send()
        if self._acks and now >= self._note_at:
            self._note_acks()
        self._tidy(now)

    def _events(self, now: float) -> Iterable[Callable[[float], None]]:
        """Wait for what happens next, at most until something is due."""
        times = [self._size_at, self._tidy_at]
        if not self._ready:
            times.append(self._connect_at if self._connection is None else self._ready_by)
        if self._acks:
            times.append(self._note_at)
        wake = self._outbox.wake_at(now)
        if wake is not None:
            times.append(wake)
        wait = max(min(times), self._quiet_until) - now
        events = []
        try:
            if wait > 0:
                events.append(self._inbox.get(timeout=wait))
            while True:
                events.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        return events

    # -- the connection ----------------------------------------------------------------------

    def _connect(self, now: float) -> None:
        connection: list[Connection] = []

        def post(work: Callable[[float], None]) -> None:
            """Do `work` on the link's thread, if it still concerns the connection that there is."""
            self._inbox.put(lambda now: work(now) if [self._connection] == connection else None)

        events = Events(
            ready=lambda: post(self._on_ready),
            ended=lambda why: post(lambda now: self._disconnect(now, why)),
            message=lambda what, payload: post(lambda now: self._on_message(what, payload, now)),
        )
        try:
            made = Connection(self._endpoint, events, self._software)
            connection.append(made)
            self._connection = made
            self._ready_by = now + READY_WITHIN_S
            made.open()
        except (OSError, ValueError) as error:
            where = f"{self._endpoint.host}:{self._endpoint.port}"
            why = str(error) or type(error).__name__
            self._disconnect(now, f"the hub's broker at {where} cannot be reached: {why}")

    def _on_ready(self, now: float) -> None:
        _log.info("hub connected", host=self._endpoint.host, port=self._endpoint.port)
        self._ready, self._attempts, self._trouble = True, 0, ""
        self._outbox.connected(now)

    def _disconnect(self, now: float, why: str) -> None:
        if why and why != self._trouble:
            _log.warning("hub not connected; facts wait on this box", reason=why)
        self._trouble, self._ready = why, False
        self._outbox.disconnected()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        wait = min(RECONNECT_S * 2**self._attempts, RECONNECT_MAX_S)
        self._attempts = min(self._attempts + 1, 20)
        self._connect_at = now + wait * (0.5 + random.random() / 2)  # noqa: S311 - jitter

    # -- what the hub sends ------------------------------------------------------------------

    def _on_message(self, what: str, payload: bytes, now: float) -> None:
        try:
            if what == topics.ACK:
                self._on_ack(Ack.decode(payload), now)
            elif what == topics.REFUSAL:
                refusal = Refusal.decode(payload)
                _log.error("the hub refuses what the box sends", why=refusal.detail)
                self._outbox.refused(refusal, now)
            elif what in self._handlers:
                self._handlers[what](payload)
        except WireError as error:
            _log.error("the hub sent what cannot be read", what=what, error=str(error))

    def _on_ack(self, ack: Ack, now: float) -> None:
        if not self._outbox.acknowledged(ack, now):
            return
        key = (ack.stream, ack.epoch)
        if not self._acks:
            self._note_at = now + NOTE_AFTER_S
        less = ack.seq < self._acks.get(key, 0)
        self._acks[key] = ack.seq
        if less:
            self._note_acks()

    def _note_acks(self) -> None:
        """Note on the disk what the hub has. Not noted in a crash, it is asked again."""
        for (stream, epoch), seq in self._acks.items():
            self._store.acknowledged(stream, epoch, seq)
        self._acks.clear()

    # -- what the box sends ------------------------------------------------------------------

    def _send(self) -> None:
        while self._connection is not None and self._ready and not self._stop.is_set():
            now = time.monotonic()
            want = self._outbox.next(now)
            if want is None:
                return
            rows: list[tuple[int, str, str, str]] = []
            if want.most:
                rows = self._store.outbox_rows(
                    want.stream, want.epoch, want.first, most=want.most, max_bytes=BATCH_BYTES
                )
                if not rows or rows[0][0] != want.first:  # deleted, or a damaged file was set aside
                    self._loaded = False
                    self._quiet_until = now + QUIET_S
                    return
            if not self._connection.publish(want.stream, _encode(want, rows)):
                self._quiet_until = now + QUIET_S  # the connection is about to tell that it ended
                return
            self._outbox.sent(want, len(rows), now)

    # -- upkeep ------------------------------------------------------------------------------

    def _tidy(self, now: float) -> None:
        if now >= self._size_at:
            self._size_at = now + SIZE_EVERY_S
            self._look_at_size(now)
        if now < self._tidy_at:
            return
        self._note_acks()
        more = True
        for _ in range(TIDY_STEPS):
            more = self._store.tidy_outbox(self._upkeep)
            if not more:
                break
        self._tidy_at = time.monotonic() + (0.05 if more else TIDY_EVERY_S)
        self._outbox.refresh(self._parts())

    def _look_at_size(self, now: float) -> None:
        size = sum(part.bytes for part in self._parts())
        if size <= self._upkeep.max_bytes:
            self._crowded = ""
            return
        self._tidy_at = min(self._tidy_at, now)
        crowded = (
            f"facts for the hub take {size // 2**20} MiB, more than the bound: events of calls are given up, "
            "oldest first; calls, transcripts and usage are kept"
        )
        if not self._crowded:
            _log.error(crowded, remedy="connect the box to its hub, or raise hub.outbox_max_mib")
        self._crowded = crowded


def upkeep(keep_days: int, max_mib: int) -> Upkeep:
    """Return the upkeep that the settings ask for."""
    return Upkeep(timedelta(days=keep_days), max_mib * 2**20)


def _encode(want: Want, rows: list[tuple[int, str, str, str]]) -> bytes:
    head = Batch(
        epoch=want.epoch,
        stream=want.stream,
        first=want.first,
        floor=want.floor,
        before=want.before,
    )
    return encode_batch(head, rows)
