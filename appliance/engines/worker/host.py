# SPDX-License-Identifier: Apache-2.0
"""The worker's side: serves the interface of one provider. See `engine.proto`.

Streams take their input only as the provider asks for it and wait for the reader of their output, so
that the flow control of HTTP/2 bounds what is queued. A call's cancellation cancels the provider's work
as it does in the box: the consuming task is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, TypeAlias

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from appliance.engines.worker import codec, faults
from appliance.engines.worker import engine_pb2 as pb
from appliance.plugin import Kind, LlmRequest, RateLimitedError, ReplyPace

_log = structlog.get_logger(__name__)

SERVICE = "trunkline.engine.v1.Engine"
MAX_MESSAGE_BYTES = 8 << 20
"""Longest message that either side accepts: a dialogue with its tools, or a minute of audio."""

RETRY_AFTER_S = 0.5

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class EngineHost:
    """Serves one provider on one address.

    Args:
        kind: of the provider.
        offer: its name in the config.
        built: becomes the provider, or fails with what building it raised.
        streams: how many streams may run at a time; one more is refused at once.
    """

    def __init__(self, kind: Kind, offer: str, built: asyncio.Future[Any], streams: int) -> None:
        self._kind = kind
        self._offer = offer
        self._built = built
        self._limit = streams
        self._running = 0
        self._health = health_aio.HealthServicer()
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),  # two workers on one port would take turns
            )
        )

    async def start(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen, healthy only once the provider is built; return the port (TCP).

        Args:
            address: `unix:PATH` or `host:port`.
            credentials: mutual TLS, for everything but a socket in a private folder.

        Raises:
            RuntimeError, OSError: the address cannot be used.
        """
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_generic_rpc_handlers((self._handlers(),))
        await self._health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        if credentials is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, credentials)
        await self._server.start()
        return port

    async def ready(self) -> None:
        """Wait for the provider, and say that it can be used.

        Raises:
            Exception: what building it raised.
        """
        await asyncio.shield(self._built)
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_s: float) -> None:
        """Take no more streams, let the running ones end within `grace_s`, then close the provider."""
        await self._server.stop(grace_s)
        if self._built.done() and not self._built.cancelled() and not self._built.exception():
            await self._built.result().aclose()

    def _handlers(self) -> grpc.GenericRpcHandler:
        def streams(
            work: Callable[[Any, Any, Context], Awaitable[None]], wanted: Any
        ) -> grpc.RpcMethodHandler[Any, Any]:
            async def run(incoming: AsyncIterator[Any], context: Context) -> None:
                await self._serve(work, incoming, context)

            return grpc.stream_stream_rpc_method_handler(
                run,
                request_deserializer=wanted.FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )

        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Describe": grpc.unary_unary_rpc_method_handler(
                self._describe,
                request_deserializer=pb.DescribeRequest.FromString,
                response_serializer=pb.Description.SerializeToString,
            )
        }
        if self._kind is Kind.SPEECH_TO_TEXT:
            handlers["Transcribe"] = streams(_transcribe, pb.TranscribeInput)
        elif self._kind is Kind.LANGUAGE_MODEL:
            handlers["Reply"] = streams(_reply, pb.ReplyInput)
        elif self._kind is Kind.TEXT_TO_SPEECH:
            handlers["Speak"] = streams(_speak, pb.SpeakInput)
        elif self._kind is Kind.EMBEDDER:
            handlers["Embed"] = grpc.unary_unary_rpc_method_handler(
                self._embed,
                request_deserializer=pb.EmbedRequest.FromString,
                response_serializer=pb.Embeddings.SerializeToString,
            )
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def _describe(self, _: pb.DescribeRequest, context: Context) -> pb.Description:
        try:
            provider = await asyncio.shield(self._built)
        except Exception as error:
            await faults.abort(context, error)
        return codec.description(self._kind, self._offer, provider.capabilities)

    async def _serve(
        self,
        work: Callable[[Any, Any, Context], Awaitable[None]],
        incoming: AsyncIterator[Any],
        context: Context,
    ) -> None:
        try:
            with self._place():
                await work(await asyncio.shield(self._built), incoming, context)
        except Exception as error:
            # Its message may hold a caller's words: the box decides what it logs of it.
            _log.debug("provider failed", error=str(error), type=type(error).__name__)
            await faults.abort(context, error)

    async def _embed(self, request: pb.EmbedRequest, context: Context) -> pb.Embeddings:
        try:
            with self._place():
                provider = await asyncio.shield(self._built)
                vectors = await provider.embed(tuple(request.texts))
        except Exception as error:
            await faults.abort(context, error)
        return pb.Embeddings(rows=len(vectors), vectors=vectors.astype("<f4").tobytes())

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._running >= self._limit:
            message = f"the engine worker has {self._limit} streams and takes no more"
            raise RateLimitedError(message, retry_after_s=RETRY_AFTER_S)
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1


async def _transcribe(provider: Any, incoming: Any, context: Context) -> None:
    request = codec.stt_request_of(await anext(aiter(incoming)))
    stream = provider.transcribe(codec.heard(incoming), request)
    async with aclosing(stream) as transcripts:
        async for transcript in transcripts:
            await context.write(codec.transcript(transcript))


async def _reply(provider: Any, incoming: Any, context: Context) -> None:
    request = codec.llm_request_of(await anext(aiter(incoming)))
    following = asyncio.ensure_future(_follow(incoming, request))
    try:
        async with aclosing(provider.reply(request)) as deltas:
            async for delta in deltas:
                await context.write(codec.delta(delta))
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _follow(incoming: AsyncIterator[pb.ReplyInput], request: LlmRequest) -> None:
    """Pass on how the reply's pace changes while it is written."""
    async for message in incoming:
        if isinstance(request.pace, ReplyPace):
            if message.pace.committed:
                request.pace.commit()
            request.pace.played(message.pace.unplayed_s)


async def _speak(provider: Any, incoming: Any, context: Context) -> None:
    request = codec.tts_request_of(await anext(aiter(incoming)))
    async with aclosing(provider.speak(codec.spoken(incoming), request)) as chunks:
        async for chunk in chunks:
            for message in codec.speech(chunk):
                await context.write(message)
