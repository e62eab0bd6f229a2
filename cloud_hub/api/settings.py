# SPDX-License-Identifier: Apache-2.0
"""What an operator can set of the API, from the environment: `TRUNKLINE_HUB_...`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from cloud_hub.fleet.settings import Words


class ApiSettings(BaseSettings):
    """Settings of the interface for people and programs.

    Attributes:
        data_folder: the master secret is kept here unless it is given.
        secret: at least 32 characters, the same for all API processes: it seals second factors and cursors.
        api_host: address to listen on. api_port: 0 takes a free one.
        public_url: how browsers reach the hub; "" is the port at localhost. With https the session cookie
            is for https alone.
        cors_origins: other origins whose scripts may call the API.
        trusted_proxies: addresses whose `X-Forwarded-For` is believed.
        open_sign_up: anybody may open an account with an organization of their own.
        key_rate, address_rate: requests a minute of one key, and of one address.
        sign_in_rate: attempts to sign in a minute, of one address and of one e-mail.
        session_idle, session_absolute: how long a session lives unused, and at most.
    """

    model_config = SettingsConfigDict(env_prefix="TRUNKLINE_HUB_", extra="ignore")

    data_folder: Path = Path("var/hub")
    secret: SecretStr | None = Field(None, min_length=32)
    api_host: str = "127.0.0.1"
    api_port: int = 8080
    public_url: str = ""
    cors_origins: Words = []
    trusted_proxies: Words = []
    open_sign_up: bool = False
    key_rate: int = Field(1200, ge=1)
    address_rate: int = Field(1200, ge=1)
    sign_in_rate: int = Field(10, ge=1)
    session_idle: timedelta = timedelta(hours=12)
    session_absolute: timedelta = timedelta(days=14)

    @property
    def secure(self) -> bool:
        """Say whether browsers reach the hub by TLS."""
        return self.public_url.startswith("https://")

    def url_at(self, bound: str) -> str:
        """Return how browsers reach the hub that listens at `bound`."""
        return self.public_url.rstrip("/") or bound
