# SPDX-License-Identifier: Apache-2.0
"""Requests of a claimed box to its own hub, by mutual TLS; and who may sign in the hub's name."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urljoin, urlsplit

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from appliance.sync.identity import HubFiles
from appliance.wire import Identity, WireError, load, signing_bytes_of

TIMEOUT_S = 30.0


class NotTheHubsError(Exception):
    """A message is not signed by this box's hub."""


class GoneError(Exception):
    """The hub says that there is no such thing, and never will be for this box."""


def verify(payload: bytes, identity: Identity) -> None:
    """Check the signature of an encoded message (Ed25519, RFC 8032).

    Raises:
        NotTheHubsError: it has none, or another's.
    """
    try:
        signature = base64.b64decode(str(load(payload).get("signature", "")), validate=True)
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(identity.signing_key))
        key.verify(signature, signing_bytes_of(payload))
    except (WireError, binascii.Error, ValueError, InvalidSignature) as error:
        raise NotTheHubsError("the signature is not the hub's") from error


@asynccontextmanager
async def hub_client(files: HubFiles) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client that shows the box's certificate and trusts its hub alone.

    Raises:
        FileNotFoundError: the box belongs to no hub.
    """
    identity = files.identity()
    if identity is None:
        raise FileNotFoundError("the box belongs to no hub")
    context = files.tls_context()
    async with httpx.AsyncClient(
        base_url=identity.api_url, verify=context, timeout=TIMEOUT_S
    ) as client:
        yield client


def at_hub(client: httpx.AsyncClient, url: str) -> str:
    """Return an absolute URL for what the hub names, a path or a URL.

    Raises:
        GoneError: it lies elsewhere: the box's certificate is shown to its hub alone.
    """
    absolute = urljoin(str(client.base_url), url)
    home, there = urlsplit(str(client.base_url)), urlsplit(absolute)
    if (there.scheme, there.netloc) != (home.scheme, home.netloc):
        raise GoneError(f"{there.netloc} is not the hub")
    return absolute


async def fetch(files: HubFiles, url: str, most: int) -> bytes:
    """Return what lies at `url` at the hub.

    Args:
        files: who this box is.
        url: absolute or a path.
        most: bytes that it may have.

    Raises:
        GoneError: there is no such thing, or it is too large.
        httpx.HTTPError: it cannot be had now.
        OSError: the box's own files cannot be read.
    """
    async with (
        hub_client(files) as client,
        client.stream("GET", at_hub(client, url)) as response,
    ):
        if response.status_code in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
            raise GoneError(f"the hub has nothing at {url}")
        response.raise_for_status()
        data = bytearray()
        async for chunk in response.aiter_bytes():
            data += chunk
            if len(data) > most:
                raise GoneError(f"{url} is over {most} bytes")
        return bytes(data)
