# SPDX-License-Identifier: Apache-2.0
"""The hub's rule, as a pure function: which rows of a batch to apply, and what to acknowledge.

Whoever applies holds a lock on (box, stream), looks up the two positions, calls `judge`, writes the rows and
the new position in ONE transaction, and sends the acknowledgement after its commit.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.wire.link import Ack, Batch, Row


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a batch.

    Attributes:
        rows: to be applied now, in this order; none for duplicates, gaps and questions.
        ack: to be sent once the transaction is committed (also when `rows` is empty).
        lost: numbers (from, to) that the box gave up and that are skipped now; to be recorded.
    """

    rows: tuple[Row, ...]
    ack: Ack
    lost: tuple[int, int] | None = None

    @property
    def moves(self) -> bool:
        """Whether the position of (epoch, stream) becomes `ack.seq`."""
        return bool(self.rows) or self.lost is not None


def judge(batch: Batch, applied: int, before_applied: int = 0) -> Verdict:
    """Decide about a batch.

    Args:
        batch: as received.
        applied: the last number applied of (box, batch.epoch, batch.stream); 0 when there is none.
        before_applied: the same of `batch.before.epoch`; 0 when there is none.
    """
    if batch.before is not None and applied == 0 and before_applied < batch.before.last:
        ack = Ack(epoch=batch.before.epoch, stream=batch.stream, seq=before_applied)
        return Verdict((), ack)
    lost = None
    if applied + 1 < batch.floor == batch.first:
        lost = (applied + 1, batch.floor - 1)
        applied = batch.floor - 1
    rows = batch.rows[applied + 1 - batch.first :] if batch.first <= applied + 1 else ()
    ack = Ack(epoch=batch.epoch, stream=batch.stream, seq=applied + len(rows))
    return Verdict(rows, ack, lost)
