# SPDX-License-Identifier: Apache-2.0
"""The data of the provider interfaces as messages of `engine.proto`, and back. No I/O."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np

from appliance.engines.worker import engine_pb2 as pb
from appliance.plugin import (
    EmbedderCapabilities,
    Flush,
    Kind,
    LlmCapabilities,
    LlmDelta,
    LlmRequest,
    Message,
    Pcm,
    ReplyPace,
    Role,
    SpeechChunk,
    SttCapabilities,
    SttRequest,
    TextDelta,
    TokenUsage,
    ToolCall,
    ToolSpec,
    Transcript,
    TtsCapabilities,
    TtsRequest,
    WordMark,
)

PROTOCOL = 1
"""Raised when a box and a worker of different versions could not understand each other."""

CAPABILITIES: Mapping[Kind, type[Any]] = {
    Kind.SPEECH_TO_TEXT: SttCapabilities,
    Kind.LANGUAGE_MODEL: LlmCapabilities,
    Kind.TEXT_TO_SPEECH: TtsCapabilities,
    Kind.EMBEDDER: EmbedderCapabilities,
}
"""The kinds of providers that a worker can host."""

PIECE_BYTES = 1 << 20
"""Longest audio in one message: far below the limit of a message, far above what speech needs."""


# -- capabilities ------------------------------------------------------------------------------------


def description(kind: Kind, offer: str, capabilities: Any) -> pb.Description:
    """Describe a provider. The field of its capabilities is named as its kind."""
    message = pb.Description(protocol=PROTOCOL, kind=kind.value, offer=offer, pid=os.getpid())
    part = getattr(message, kind.value)
    part.SetInParent()
    for field in dataclasses.fields(CAPABILITIES[kind]):
        value = getattr(capabilities, field.name)
        if isinstance(value, tuple | frozenset):
            getattr(part, field.name).extend(
                sorted(value) if isinstance(value, frozenset) else value
            )
        else:
            setattr(part, field.name, value)
    return message


def capabilities(message: pb.Description) -> Any:
    """Return the capabilities in a description, as the dataclass of its kind."""
    kind = Kind(message.kind)
    part = getattr(message, kind.value)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(CAPABILITIES[kind]):
        value = getattr(part, field.name)
        if str(field.type).startswith("tuple"):
            value = tuple(value)
        elif str(field.type).startswith("frozenset"):
            value = frozenset(value)
        values[field.name] = value
    return CAPABILITIES[kind](**values)


# -- audio -------------------------------------------------------------------------------------------


def pcm_bytes(pcm: Pcm) -> bytes:
    """Return samples as little-endian bytes."""
    return pcm.astype("<i2", copy=False).tobytes()


def pcm_of(data: bytes) -> Pcm:
    """Return bytes as samples; the array may be written to."""
    return np.frombuffer(data, "<i2").astype(np.int16)


def pieces(pcm: Pcm) -> list[bytes]:
    """Return audio in pieces that fit into messages; no audio is one empty piece."""
    data = pcm_bytes(pcm)
    return [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)] or [b""]


# -- recognizer --------------------------------------------------------------------------------------


def stt_request(request: SttRequest) -> pb.TranscribeInput:
    """Return the first message of a recognition stream."""
    inner = pb.SttRequest(call_id=request.call_id, language=request.language, hints=request.hints)
    return pb.TranscribeInput(request=inner)


def stt_request_of(message: pb.TranscribeInput) -> SttRequest:
    """Return the request in the first message of a recognition stream."""
    inner = message.request
    return SttRequest(inner.call_id, _optional(inner, "language"), tuple(inner.hints))


async def heard(messages: AsyncIterator[pb.TranscribeInput]) -> AsyncIterator[Pcm | Flush]:
    """Yield the audio of a recognition stream as a recognizer takes it."""
    async for message in messages:
        if message.pcm:
            yield pcm_of(message.pcm)
        if message.flush:
            yield Flush()


def transcript(item: Transcript) -> pb.Transcript:
    """Return a transcript as a message."""
    return pb.Transcript(
        text=item.text,
        is_final=item.is_final,
        audio_s=item.audio_s,
        confidence=item.confidence,
        language=item.language,
    )


def transcript_of(message: pb.Transcript) -> Transcript:
    """Return the transcript in a message."""
    return Transcript(
        message.text,
        message.is_final,
        message.audio_s,
        _optional(message, "confidence"),
        _optional(message, "language"),
    )


# -- language model ----------------------------------------------------------------------------------


def llm_request(request: LlmRequest) -> pb.ReplyInput:
    """Return the first message of a reply stream."""
    inner = pb.LlmRequest(
        messages=[_message(one) for one in request.messages],
        tools=[
            pb.ToolSpec(
                name=tool.name,
                description=tool.description,
                parameters=json.dumps(tool.parameters),
            )
            for tool in request.tools
        ],
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        seed=request.seed,
        call_id=request.call_id,
    )
    return pb.ReplyInput(request=inner, pace=None if request.pace is None else pace(request.pace))


def llm_request_of(message: pb.ReplyInput) -> LlmRequest:
    """Return the request in the first message of a reply stream."""
    inner = message.request
    reply_pace = None
    if message.HasField("pace"):
        reply_pace = ReplyPace(committed=message.pace.committed)
        reply_pace.unplayed_s = message.pace.unplayed_s
    return LlmRequest(
        messages=tuple(_message_of(one) for one in inner.messages),
        tools=tuple(
            ToolSpec(tool.name, tool.description, json.loads(tool.parameters))
            for tool in inner.tools
        ),
        max_tokens=inner.max_tokens,
        temperature=inner.temperature,
        seed=_optional(inner, "seed"),
        call_id=inner.call_id,
        pace=reply_pace,
    )


def pace(state: ReplyPace) -> pb.Pace:
    """Return what a pace says now."""
    return pb.Pace(committed=state.committed, unplayed_s=state.unplayed_s)


def _message(message: Message) -> pb.Message:
    return pb.Message(
        role=message.role.value,
        content=message.content,
        tool_calls=[_tool_call(call) for call in message.tool_calls],
        tool_call_id=message.tool_call_id,
        name=message.name,
    )


def _message_of(message: pb.Message) -> Message:
    return Message(
        Role(message.role),
        message.content,
        tuple(_tool_call_of(call) for call in message.tool_calls),
        message.tool_call_id,
        message.name,
    )


def _tool_call(call: ToolCall) -> pb.ToolCall:
    return pb.ToolCall(id=call.id, name=call.name, arguments=call.arguments)


def _tool_call_of(call: pb.ToolCall) -> ToolCall:
    return ToolCall(call.id, call.name, call.arguments)


def delta(item: LlmDelta) -> pb.ReplyDelta:
    """Return a piece of a reply as a message."""
    match item:
        case TextDelta(text):
            return pb.ReplyDelta(text=text)
        case ToolCall():
            return pb.ReplyDelta(tool_call=_tool_call(item))
        case TokenUsage(prompt, completion, cached):
            usage = pb.TokenUsage(prompt=prompt, completion=completion, cached=cached)
            return pb.ReplyDelta(usage=usage)


def delta_of(message: pb.ReplyDelta) -> LlmDelta:
    """Return the piece of a reply in a message.

    Raises:
        ValueError: there is none.
    """
    match message.WhichOneof("delta"):
        case "text":
            return TextDelta(message.text)
        case "tool_call":
            return _tool_call_of(message.tool_call)
        case "usage":
            usage = message.usage
            return TokenUsage(usage.prompt, usage.completion, usage.cached)
    raise ValueError("a reply's message is empty")


# -- synthesizer -------------------------------------------------------------------------------------


def tts_request(request: TtsRequest) -> pb.SpeakInput:
    """Return the first message of a synthesis stream."""
    inner = pb.TtsRequest(
        call_id=request.call_id,
        voice=request.voice,
        language=request.language,
        speed=request.speed,
    )
    return pb.SpeakInput(request=inner)


def tts_request_of(message: pb.SpeakInput) -> TtsRequest:
    """Return the request in the first message of a synthesis stream."""
    inner = message.request
    voice, language = _optional(inner, "voice"), _optional(inner, "language")
    return TtsRequest(inner.call_id, voice, language, inner.speed)


async def spoken(messages: AsyncIterator[pb.SpeakInput]) -> AsyncIterator[str]:
    """Yield the text of a synthesis stream."""
    async for message in messages:
        yield message.text


def speech(chunk: SpeechChunk) -> list[pb.SpeechChunk]:
    """Return audio as messages; the marks go with the first."""
    first, *rest = (pb.SpeechChunk(pcm=piece) for piece in pieces(chunk.pcm))
    first.marks.extend(pb.WordMark(char=mark.char, sample=mark.sample) for mark in chunk.marks)
    return [first, *rest]


def speech_of(message: pb.SpeechChunk) -> SpeechChunk:
    """Return the audio in a message."""
    marks = tuple(WordMark(mark.char, mark.sample) for mark in message.marks)
    return SpeechChunk(pcm_of(message.pcm), marks)


def _optional(message: Any, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None
