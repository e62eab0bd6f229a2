# SPDX-License-Identifier: Apache-2.0
"""Random secrets, what is kept of them, and the hub's own master secret.

The hub stores hashes of tokens, never tokens. What it must read again (second factors, answers kept
for `Idempotency-Key`) it seals with AES-256-GCM under a key derived for that one purpose.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cloud_hub.keyfile import write_private

KEY_BRAND: Final = "tlk"
"""What every API key begins with, so that scanners of leaked secrets know it."""
_NONCE: Final = 12
_WORDS: Final = "abcdefghijkmnpqrstuvwxyz23456789"


class SealError(ValueError):
    """What was sealed does not open: another key, or it was altered."""


def new_token() -> str:
    """Return 256 random bits that fit in a URL."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """Return what the database keeps of a random token: SHA-256 (a random token needs no slow hash)."""
    return hashlib.sha256(token.encode()).digest()


@dataclass(frozen=True, slots=True)
class KeyText:
    """An API key as its holder has it: `tlk_PREFIX_SECRET_CHECK`.

    Attributes:
        prefix: finds the row; public.
        secret: 256 random bits in hex; shown once.
    """

    prefix: str
    secret: str

    @classmethod
    def new(cls) -> KeyText:
        """Return a new key."""
        return cls("".join(secrets.choice(_WORDS) for _ in range(12)), secrets.token_hex(32))

    @classmethod
    def parse(cls, text: str) -> KeyText | None:
        """Return the parts of a key; None when it is none, or mistyped (the check is a CRC-32)."""
        parts = text.split("_")
        if len(parts) != 4 or parts[0] != KEY_BRAND or not text.isascii():
            return None
        key = cls(parts[1], parts[2])
        return key if hmac.compare_digest(str(key), text) else None

    def __str__(self) -> str:
        body = f"{KEY_BRAND}_{self.prefix}_{self.secret}"
        return f"{body}_{zlib.crc32(body.encode()):08x}"


class MasterSecret:
    """The secret from which the keys of single purposes are derived (HKDF, RFC 5869)."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def open(cls, path: Path) -> MasterSecret:
        """Return what is kept in `path` (mode 0600), made at first use."""
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        return cls(path.read_text().strip().encode())

    def seal(self, purpose: str, data: bytes, context: bytes = b"") -> bytes:
        """Encrypt; `context` must be the same to open it again."""
        nonce = os.urandom(_NONCE)
        return nonce + AESGCM(self._key(purpose)).encrypt(nonce, data, context)

    def open_sealed(self, purpose: str, sealed: bytes, context: bytes = b"") -> bytes:
        """Decrypt what `seal` made.

        Raises:
            SealError: it was altered, or sealed under another secret, purpose or context.
        """
        try:
            return AESGCM(self._key(purpose)).decrypt(sealed[:_NONCE], sealed[_NONCE:], context)
        except (InvalidTag, ValueError) as error:
            raise SealError("this does not open with the hub's secret") from error

    def mark(self, purpose: str, data: bytes) -> str:
        """Return a proof that this hub saw `data` (HMAC-SHA256, URL-safe)."""
        return to_url(hmac.digest(self._key(purpose), data, "sha256"))

    def _key(self, purpose: str) -> bytes:
        derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode())
        return derive.derive(self._secret)


def to_url(data: bytes) -> str:
    """Return base64url without padding (RFC 4648, 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_url(text: str) -> bytes:
    """Return the bytes of base64url without padding.

    Raises:
        ValueError: it is not that.
    """
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64url") from error
