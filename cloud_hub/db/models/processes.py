# SPDX-License-Identifier: Apache-2.0
"""What the hub's processes agree on. These belong to no tenant."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.db.models.base import Base


class JobRun(Base):
    """A periodic job: when it is due, who is at it, and what it came to last.

    Attributes:
        leased_until: whoever works on it has it until then; after that another may take it.
        result: counts of the last run that ended well. error: of the last run, "" when it ended well.
        failures: runs that failed since the last that did not.
    """

    __tablename__ = "job_runs"

    name: Mapped[str] = mapped_column(primary_key=True)
    next_at: Mapped[datetime] = mapped_column(server_default=func.now())
    leased_until: Mapped[datetime | None]
    worker: Mapped[str] = mapped_column(default="", server_default="")
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    result: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    error: Mapped[str] = mapped_column(default="", server_default="")
    failures: Mapped[int] = mapped_column(default=0, server_default="0")


class RateLimit(Base):
    """A bucket of tokens; the table is not logged, so a crash of the server empties it.

    Attributes:
        name: SHA-256 of whom it bounds.
        full_at: when the bucket is full again.
    """

    __tablename__ = "rate_limits"

    name: Mapped[bytes] = mapped_column(primary_key=True)
    full_at: Mapped[datetime]
