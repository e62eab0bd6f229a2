# SPDX-License-Identifier: Apache-2.0
"""Passwords: what is accepted, and how they are kept (argon2id, RFC 9106).

The rules follow NIST SP 800-63B: length counts, composition does not; nothing that everybody picks
first, nothing that the account's own name gives away.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

MIN_LENGTH: Final = 12
MAX_LENGTH: Final = 128
_AT_ONCE: Final = 2
"""Hashes computed at once in one process: each takes 64 MiB and a core for tens of milliseconds."""

_STEMS: Final = (
    *("password", "passwort", "motdepasse", "contrasena", "qwerty", "qwertz", "azerty"),
    *("letmein", "welcome", "iloveyou", "admin", "administrator", "changeme", "default"),
    *("football", "baseball", "monkey", "dragon", "sunshine", "princess", "master"),
    *("superman", "batman", "trustno1", "whatever", "starwars", "abc123", "secret", "login"),
    *("hello", "freedom", "shadow", "michael", "jordan", "trunkline", "telephone", "phone"),
    *("voice", "agent"),
)
_RUNS: Final = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890123456789",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
)
_LEET: Final = str.maketrans("013457$@!", "oieastsai")


class WeakPasswordError(ValueError):
    """The password is not accepted; the text says why."""


class Passwords:
    """Hashes and checks passwords without holding up the event loop.

    Args:
        hasher: argon2id with its cost; the default is RFC 9106's second recommended choice.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._decoy = self._hasher.hash("nobody's password")

    async def hash(self, password: str) -> str:
        """Return the encoded hash to be stored."""
        async with self._room:
            return await asyncio.to_thread(self._hasher.hash, _normal(password))

    async def verify(self, encoded: str | None, password: str) -> bool:
        """Say whether it is the password. Takes as long when there is no account (`encoded` None)."""
        async with self._room:
            right = await asyncio.to_thread(self._check, encoded or self._decoy, password)
        return right and encoded is not None

    def outdated(self, encoded: str) -> bool:
        """Say whether a hash was made at another cost than today's."""
        return self._hasher.check_needs_rehash(encoded)

    def _check(self, encoded: str, password: str) -> bool:
        try:
            return self._hasher.verify(encoded, _normal(password))
        except (Argon2Error, InvalidHashError):
            return False


def check_policy(password: str, *about: str) -> None:
    """Refuse a password that is short, common, or says who it belongs to.

    Args:
        password: as typed.
        about: the e-mail address, the name, the organization.

    Raises:
        WeakPasswordError: it is refused.
    """
    plain = _normal(password)
    if len(plain) < MIN_LENGTH:
        raise WeakPasswordError(f"use at least {MIN_LENGTH} characters; a few words are fine")
    if len(plain) > MAX_LENGTH:
        raise WeakPasswordError(f"use at most {MAX_LENGTH} characters")
    rest = _without_the_obvious(plain.casefold(), about)
    if len(set(plain)) < 5 or len(rest) < 4:
        raise WeakPasswordError("this is among the first that an attacker would try")


def _without_the_obvious(text: str, about: tuple[str, ...]) -> str:
    text = re.sub(r"(19|20)\d\d", "", text)
    own = (part for each in about for part in re.split(r"[\W_]+", each.casefold()))
    for word in sorted({*_STEMS, *(part for part in own if len(part) > 3)}, key=len, reverse=True):
        text = text.replace(word, "")
        text = text if word not in (plain := text.translate(_LEET)) else plain.replace(word, "")
    for run in _RUNS:
        for way in (run, run[::-1]):
            for length in range(len(way), 3, -1):
                for start in range(len(way) - length + 1):
                    text = text.replace(way[start : start + length], "")
    return re.sub(r"(.)\1{2,}", r"\1", text)


def _normal(password: str) -> str:
    # The same key presses give the same bytes on every system (NIST SP 800-63B, 5.1.1.2).
    return unicodedata.normalize("NFKC", password)
