# SPDX-License-Identifier: Apache-2.0
"""Where each part of the hub reaches the database: the operator's PostgreSQL, or the embedded one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cloud_hub.db import embedded, migrate
from cloud_hub.settings import DatabaseSettings

Part = Literal["owner", "api", "ingest", "jobs"]

FOLDER = "postgres"
"""Of the embedded server, in the hub's data folder."""


class AddressMissingError(ValueError):
    """An external database is set, but not for this part of the hub."""


@dataclass(frozen=True, slots=True)
class Database:
    """The hub's database.

    Attributes:
        urls: by part; of an external database only those that were given.
        cluster: the embedded server; None when the database is the operator's.
    """

    urls: Mapping[Part, str]
    cluster: embedded.Cluster | None

    def url(self, part: Part) -> str:
        """Where this part connects.

        Raises:
            AddressMissingError: with the variable to set.
        """
        try:
            return self.urls[part]
        except KeyError:
            variable = f"TRUNKLINE_HUB_DATABASE_{part.upper()}_URL"
            raise AddressMissingError(
                f"an external database is set, but not for {part}: set {variable} to"
                f" postgresql://trunkline_{part}:PASSWORD@HOST/DATABASE"
            ) from None

    def migrate(self) -> None:
        """Bring it to this software's revision; an embedded one is made when it is missing."""
        if self.cluster is not None:
            embedded.prepare(self.cluster)
        else:
            migrate.upgrade(self.url("owner"))

    def stop(self) -> None:
        """Stop the embedded server if this process started it."""
        if self.cluster is not None and self.cluster.started:
            self.cluster.stop()


def open_database(settings: DatabaseSettings) -> Database:
    """The database of these settings; an embedded server is started. Blocks for a second or more.

    Raises:
        EmbeddedPostgresError: the embedded server does not come up.
    """
    given = {
        "owner": settings.database_owner_url,
        "api": settings.database_api_url,
        "ingest": settings.database_ingest_url,
        "jobs": settings.database_jobs_url,
    }
    parts: tuple[Part, ...] = ("owner", "api", "ingest", "jobs")
    external = {part: url.get_secret_value() for part in parts if (url := given[part]) is not None}
    if external:
        return Database(external, None)
    cluster = embedded.start(embedded_folder(settings))
    return Database({part: cluster.dsn(f"trunkline_{part}") for part in parts}, cluster)


def embedded_folder(settings: DatabaseSettings) -> Path:
    """Where the embedded server keeps its data."""
    return settings.data_folder / FOLDER
