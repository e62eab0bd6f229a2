# SPDX-License-Identifier: Apache-2.0
"""Which storage recordings go to, from the environment: `TRUNKLINE_HUB_RECORDINGS_S3_...`, or a folder."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from cloud_hub.fleet.recordings import RecordingFiles, RecordingStore

FOLDER = "recordings"
"""In the hub's data folder."""
_PREFIX = "TRUNKLINE_HUB_RECORDINGS_S3_"


class StorageSettings(BaseSettings):
    """Where recordings are kept.

    Attributes:
        bucket: of the S3-compatible storage; "" keeps recordings in the hub's data folder.
        endpoint: `https://host:port` of the storage; "" is AWS itself.
        region: that requests are signed for.
        access_key, secret_key: of who may read, write, list and delete in the bucket; without them boto3
            looks where it always does (environment, files, the machine's role).
        prefix: before every object's name.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore")

    bucket: str = ""
    endpoint: str = Field("", pattern=r"^(https?://\S+)?$")
    region: str = "us-east-1"
    access_key: str = ""
    secret_key: SecretStr = SecretStr("")
    prefix: str = ""

    def open(self, data_folder: Path) -> RecordingStore:
        """Return the storage; whether it answers shows when it is used."""
        if not self.bucket:
            return RecordingFiles(data_folder / FOLDER)
        # Imported when it is needed: it is large, and most hubs keep files.
        from cloud_hub.fleet.recordings_s3 import S3Recordings  # noqa: PLC0415

        return S3Recordings(
            self.bucket,
            endpoint=self.endpoint,
            region=self.region,
            access_key=self.access_key,
            secret_key=self.secret_key.get_secret_value(),
            prefix=self.prefix,
        )

    def environment(self) -> dict[str, str]:
        """Return the variables that give another process the same storage."""
        return {
            f"{_PREFIX}{name.upper()}": value.get_secret_value()
            if isinstance(value, SecretStr)
            else value
            for name, value in self
        }
