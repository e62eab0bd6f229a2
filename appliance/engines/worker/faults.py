# SPDX-License-Identifier: Apache-2.0
"""Provider errors on the wire: the same class comes out of a remote provider that the hosted one raised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NoReturn

import grpc
import grpc.aio

from appliance.engines.errors import as_provider_error
from appliance.engines.worker import engine_pb2 as pb
from appliance.plugin import (
    AuthenticationError,
    ConfigurationError,
    InvalidRequestError,
    ModelNotFoundError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitedError,
    UnavailableError,
)

METADATA_KEY = "trunkline-fault-bin"

_CODES: Mapping[type[ProviderError], grpc.StatusCode] = {
    ConfigurationError: grpc.StatusCode.FAILED_PRECONDITION,
    AuthenticationError: grpc.StatusCode.UNAUTHENTICATED,
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    ModelNotFoundError: grpc.StatusCode.NOT_FOUND,
    RateLimitedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    ProviderTimeoutError: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_CLASSES = {cls.__name__: cls for cls in _CODES}
_BY_CODE = {code: cls for cls, code in _CODES.items()}


async def abort(context: grpc.aio.ServicerContext[object, object], error: Exception) -> NoReturn:
    """End a call with what its provider raised."""
    fault = as_provider_error(error)
    known = next((cls for cls in _CODES if isinstance(fault, cls)), UnavailableError)
    message = pb.Fault(type=known.__name__, message=fault.message, remedy=fault.remedy)
    if isinstance(fault, RateLimitedError) and fault.retry_after_s is not None:
        message.retry_after_s = fault.retry_after_s
    metadata = ((METADATA_KEY, message.SerializeToString()),)
    await context.abort(_CODES[known], known.__name__, metadata)


def raised(error: grpc.aio.AioRpcError) -> ProviderError:
    """Return a failed call's error as what the provider raised, or as what the failure means."""
    for key, value in _metadata(error):
        if key == METADATA_KEY and isinstance(value, bytes):
            return _fault(pb.Fault.FromString(value))
    cls = _BY_CODE.get(error.code(), UnavailableError)
    return cls(f"the engine worker: {error.code().name.lower()}: {error.details() or 'no details'}")


def _metadata(error: grpc.aio.AioRpcError) -> Iterable[tuple[str, str | bytes]]:
    return tuple(error.trailing_metadata() or ())


def _fault(message: pb.Fault) -> ProviderError:
    cls = _CLASSES.get(message.type, UnavailableError)
    if cls is RateLimitedError:
        after = message.retry_after_s if message.HasField("retry_after_s") else None
        return RateLimitedError(message.message, retry_after_s=after)
    return cls(message.message, remedy=message.remedy)
