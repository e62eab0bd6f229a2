# SPDX-License-Identifier: Apache-2.0
"""Where the broker is and where boxes find the hub, from the environment: `TRUNKLINE_HUB_...`."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from cloud_hub.fleet.broker import Access, Credentials, Node
from cloud_hub.fleet.ca import CertificateAuthority
from cloud_hub.fleet.claim import HubAddress
from cloud_hub.fleet.nkeys import AccountKey
from cloud_hub.fleet.signing import SigningKey


def _comma(value: object) -> object:
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


Words = Annotated[list[str], NoDecode, BeforeValidator(_comma)]
"""Several values with commas between them."""


class FleetSettings(BaseSettings):
    """Settings of everything that boxes touch.

    Attributes:
        data_folder: authority, keys, and the embedded broker's streams.
        nats_urls: of an external cluster; empty starts the embedded server.
        nats_ca_file: authority of the cluster's certificates, for `tls://`.
        nats_hub_password: of the user `hub`; likewise `callout` and `system`. All three for an
        external cluster. nats_replicas: copies of each stream; 3 in a cluster of three.
        public_host: the name or address that boxes use. server_names: other names for the
        certificates of the servers. listen_host: address to listen on for boxes. ca_root,
        ca_issuing, ca_issuing_key: files of an authority made elsewhere.
    """

    model_config = SettingsConfigDict(env_prefix="TRUNKLINE_HUB_", extra="ignore")

    data_folder: Path = Path("var/hub")
    nats_urls: Words = []
    nats_ca_file: Path | None = None
    nats_hub_password: SecretStr | None = None
    nats_callout_password: SecretStr | None = None
    nats_system_password: SecretStr | None = None
    nats_port: int = 4222
    nats_sync_interval: str = "1s"
    nats_replicas: int = 1
    public_host: str = "localhost"
    server_names: Words = []
    listen_host: str = "127.0.0.1"
    mqtt_port: int = 8883
    device_port: int = 8443
    ca_root: Path | None = None
    ca_issuing: Path | None = None
    ca_issuing_key: Path | None = None

    @property
    def names(self) -> list[str]:
        """All names that the servers' certificates hold."""
        return list(dict.fromkeys([self.public_host, *self.server_names, "localhost", "127.0.0.1"]))

    def authority(self) -> CertificateAuthority:
        """Return the certificate authority: the files of settings, or one kept in the data folder."""
        if self.ca_root and self.ca_issuing and self.ca_issuing_key:
            return CertificateAuthority.from_files(
                self.ca_root, self.ca_issuing, self.ca_issuing_key
            )
        return CertificateAuthority.open(self.data_folder / "ca")

    def signing_key(self) -> SigningKey:
        """Return the key under bundles and commands."""
        return SigningKey.open(self.data_folder / "signing.key")

    def callout_key(self) -> AccountKey:
        """Return the key under the callout's answers; its public half is in the broker's configuration."""
        return AccountKey.open(self.data_folder / "callout.key")

    def credentials(self) -> Credentials:
        """Return the passwords of the hub's own broker users."""
        given = (self.nats_hub_password, self.nats_callout_password, self.nats_system_password)
        if all(given):
            return Credentials(*(each.get_secret_value() for each in given if each is not None))
        return Credentials.open(self.data_folder / "broker.json")

    def access(self) -> Access:
        """Return how the hub's processes reach the broker."""
        urls = self.nats_urls or [f"nats://127.0.0.1:{self.nats_port}"]
        return Access(urls, self.credentials(), self.nats_ca_file)

    def node(self) -> Node:
        """Return the embedded server's place."""
        return Node(
            "hub",
            self.data_folder / "nats",
            port=self.nats_port,
            mqtt_port=self.mqtt_port,
            mqtt_host=self.listen_host,
            names=self.names,
            sync_interval=self.nats_sync_interval,
        )

    def address(self) -> HubAddress:
        """Return what a claimed box is told."""
        url = f"https://{self.public_host}:{self.device_port}"
        return HubAddress(self.public_host, self.mqtt_port, url)


def process_name(kind: str) -> str:
    """Return a name for a connection by which an operator tells processes apart."""
    return f"{kind} {secrets.token_hex(3)}"
