# SPDX-License-Identifier: Apache-2.0
"""What went wrong, from a server's answer or from the network, in Trunkline's terms.

A server may repeat in its message what the caller said; so only messages about keys, models and limits
are passed on, and of the others their code alone.
"""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Mapping
from typing import Any

import httpx

from appliance.plugin import (
    AuthenticationError,
    InvalidRequestError,
    ModelNotFoundError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitedError,
    UnavailableError,
)

_LONGEST = 200


def from_status(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """Return the error that an HTTP answer other than 2xx stands for."""
    code, message = _details(body)
    if status in (401, 403):
        return AuthenticationError(
            f"the server refused the key: {message or status}", remedy="check the setting api_key"
        )
    if status == 404:
        return ModelNotFoundError(
            f"the server knows no such model or address: {message or status}",
            remedy="check the settings model and base_url",
        )
    if status == 429:
        return RateLimitedError(
            f"the server asks for fewer requests: {message or code or status}",
            retry_after_s=_retry_after(headers),
        )
    if status in (408, 504):
        return ProviderTimeoutError(f"the server took too long ({status})")
    if status >= 500:
        return UnavailableError(f"the server failed ({status} {code})".replace(" )", ")"))
    return InvalidRequestError(
        f"the server refused the request ({status} {code})".replace(" )", ")")
    )


def from_event(error: Any) -> ProviderError:
    """Return the error that an `error` object in the midst of a stream stands for."""
    code = error.get("code") or error.get("type") or "" if isinstance(error, Mapping) else ""
    status = code if isinstance(code, int) and code >= 400 else 500
    if code == "rate_limit_exceeded":
        status = 429
    return from_status(status, {}, json.dumps({"error": error}).encode())


def from_network(error: httpx.HTTPError | httpx.InvalidURL) -> ProviderError:
    """Return the error that a failure of the transport stands for."""
    what = type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return ProviderTimeoutError(f"no answer from the server in time ({what})")
    return UnavailableError(f"the server cannot be reached or broke off ({what}: {error})")


def _details(body: bytes) -> tuple[str, str]:
    """Return code and message of an error body of any of the usual shapes; "" where there is none."""
    try:
        error = json.loads(body)
    except ValueError:
        return "", ""
    if isinstance(error, Mapping):
        error = error.get("error", error)
    if not isinstance(error, Mapping):
        return "", ""
    code = error.get("code") or error.get("type") or ""
    message = error.get("message") or error.get("detail") or ""
    return str(code)[:_LONGEST], message[:_LONGEST] if isinstance(message, str) else ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After: seconds, or a date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
