# SPDX-License-Identifier: Apache-2.0
"""What all messages share: a version, and bytes that are JSON, deflated when they are long.

A message carries `v`, "MAJOR.MINOR". A minor version only adds: fields that are not known are ignored, so an
old hub reads a new box and the reverse. Another major version is refused by name (`UnsupportedVersionError`,
answered with a `Refusal`), never guessed at.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appliance.wire.errors import MalformedError, UnsupportedVersionError

MAJOR = 1
VERSION = "1.0"
SUPPORTED = (MAJOR,)

DEFLATE_OVER = 4096
"""Bytes of JSON beyond which a message is deflated (RFC 1950, zlib format)."""

MAX_MESSAGE_BYTES = 8 * 2**20
"""The most that a message may be once inflated: a small message cannot fill the memory."""

Uuid = Annotated[
    str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
]
"""A UUID as text, lower case."""

Time = Annotated[
    str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)$")
]
"""RFC 3339; written in UTC with milliseconds."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

M = TypeVar("M", bound=BaseModel)


class Part(BaseModel):
    """A part of a message. Unknown fields are ignored: a newer sender may know more."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Message(Part):
    """Base of all messages."""

    v: str = Field(VERSION, pattern=r"^\d{1,5}\.\d{1,5}$")

    def encode(self) -> bytes:
        """Return the bytes of the message: JSON, deflated when that is over 4 kB."""
        return compress(self.model_dump_json(exclude_none=True).encode())

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the message that the bytes hold.

        Raises:
            UnsupportedVersionError: its major version is not known here.
            MalformedError: it is no such message.
        """
        return validate(cls, load(payload))


class Signed(Message):
    """A message whose sender signs it (Ed25519 over `signing_bytes`, base64)."""

    signature: str = ""

    def signing_bytes(self) -> bytes:
        """Return what is signed: all fields that this version knows but `signature`, as `canonical` JSON.

        To check a message that was received use `signing_bytes_of`: it covers fields that are not
        known here too.
        """
        return canonical(self.model_dump(mode="json", exclude={"signature"}, exclude_none=True))


def signing_bytes_of(payload: bytes) -> bytes:
    """Return what the sender of an encoded `Signed` message signed, unknown fields included.

    Raises:
        MalformedError: it is no JSON object.
    """
    document = load(payload)
    return canonical({key: value for key, value in document.items() if key != "signature"})


def canonical(document: Mapping[str, Any]) -> bytes:
    """Return JSON in UTF-8 with sorted keys and no white space, for signatures and hashes."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def compress(payload: bytes) -> bytes:
    """Return the bytes deflated where that is worth it."""
    return zlib.compress(payload, 6) if len(payload) > DEFLATE_OVER else payload


def load(payload: bytes) -> dict[str, Any]:
    """Return the JSON object in a message, inflated if need be, before its version is looked at.

    Raises:
        MalformedError: it is none, or larger than `MAX_MESSAGE_BYTES`.
    """
    if payload[:1] == b"x":  # 0x78 begins every zlib stream with a 32 kB window; JSON begins with {
        payload = _inflate(payload)
    if len(payload) > MAX_MESSAGE_BYTES:
        raise MalformedError(f"the message is over {MAX_MESSAGE_BYTES} bytes")
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"the message is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise MalformedError("the message is not a JSON object")
    return document


def validate(model: type[M], document: Mapping[str, Any]) -> M:
    """Return a document as its type; the version is looked at first.

    Raises:
        UnsupportedVersionError: its major version is not known here.
        MalformedError: it lacks what the type needs.
    """
    version = document.get("v", VERSION)
    major = str(version).partition(".")[0]
    if not major.isdecimal():
        raise MalformedError(f"version {version!r} is not MAJOR.MINOR")
    if int(major) not in SUPPORTED:
        raise UnsupportedVersionError(str(version), SUPPORTED)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "message"
        raise MalformedError(f"{model.__name__}: {where}: {first['msg']}") from error


def _inflate(payload: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        inflated = inflater.decompress(payload, MAX_MESSAGE_BYTES + 1)
    except zlib.error as error:
        raise MalformedError(f"the message cannot be inflated: {error}") from error
    if len(inflated) <= MAX_MESSAGE_BYTES and not inflater.eof:
        raise MalformedError("the message is cut off")
    return inflated
