# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what we need from SIP messages and addresses (RFC 3261 7, 19, 20). Pure functions.

PJSIP parses messages; its Python binding hands over the text. These few functions read single
headers from text that PJSIP has already found to be well formed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

_COMPACT = {"from": "f", "to": "t", "call-id": "i", "contact": "m", "subject": "s", "refer-to": "r"}
_URI = re.compile(r"(?:sips?|tel):([^@;>\s]*)(@([^;>?\s]+))?", re.IGNORECASE)


def header(message: str, name: str) -> str:
    """Return the first value of a header, unfolded, or ""."""
    names = {name.lower(), _COMPACT.get(name.lower(), name.lower())}
    value: str | None = None
    for line in re.split(r"\r?\n", message)[1:]:
        if value is not None:
            if line[:1] in {" ", "\t"}:
                value += " " + line.strip()
                continue
            return value
        if not line:
            break
        key, colon, rest = line.partition(":")
        if colon and key.strip().lower() in names:
            value = rest.strip()
    return value or ""


def headers(message: str, names: Iterable[str]) -> dict[str, str]:
    """Return those of `names` that the message has."""
    found = {name: header(message, name) for name in names}
    return {name: value for name, value in found.items() if value}


def request_uri(message: str) -> str:
    """Return the Request-URI."""
    parts = message.split(None, 2)
    return parts[1] if len(parts) > 2 else ""


def user(address: str) -> str:
    """Return the user part of an address (`"Ann" <sip:100@pbx>` gives `100`; a tel URI its number)."""
    found = _URI.search(address)
    if not found:
        return ""
    scheme = address[found.start() :].partition(":")[0].lower()
    if scheme != "tel" and not found[2]:
        return ""
    return unquote(found[1].partition(":")[0])


def host(address: str) -> str:
    """Return the host of a SIP address, without port and brackets."""
    found = _URI.search(address)
    if not found:
        return ""
    return split_port(found[3] or found[1])[0]


def bare(address: str) -> str:
    """Return `sip:user@host` of an address: no name, no password, no parameters."""
    place, name = host(address), user(address)
    if not place or not address.lower().find("sip") >= 0:
        return f"tel:{name}" if name else ""
    if ":" in place:
        place = f"[{place}]"
    return f"sip:{name}@{place}" if name else f"sip:{place}"


def display_name(address: str) -> str:
    """Return the name in front of an address."""
    name, angle, _ = address.partition("<")
    return name.strip().strip('"').replace('\\"', '"') if angle else ""


def split_port(place: str) -> tuple[str, int | None]:
    """Return (host, port) of `host`, `host:port` or `[v6]:port`."""
    found = re.fullmatch(r"\[([^\]]+)\](?::(\d+))?|([^:]*)(?::(\d+))?", place)
    if not found:
        return place.strip("[]"), None  # a bare IPv6 address
    port = found[2] or found[4]
    return found[1] or found[3] or "", int(port) if port else None
