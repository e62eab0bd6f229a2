# SPDX-License-Identifier: Apache-2.0
"""The box's connection to one worker process, and the streams that run over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from appliance.engines.worker import codec, faults
from appliance.engines.worker import engine_pb2 as pb
from appliance.engines.worker.host import MAX_MESSAGE_BYTES, SERVICE
from appliance.plugin import ProviderError, UnavailableError

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),  # the chain decides who is asked next
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
)

STREAM_S = {"Transcribe": 3600.0, "Reply": 300.0, "Speak": 300.0}
"""Longest that a stream may last: a turn, a reply, a clause. The chain's own limits are far shorter."""

EMBED_S = 60.0


class Lease(Protocol):
    """Gives out the connection to the worker that serves now."""

    @property
    def recovering(self) -> bool:
        """Whether no worker serves now, and one will soon."""
        ...

    def lease(self) -> Link:
        """Return it.

        Raises:
            UnavailableError: no worker serves at present.
        """
        ...


class Link:
    """A connection to a worker. Make it on the event loop's thread.

    Args:
        target: `unix:PATH` or `host:port`.
        credentials: for TLS, or None.
    """

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(target, credentials, options=_OPTIONS)
        self._check = self._channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        self._calls: set[grpc.aio.Call] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._fault: ProviderError | None = None

    async def describe(self, timeout_s: float) -> pb.Description:
        """Wait until the provider is built and return what it is.

        Raises:
            ProviderError: what building it raised; `UnavailableError` when nobody answers;
                `ProviderTimeoutError` after `timeout_s`.
        """
        call = self._channel.unary_unary(
            f"/{SERVICE}/Describe",
            request_serializer=pb.DescribeRequest.SerializeToString,
            response_deserializer=pb.Description.FromString,
        )
        try:
            found = await call(pb.DescribeRequest(), timeout=timeout_s, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            raise faults.raised(error) from error
        if found.protocol != codec.PROTOCOL:
            message = f"the worker speaks protocol {found.protocol}, this box {codec.PROTOCOL}"
            raise UnavailableError(message, remedy="install the same version on both")
        return found

    async def healthy(self, timeout_s: float) -> bool:
        """Tell whether the worker answers within `timeout_s` that it serves."""
        request = health_pb2.HealthCheckRequest()
        try:
            answer = await self._check(request, timeout=timeout_s)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def embed(self, texts: list[str]) -> pb.Embeddings:
        """Ask for the vectors of texts.

        Raises:
            ProviderError: as the provider raised it, or the worker is gone.
        """
        call: grpc.aio.UnaryUnaryCall[Any, Any] = self._channel.unary_unary(
            f"/{SERVICE}/Embed",
            request_serializer=pb.EmbedRequest.SerializeToString,
            response_deserializer=pb.Embeddings.FromString,
        )(pb.EmbedRequest(texts=texts), timeout=EMBED_S)
        with self._running(call):
            found: pb.Embeddings = await call
            return found

    async def exchange(
        self, method: str, messages: AsyncIterator[Any], wanted: Any
    ) -> AsyncIterator[Any]:
        """Run a stream: send `messages` as they come, yield what the worker answers.

        Args:
            method: of the service.
            messages: closed when the stream ends, however it ends.
            wanted: class of the messages that come back.

        Raises:
            ProviderError: as the provider raised it, or the worker is gone.
            Exception: what `messages` raised.
        """
        call: grpc.aio.StreamStreamCall[Any, Any] = self._channel.stream_stream(
            f"/{SERVICE}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=wanted.FromString,
        )(timeout=STREAM_S[method])
        broken: list[Exception] = []
        sending = asyncio.ensure_future(_send(call, messages, broken))
        try:
            with self._running(call, broken):
                while (message := await call.read()) is not grpc.aio.EOF:
                    yield message
        finally:
            call.cancel()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    @contextmanager
    def _running(self, call: grpc.aio.Call, broken: Sequence[Exception] = ()) -> Iterator[None]:
        """Count a call, and raise what its failure means."""
        if self._fault is not None:  # given up between the lease and now
            call.cancel()
            raise self._fault
        self._calls.add(call)
        self._idle.clear()
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise self._fault or faults.raised(error) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not the consumer was cancelled but the call: by `abandon`, or as its input failed.
            if broken:
                raise broken[0] from None
            raise self._fault or UnavailableError("the link to the worker was closed") from None
        finally:
            self._calls.discard(call)
            if not self._calls:
                self._idle.set()
        if broken:
            raise broken[0]

    @property
    def active(self) -> int:
        """How many requests run over it."""
        return len(self._calls)

    async def idle(self) -> None:
        """Wait until no request runs over it."""
        await self._idle.wait()

    def abandon(self, fault: ProviderError) -> None:
        """End every stream with `fault` now, without waiting for a worker that may never answer."""
        self._fault = fault
        for call in tuple(self._calls):
            call.cancel()

    def resume(self) -> None:
        """The worker answers again."""
        self._fault = None

    async def close(self) -> None:
        """End what is running and disconnect. Idempotent."""
        await self._channel.close(None)


async def _send(
    call: grpc.aio.StreamStreamCall[Any, Any],
    messages: AsyncIterator[Any],
    broken: list[Exception],
) -> None:
    try:
        async for message in messages:
            await call.write(message)
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return  # the reading side learns why
    except Exception as error:  # the input failed: the provider must not take it for a proper end
        broken.append(error)
        call.cancel()
    finally:
        with suppress(Exception):
            await messages.aclose()  # type: ignore[attr-defined]
