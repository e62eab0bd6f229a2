# SPDX-License-Identifier: Apache-2.0
"""The messages of the link itself: batches of facts, their acknowledgement, presence, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Self

from pydantic import Field, model_validator

from appliance.wire.message import Message, Part, Time, Uuid, compress

MAX_BATCH_ROWS = 1000
BATCH_BYTES = 64 * 1024
"""What a box aims at; a single row may be larger."""

MAX_ROW_BYTES = 2**20
"""The most that a row's data may take; larger facts are replaced by a row that says so."""

DROPPED = "dropped"
"""Kind of a row whose content the box gave up for want of room; its data says what it was."""


class Row(Part):
    """One fact.

    Attributes:
        seq: its number in (box, epoch, stream): gapless from 1.
        kind: what it is: `call.began`, ... (`appliance.wire.facts`). Unknown kinds are kept whole.
        at: the box's clock when it was written down. Nothing is decided by it.
        data: what belongs to the kind.
    """

    seq: int = Field(ge=1)
    kind: str = Field(min_length=1, max_length=64)
    at: Time
    data: dict[str, Any]


class Before(Part):
    """The epoch that came before in the same stream of the same box, and its last number."""

    epoch: Uuid
    last: int = Field(ge=1)


class Batch(Message):
    """Rows of one stream, in order; with no rows it asks how far the hub is.

    Attributes:
        epoch: one life of the box's program: a new one begins whenever it starts, so no number is ever given
            twice, whatever backup the box was restored from.
        first: number of the first row; with no rows the number that would come next.
        floor: the lowest number of this epoch that the box still has. What is below and was never
            applied is gone for good; the hub notes the loss and goes on at `floor`.
        before: the epoch before this one, as long as the box still has it: the hub applies nothing of
            this epoch until that one is whole.
    """

    epoch: Uuid
    stream: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    first: int = Field(ge=1)
    floor: int = Field(1, ge=1)
    before: Before | None = None
    rows: tuple[Row, ...] = Field((), max_length=MAX_BATCH_ROWS)

    @model_validator(mode="after")
    def _rows_are_consecutive(self) -> Self:
        for number, row in enumerate(self.rows, start=self.first):
            if row.seq != number:
                raise ValueError(f"row {row.seq} stands where {number} must")
        return self


class Ack(Message):
    """Everything of (epoch, stream) up to and including `seq` is committed at the hub; 0 is nothing.

    Attributes:
        pause_ms: the box sends no batch for so long: the hub has too much to do.
    """

    epoch: Uuid
    stream: str
    seq: int = Field(ge=0)
    pause_ms: int = Field(0, ge=0, le=3_600_000)


class Refusal(Message):
    """The hub cannot read what the box sends, and says why; nothing was lost, the box keeps it.

    Attributes:
        code: `version` (see `supported`), `malformed`, or `unknown_box`.
        stream: which stream, or "".
        supported: major versions that the hub reads.
    """

    code: str
    stream: str = ""
    detail: str = ""
    supported: tuple[int, ...] = ()


class Presence(Message):
    """Published when the box connects; its last will is the same with `online` false.

    A will whose `session` is not the box's last one is stale and ignored.
    """

    session: Uuid
    online: bool
    at: Time
    software: str = ""


def encode_batch(head: Batch, rows: Iterable[tuple[int, str, str, str]]) -> bytes:
    """Return the bytes of `head` with rows whose data is JSON text already, without parsing it again.

    Args:
        head: the batch without rows.
        rows: (seq, kind, at, data as JSON text), consecutive from `head.first`.
    """
    opened = head.model_dump_json(exclude={"rows"}, exclude_none=True)[:-1]
    body = ",".join(
        f'{{"seq":{seq},"kind":{json.dumps(kind)},"at":"{at}","data":{data}}}'
        for seq, kind, at, data in rows
    )
    return compress(f'{opened},"rows":[{body}]}}'.encode())
