# SPDX-License-Identifier: Apache-2.0
"""How long things are kept, from the environment: `TRUNKLINE_HUB_...`."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from cloud_hub.db.partitions import MONTHS_BACK


class JobSettings(BaseSettings):
    """Settings of the periodic work.

    Attributes:
        retention_days: how long calls, with transcripts and recordings, are kept for organizations that do
            not say so themselves (`retention_days` in their settings); None keeps them.
        retention_months: whole months of calls, of all organizations, are dropped when they are older than
            this many; None drops none. Much cheaper than days, and above every organization's wish. The last
            three months are always there, for boxes that come back from long absence.
        quarantine_days: how long rows of boxes that could not be understood are kept.
    """

    model_config = SettingsConfigDict(env_prefix="TRUNKLINE_HUB_", extra="ignore")

    retention_days: int | None = Field(None, ge=1, le=36_500)
    retention_months: int | None = Field(None, ge=MONTHS_BACK, le=1_200)
    quarantine_days: int = Field(365, ge=7, le=36_500)
