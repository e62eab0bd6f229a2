# SPDX-License-Identifier: Apache-2.0
"""The hub's signature under bundles and commands: no broker can speak in the hub's name."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.wire import Signed
from cloud_hub.keyfile import ed25519_key

S = TypeVar("S", bound=Signed)


class SigningKey:
    """An Ed25519 key; boxes get its public half when they are claimed and at every renewal."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = base64.b64encode(key.public_key().public_bytes_raw()).decode()

    @classmethod
    def open(cls, path: Path) -> SigningKey:
        """Return the key kept in `path` (PEM, mode 0600), made at first use."""
        return cls(ed25519_key(path))

    def sign(self, message: S) -> S:
        """Return the message with its signature."""
        signature = base64.b64encode(self._key.sign(message.signing_bytes())).decode()
        return message.model_copy(update={"signature": signature})
