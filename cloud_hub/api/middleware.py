# SPDX-License-Identifier: Apache-2.0
"""What happens to every request: an id, a bound on its size and rate, and headers of caution."""

from __future__ import annotations

import json
import re
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_hub.api.problems import MEDIA_TYPE
from cloud_hub.auth.limits import SharedBuckets
from cloud_hub.db.ids import uuid7

MAX_BODY: Final = 1 << 20
_GIVEN_ID: Final = re.compile(rb"^[A-Za-z0-9._-]{8,64}$")
_CSP: Final = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"content-security-policy", _CSP),
    (b"cache-control", b"no-store"),
)
"""Set unless a route says otherwise."""
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")


class Guard:
    """The outermost layer of the API, as plain ASGI.

    Args:
        app: what it guards.
        addresses: how often one address may ask.
        secure: browsers reach the hub by TLS.
    """

    def __init__(self, app: ASGIApp, addresses: SharedBuckets, *, secure: bool) -> None:
        self._app, self._addresses = app, addresses
        self._headers = (*HEADERS, _HSTS) if secure else HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        identity = given.decode() if _GIVEN_ID.match(given) else str(uuid7())
        scope.setdefault("state", {})["request_id"] = identity

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = message["headers"] = list(message.get("headers", []))
                present = {name.lower() for name, _ in own}
                own += [each for each in self._headers if each[0] not in present]
                own.append((b"x-request-id", identity.encode()))
            await send(message)

        address = scope["client"][0] if scope.get("client") else ""
        verdict = await self._addresses.take(address)
        if not verdict.allowed:
            wait = verdict.retry_after_s
            await _refuse(sending, identity, 429, "too_many_requests", "slow down", wait)
        elif _announced(scope) > MAX_BODY:
            await _refuse(sending, identity, 413, "too_long", f"at most {MAX_BODY} bytes")
        else:
            await self._app(scope, _Bounded(receive), sending)


class _Bounded:
    """A request's body that ends, as if the client had gone, when it is longer than allowed."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._left = receive, MAX_BODY

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        return message if self._left >= 0 else {"type": "http.disconnect"}


def _announced(scope: Scope) -> int:
    value = dict(scope["headers"]).get(b"content-length", b"0")
    return int(value) if value.isdigit() else 0


async def _refuse(
    send: Send, identity: str, status: int, code: str, detail: str, retry_after_s: int = 0
) -> None:
    title = {429: "Too Many Requests", 413: "Content Too Large"}[status]
    body = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": identity,
        "errors": [],
    }
    headers = [(b"content-type", MEDIA_TYPE.encode())]
    if retry_after_s:
        headers.append((b"retry-after", str(retry_after_s).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
