# SPDX-License-Identifier: Apache-2.0
"""What a browser needs: the session cookie, and the proof that the hub's own page asks.

A request with the cookie that changes something must carry `X-CSRF-Token` (told at sign-in and by
`GET /v1/session`), and when the browser says where it comes from, that must be the hub itself or an
allowed origin. A page elsewhere can send the cookie along but can read neither.
"""

from __future__ import annotations

import hmac

from fastapi import Request, Response

from cloud_hub.api.problems import ProblemError
from cloud_hub.api.services import Services
from cloud_hub.auth.secrets import digest

CSRF_HEADER = "X-CSRF-Token"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def cookie_name(*, secure: bool) -> str:
    """Return the cookie's name; the prefix `__Host-` binds it to this host and to TLS."""
    return "__Host-trunkline" if secure else "trunkline"


def set_cookie(response: Response, hub: Services, token: str) -> None:
    """Give the browser its session."""
    settings = hub.settings
    response.set_cookie(
        cookie_name(secure=settings.secure),
        token,
        max_age=int(settings.session_absolute.total_seconds()),
        secure=settings.secure,
        httponly=True,
        samesite="lax",
        path="/",
    )


def clear_cookie(response: Response, hub: Services) -> None:
    """Take the session from the browser."""
    name, secure = cookie_name(secure=hub.settings.secure), hub.settings.secure
    response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="lax")


def token_of(request: Request, hub: Services) -> str | None:
    """Return the session's token, if the browser sent one."""
    return request.cookies.get(cookie_name(secure=hub.settings.secure))


def csrf_token(hub: Services, token: str) -> str:
    """Return the value that `X-CSRF-Token` must have in this session."""
    return hub.master.mark("csrf", digest(token))


def check_origin(request: Request, hub: Services) -> None:
    """Refuse a request that another site's page makes.

    Raises:
        ProblemError: 403.
    """
    origin = request.headers.get("origin")
    host = request.headers.get("host", "")
    own = {hub.settings.public_url.rstrip("/"), f"http://{host}", f"https://{host}"}
    if origin is not None and origin not in own and origin not in hub.settings.cors_origins:
        raise ProblemError(403, "foreign_origin", "this origin may not use the hub's sessions")
    if origin is None and request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        raise ProblemError(403, "foreign_origin", "this request comes from another site")


def check_csrf(request: Request, hub: Services, token: str) -> None:
    """Refuse a change that does not prove to come from the hub's own page.

    Raises:
        ProblemError: 403.
    """
    if request.method in SAFE:
        return
    check_origin(request, hub)
    shown = request.headers.get(CSRF_HEADER, "")
    if not hmac.compare_digest(shown.encode(), csrf_token(hub, token).encode()):
        raise ProblemError(
            403, "csrf", f"{CSRF_HEADER} is missing or wrong: GET /v1/session tells it"
        )
