# SPDX-License-Identifier: Apache-2.0
"""What a provider raised, as the one tree of errors from which the core decides."""

from __future__ import annotations

from appliance.plugin import ProviderError, ProviderTimeoutError, UnavailableError


def as_provider_error(error: Exception) -> ProviderError:
    """Return what a provider raised as a `ProviderError`: anything else is a fault of the plugin."""
    if isinstance(error, ProviderError):
        return error
    if isinstance(error, TimeoutError):
        return ProviderTimeoutError("not ready in the time it had")
    return UnavailableError(f"{type(error).__name__}: {error}")
