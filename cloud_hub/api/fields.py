# SPDX-License-Identifier: Apache-2.0
"""Types of fields that many bodies share, each as narrow as what it describes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)

from appliance.wire import to_text

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")
MAX_DOCUMENT = 256 * 1024
"""Bytes of a free document as JSON."""


class Body(BaseModel):
    """What a client sends: a field that is not known is a mistake, not noise."""

    model_config = ConfigDict(extra="forbid")


class View(BaseModel):
    """What a client is shown, read from a row."""

    model_config = ConfigDict(from_attributes=True)


def _document(value: dict[str, Any]) -> dict[str, Any]:
    # What jsonb cannot hold is refused here, with a message, and not by the database.
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ValueError("not plain JSON: no NaN, no infinity, no lone surrogates") from error
    if len(text) > MAX_DOCUMENT:
        raise ValueError(f"longer than {MAX_DOCUMENT} bytes")
    if rb"\u0000" in text and any("\0" in each for each in _strings(value)):
        raise ValueError("holds the character U+0000")
    return value


def _written_out(value: Any) -> Any:
    # pydantic takes 0.5 and "0.5" for seconds since 1970; the interface promises RFC 3339 alone.
    if not isinstance(value, datetime) and not _DATE.match(str(value)):
        raise ValueError("no moment; write one as 2026-11-21T09:30:00Z")
    return value


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


Name = Annotated[
    str,
    StringConstraints(pattern=r"^[^\x00-\x20\x7f]([^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?$"),
    Field(min_length=1, max_length=120),
]
"""One line that a person reads, without blanks around it."""

Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$"), Field(max_length=500)]
"""One line, or nothing."""

Email = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$"
    ),
    Field(max_length=254, examples=["ada@example.com"]),
]

Password = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128),
    Field(examples=["four corners of the map"]),
]

Token = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{20,128}$"), Field(examples=["q" * 43])
]

Code = Annotated[
    str, StringConstraints(pattern=r"^[0-9A-Za-z -]{6,20}$"), Field(examples=["492039"])
]
"""A code of a second factor, or a recovery code."""

Document = Annotated[dict[str, Any], AfterValidator(_document)]
"""A JSON object of any content."""

Moment = Annotated[
    datetime,
    PlainSerializer(to_text, return_type=str, when_used="json"),
    WithJsonSchema(
        {"type": "string", "format": "date-time", "examples": ["2026-11-21T09:30:00.000Z"]}
    ),
]
"""RFC 3339 in UTC, with milliseconds."""

Instant = Annotated[AwareDatetime, BeforeValidator(_written_out)]
"""RFC 3339 with an offset, as somebody writes it; no number of seconds."""

Digest = Annotated[
    bytes,
    PlainSerializer(lambda value: value.hex(), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]*$"}),
]
"""A hash in hex."""
