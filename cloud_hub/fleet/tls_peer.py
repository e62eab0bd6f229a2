# SPDX-License-Identifier: Apache-2.0
"""Mutual TLS for the boxes' HTTPS interface: the server itself says who is at the other end.

The certificate is taken from the TLS connection and put where the ASGI TLS extension puts it
(`scope["extensions"]["tls"]["client_cert_chain"]`). It never comes from a header, so there is none
to be forged; a load balancer in front must pass TCP through.

Boxes without a certificate are let in (to claim), and so are certificates that have run out (to
renew): what each may do is decided by `device_api`, not by the handshake. A certificate of another
authority ends the handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python does not name."""
MAX_HEADERS = 16 * 1024


class PeerProtocol(H11Protocol):
    """HTTP/1.1 over TLS that hands the peer's certificate to the application."""

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        """Note who it is before the first request is read."""
        super().connection_made(transport)
        connection = transport.get_extra_info("ssl_object")
        der = connection.getpeercert(binary_form=True) if connection is not None else None
        pem = ssl.DER_cert_to_PEM_cert(der) if der else None
        self.app = _with_peer(self.app, pem)


class QuietServer(uvicorn.Server):
    """A server that leaves the process's signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def _with_peer(app: Callable[..., Any], pem: str | None) -> ASGIApp:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            chain = [pem] if pem else []
            scope.setdefault("extensions", {})["tls"] = {"client_cert_chain": chain}
        await app(scope, receive, send)

    return wrapped


def server_context(certificate: Path, key: Path, authority: Path) -> ssl.SSLContext:
    """Return a server context that asks for a box's certificate and takes none for an answer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
    return context


def device_server(app: ASGIApp, host: str, port: int, context: ssl.SSLContext) -> uvicorn.Server:
    """Return a server for `app` (see `device_api`); run it with `await server.serve()`."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=PeerProtocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=MAX_HEADERS,
        timeout_keep_alive=30,
        ssl_context_factory=lambda _config, _default: context,
    )
    return QuietServer(config)
