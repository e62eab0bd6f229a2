# SPDX-License-Identifier: Apache-2.0
"""NATS keys and tokens: what an auth callout service needs of them, and no more.

A NATS key is an Ed25519 public key written in base32 with a kind byte in front and a CRC-16
(XMODEM, little endian) behind. A NATS token is a JSON Web Token whose algorithm is called
`ed25519-nkey` and whose issuer is such a key (NATS architecture records 14 and 26).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import time
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cloud_hub.keyfile import ed25519_key

_ACCOUNT = 0 << 3
_SERVER = 13 << 3


class TokenRefusedError(Exception):
    """A token is malformed, expired, or not signed by the server it claims to come from."""


class AccountKey:
    """The key that signs the callout's answers; the broker's configuration holds its public half."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = _encode(_ACCOUNT, key.public_key().public_bytes_raw())

    @classmethod
    def open(cls, path: Path) -> AccountKey:
        """Return the key kept in `path` (PEM, mode 0600), made at first use."""
        return cls(ed25519_key(path))

    def sign(self, claims: dict[str, Any]) -> str:
        """Return a token over `claims`, with issuer, time and id filled in."""
        body = {
            **claims,
            "iss": self.public,
            "iat": int(time.time()),
            "jti": _b64(os.urandom(16)),
        }
        signed = f"{_part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_part(body)}"
        return f"{signed}.{_b64(self._key.sign(signed.encode()))}"


def read_server_token(token: str, audience: str, now: float | None = None) -> dict[str, Any]:
    """Return the claims of a token for `audience` that a NATS server signed with its own key.

    Raises:
        TokenRefusedError: see there.
    """
    try:
        head, body, signature = token.split(".")
        claims = json.loads(_unb64(body))
        key = Ed25519PublicKey.from_public_bytes(_decode(_SERVER, claims["iss"]))
        key.verify(_unb64(signature), f"{head}.{body}".encode())
        expires = float(claims["exp"])
    except (ValueError, KeyError, TypeError, InvalidSignature) as error:
        raise TokenRefusedError("not a token of a NATS server") from error
    if (time.time() if now is None else now) > expires:
        raise TokenRefusedError("the token has expired")
    if claims.get("aud") != audience:
        raise TokenRefusedError(f"the token is not for {audience}")
    result: dict[str, Any] = claims
    return result


def _encode(kind: int, raw: bytes) -> str:
    data = bytes([kind]) + raw
    return (
        base64.b32encode(data + binascii.crc_hqx(data, 0).to_bytes(2, "little"))
        .rstrip(b"=")
        .decode()
    )


def _decode(kind: int, text: str) -> bytes:
    data = base64.b32decode(text + "=" * (-len(text) % 8))
    body, check = data[:-2], data[-2:]
    if body[0] != kind or binascii.crc_hqx(body, 0).to_bytes(2, "little") != check:
        raise ValueError("not a NATS key of this kind")
    return body[1:]


def _part(value: dict[str, Any]) -> str:
    return _b64(json.dumps(value, separators=(",", ":")).encode())


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
