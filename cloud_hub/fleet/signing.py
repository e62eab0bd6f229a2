# SPDX-License-Identifier: Apache-2.0
"""The hub's signature under bundles and commands: no broker can speak in the hub's name."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.wire import Signed
from cloud_hub.fleet.ca import write_private

S = TypeVar("S", bound=Signed)


class SigningKey:
    """An Ed25519 key; boxes get its public half when they are claimed and at every renewal."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = base64.b64encode(key.public_key().public_bytes_raw()).decode()

    @classmethod
    def open(cls, path: Path) -> SigningKey:
        """Return the key kept in `path` (PEM, mode 0600), made at first use."""
        if not path.exists():
            pem = Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            write_private(path, pem.decode())
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{path} is not an Ed25519 key")  # noqa: TRY004
        return cls(key)

    def sign(self, message: S) -> S:
        """Return the message with its signature."""
        signature = base64.b64encode(self._key.sign(message.signing_bytes())).decode()
        return message.model_copy(update={"signature": signature})
