# SPDX-License-Identifier: Apache-2.0
"""Rows of the wire sorted into what is to be written to which table. No I/O.

A row that is not understood, or whose data no table can take, is kept whole in `quarantined_rows`:
it never stops its stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from appliance.wire import (
    KINDS,
    Booked,
    CallAnswered,
    CallBegan,
    CallEnded,
    CallEvent,
    CallRecording,
    CallTurn,
    CommandResult,
    Health,
    Reported,
    Row,
    UsageFact,
    understand,
)
from cloud_hub.db.ids import derived

MAX_BIGINT = 2**63 - 1
ORDER = (
    "calls",
    "answered",
    "events",
    "turns",
    "usage",
    "recordings",
    "ended",
    "bookings",
    "commands",
    "reported",
    "health",
    "quarantined",
)
_STATUS = {"done": "done", "failed": "failed", "refused": "failed", "expired": "expired"}


class ForeignCallError(Exception):
    """A box speaks of a call that another box has."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row came from; never what it says of itself."""

    box_id: UUID
    stream: str
    epoch: UUID
    received_at: datetime


@dataclass(slots=True)
class Writes:
    """Records for each table, ready to become JSON; dictionaries where only the last one counts."""

    calls: dict[str, dict[str, Any]] = field(default_factory=dict)
    answered: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    recordings: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)
    usage: list[dict[str, Any]] = field(default_factory=list)
    bookings: list[dict[str, Any]] = field(default_factory=list)
    commands: dict[str, dict[str, Any]] = field(default_factory=dict)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    reported: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    health: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    mentioned: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    """Calls that rows belong to, each as it is entered when its beginning never came."""
    foreign: frozenset[UUID] = frozenset()
    """Calls that are entered already, and not for the box that mentions them."""
    _ids: dict[tuple[UUID, str], str] = field(default_factory=dict)
    """Calls that were looked at here already: most rows speak of the same as the one before."""

    def add(self, origin: Origin, row: Row) -> None:
        """Sort one row in."""
        fact = understand(row)
        if row.kind == "dropped":
            self.quarantine(origin, row, "lost")
        elif fact is None:
            self.quarantine(origin, row, "malformed" if row.kind in KINDS else "unknown")
        else:
            try:
                self._sort(origin, row, fact)
            except ForeignCallError:
                self.quarantine(origin, row, "malformed")

    def quarantine(self, origin: Origin, row: Row, reason: str) -> None:
        """Keep a row whole, for people and for a later version of this hub."""
        self.quarantined.append(
            {
                "appliance_id": str(origin.box_id),
                "stream": origin.stream,
                "epoch": str(origin.epoch),
                "seq": row.seq,
                "kind": str(storable(row.kind)),
                "at": moment(row.at, origin.received_at),
                "data": storable(row.data),
                "reason": reason,
            }
        )

    def lost(self, origin: Origin, first: int, last: int) -> None:
        """Note numbers that the box gave up before they could be sent."""
        self.quarantined.append(
            {
                "appliance_id": str(origin.box_id),
                "stream": origin.stream,
                "epoch": str(origin.epoch),
                "seq": last,
                "kind": "lost",
                "at": origin.received_at.isoformat(),
                "data": {"from": first, "to": last},
                "reason": "lost",
            }
        )

    def records(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yield what there is to write, by name, in the order in which records refer to each other."""
        for name in ORDER:
            found = getattr(self, name)
            records = list(found.values()) if isinstance(found, dict) else found
            if records:
                yield name, records

    def _sort(self, origin: Origin, row: Row, fact: Any) -> None:
        match fact:
            case CallBegan():
                self._began(origin, row, fact)
            case CallAnswered():
                at = moment(fact.answered_at, origin.received_at)
                call_id = self._call(origin, row, fact)
                self.answered[call_id] = {"id": call_id, "at": at}
            case CallEnded():
                self._ended(origin, row, fact)
            case CallEvent():
                call_id = self._call(origin, row, fact)
                self.events.append({**fact.model_dump(), "call_id": call_id})
            case CallTurn():
                self._turn(origin, row, fact)
            case CallRecording():
                call_id = self._call(origin, row, fact)
                self.recordings[call_id] = {"id": call_id, "uri": fact.uri}
            case UsageFact():
                self._usage(origin, row, fact)
            case Booked():
                self._booking(origin, fact)
            case Reported():
                self.reported[origin.box_id] = self._reported(origin, row, fact)
            case Health():
                self.health[origin.box_id] = self._health(origin, row, fact)
            case CommandResult():
                self._command(origin, row, fact)
            case _:
                self.quarantine(origin, row, "kept")

    def _call(self, origin: Origin, row: Row, fact: Any) -> str:
        known = self._ids.get((origin.box_id, fact.call_id))
        if known is not None:
            return known
        call_id, box_id = identifier(origin.box_id, fact.call_id), str(origin.box_id)
        entry = self.mentioned.setdefault(
            call_id,
            {
                "id": str(call_id),
                "appliance_id": box_id,
                "started_at": moment(row.at, origin.received_at),
            },
        )
        if call_id in self.foreign or entry["appliance_id"] != box_id:
            raise ForeignCallError
        self._ids[origin.box_id, fact.call_id] = str(call_id)
        return str(call_id)

    def _began(self, origin: Origin, row: Row, fact: CallBegan) -> None:
        call_id = self._call(origin, row, fact)
        self.calls[call_id] = {
            **fact.model_dump(include={"transport", "trunk", "direction", "caller", "called"}),
            "id": call_id,
            "appliance_id": str(origin.box_id),
            "agent_name": fact.agent,
            "agent_version": fact.agent_version,
            "agent_version_id": _uuid(fact.agent_version_id),
            "protocol_id": fact.protocol_id,
            "started_at": moment(fact.started_at, origin.received_at),
        }

    def _ended(self, origin: Origin, row: Row, fact: CallEnded) -> None:
        at = moment(fact.ended_at, origin.received_at)
        call_id = self._call(origin, row, fact)
        self.ended[call_id] = {
            "id": call_id,
            "at": at,
            "cause": fact.cause,
            "recorded": fact.recording,
        }

    def _turn(self, origin: Origin, row: Row, fact: CallTurn) -> None:
        self.turns.append(
            {
                "call_id": self._call(origin, row, fact),
                "seq": fact.n,
                "role": fact.who,
                "text": fact.text,
                "started_ms": fact.t_ms,
                "interrupted": fact.interrupted,
                "latency_ms": fact.latency_ms,
                "latency_parts": fact.latency_parts,
            }
        )

    def _usage(self, origin: Origin, row: Row, fact: UsageFact) -> None:
        call_id = self._call(origin, row, fact)
        parts = ("usage", str(origin.box_id), str(origin.epoch), origin.stream, str(row.seq))
        self.usage.append(
            {
                **fact.model_dump(include={"provider", "kind", "unit", "quantity"}),
                "id": str(derived(UUID(call_id), *parts)),
                "appliance_id": str(origin.box_id),
                "call_id": call_id,
                "occurred_at": moment(row.at, origin.received_at),
            }
        )

    def _booking(self, origin: Origin, fact: Booked) -> None:
        self.bookings.append(
            {
                **fact.model_dump(include={"idempotency_key", "calendar", "date", "time", "name"}),
                "appliance_id": str(origin.box_id),
                "call_id": str(identifier(origin.box_id, fact.call_id)) if fact.call_id else None,
                "created_at": moment(fact.created_at, origin.received_at),
            }
        )

    @staticmethod
    def _reported(origin: Origin, row: Row, fact: Reported) -> dict[str, Any]:
        return {
            "appliance_id": str(origin.box_id),
            "version": fact.version,
            "status": fact.status,
            "document": fact.state,
            "drift": fact.drift,
            "errors": list(fact.errors),
            "reported_at": moment(row.at, origin.received_at),
        }

    @staticmethod
    def _health(origin: Origin, row: Row, fact: Health) -> dict[str, Any]:
        return {
            "appliance_id": str(origin.box_id),
            "health": fact.model_dump(exclude_none=True),
            "skew": fact.clock_skew_ms,
            "at": moment(row.at, origin.received_at),
        }

    def _command(self, origin: Origin, row: Row, fact: CommandResult) -> None:
        try:
            command_id = UUID(fact.id)
        except ValueError:
            self.quarantine(origin, row, "malformed")
            return
        self.commands[str(command_id)] = {
            "id": str(command_id),
            "appliance_id": str(origin.box_id),
            "status": _STATUS[fact.status],
            "result": fact.model_dump(exclude={"id"}),
        }


def identifier(box_id: UUID, call_id: str) -> UUID:
    """Return a call's id; one that is no UUID gets one that is its own in this box."""
    try:
        return UUID(call_id)
    except ValueError:
        return derived(box_id, "call", str(storable(call_id)))


def _uuid(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None


def moment(text: str, otherwise: datetime) -> str:
    """Return a time as PostgreSQL reads it; what is no time becomes `otherwise`."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        return otherwise.isoformat()


def storable(value: Any) -> Any:
    """Return a value as jsonb can hold it: no NUL, no half of a surrogate pair, no NaN."""
    match value:
        case str():
            return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
        case float():
            return value if value - value == 0 else str(value)
        case Mapping():
            return {str(storable(str(key))): storable(each) for key, each in value.items()}
        case list() | tuple():
            return [storable(each) for each in value]
        case _:
            return value


def as_json(records: Iterable[Mapping[str, Any]]) -> str:
    """Return records as the text that `jsonb_to_recordset` reads."""
    return json.dumps(list(records), ensure_ascii=False)
