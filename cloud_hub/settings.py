# SPDX-License-Identifier: Apache-2.0
"""What an operator can set, from the environment: `TRUNKLINE_HUB_...`."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class DatabaseSettings(BaseSettings):
    """Where the hub's data is.

    Attributes:
        data_folder: of the embedded PostgreSQL, used while no address is given.
        database_owner_url: `postgresql://trunkline_owner:...@host/trunkline`, for migrations.
        database_api_url: the same database as `trunkline_api`.
        database_ingest_url: the same as `trunkline_ingest`.
        database_jobs_url: the same as `trunkline_jobs`.
    """

    model_config = SettingsConfigDict(env_prefix="TRUNKLINE_HUB_", extra="ignore")

    data_folder: Path = Path("var/hub")
    database_owner_url: SecretStr | None = None
    database_api_url: SecretStr | None = None
    database_ingest_url: SecretStr | None = None
    database_jobs_url: SecretStr | None = None
