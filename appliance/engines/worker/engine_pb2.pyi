# SPDX-License-Identifier: Apache-2.0
# Written by tools/protos.py from engine.proto; do not edit.
# mypy: ignore-errors
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Description(_message.Message):
    __slots__ = ("protocol", "kind", "offer", "speech_to_text", "language_model", "text_to_speech", "embedder", "pid")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OFFER_FIELD_NUMBER: _ClassVar[int]
    SPEECH_TO_TEXT_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_TO_SPEECH_FIELD_NUMBER: _ClassVar[int]
    EMBEDDER_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    kind: str
    offer: str
    speech_to_text: SttCapabilities
    language_model: LlmCapabilities
    text_to_speech: TtsCapabilities
    embedder: EmbedderCapabilities
    pid: int
    def __init__(self, protocol: _Optional[int] = ..., kind: _Optional[str] = ..., offer: _Optional[str] = ..., speech_to_text: _Optional[_Union[SttCapabilities, _Mapping]] = ..., language_model: _Optional[_Union[LlmCapabilities, _Mapping]] = ..., text_to_speech: _Optional[_Union[TtsCapabilities, _Mapping]] = ..., embedder: _Optional[_Union[EmbedderCapabilities, _Mapping]] = ..., pid: _Optional[int] = ...) -> None: ...

class SttCapabilities(_message.Message):
    __slots__ = ("sample_rates", "interim_results", "languages", "hints", "local")
    SAMPLE_RATES_FIELD_NUMBER: _ClassVar[int]
    INTERIM_RESULTS_FIELD_NUMBER: _ClassVar[int]
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    HINTS_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    sample_rates: _containers.RepeatedScalarFieldContainer[int]
    interim_results: bool
    languages: _containers.RepeatedScalarFieldContainer[str]
    hints: bool
    local: bool
    def __init__(self, sample_rates: _Optional[_Iterable[int]] = ..., interim_results: _Optional[bool] = ..., languages: _Optional[_Iterable[str]] = ..., hints: _Optional[bool] = ..., local: _Optional[bool] = ...) -> None: ...

class LlmCapabilities(_message.Message):
    __slots__ = ("tool_calling", "streaming", "context_tokens", "local")
    TOOL_CALLING_FIELD_NUMBER: _ClassVar[int]
    STREAMING_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    tool_calling: bool
    streaming: bool
    context_tokens: int
    local: bool
    def __init__(self, tool_calling: _Optional[bool] = ..., streaming: _Optional[bool] = ..., context_tokens: _Optional[int] = ..., local: _Optional[bool] = ...) -> None: ...

class TtsCapabilities(_message.Message):
    __slots__ = ("sample_rate", "streaming", "word_marks", "languages", "voices", "local")
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    STREAMING_FIELD_NUMBER: _ClassVar[int]
    WORD_MARKS_FIELD_NUMBER: _ClassVar[int]
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    VOICES_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    sample_rate: int
    streaming: bool
    word_marks: bool
    languages: _containers.RepeatedScalarFieldContainer[str]
    voices: _containers.RepeatedScalarFieldContainer[str]
    local: bool
    def __init__(self, sample_rate: _Optional[int] = ..., streaming: _Optional[bool] = ..., word_marks: _Optional[bool] = ..., languages: _Optional[_Iterable[str]] = ..., voices: _Optional[_Iterable[str]] = ..., local: _Optional[bool] = ...) -> None: ...

class EmbedderCapabilities(_message.Message):
    __slots__ = ("dimensions", "max_tokens", "local")
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    dimensions: int
    max_tokens: int
    local: bool
    def __init__(self, dimensions: _Optional[int] = ..., max_tokens: _Optional[int] = ..., local: _Optional[bool] = ...) -> None: ...

class TranscribeInput(_message.Message):
    __slots__ = ("request", "pcm", "flush")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PCM_FIELD_NUMBER: _ClassVar[int]
    FLUSH_FIELD_NUMBER: _ClassVar[int]
    request: SttRequest
    pcm: bytes
    flush: bool
    def __init__(self, request: _Optional[_Union[SttRequest, _Mapping]] = ..., pcm: _Optional[bytes] = ..., flush: _Optional[bool] = ...) -> None: ...

class SttRequest(_message.Message):
    __slots__ = ("call_id", "language", "hints")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    HINTS_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    language: str
    hints: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, call_id: _Optional[str] = ..., language: _Optional[str] = ..., hints: _Optional[_Iterable[str]] = ...) -> None: ...

class Transcript(_message.Message):
    __slots__ = ("text", "is_final", "audio_s", "confidence", "language")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    AUDIO_S_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    text: str
    is_final: bool
    audio_s: float
    confidence: float
    language: str
    def __init__(self, text: _Optional[str] = ..., is_final: _Optional[bool] = ..., audio_s: _Optional[float] = ..., confidence: _Optional[float] = ..., language: _Optional[str] = ...) -> None: ...

class ReplyInput(_message.Message):
    __slots__ = ("request", "pace")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PACE_FIELD_NUMBER: _ClassVar[int]
    request: LlmRequest
    pace: Pace
    def __init__(self, request: _Optional[_Union[LlmRequest, _Mapping]] = ..., pace: _Optional[_Union[Pace, _Mapping]] = ...) -> None: ...

class Pace(_message.Message):
    __slots__ = ("committed", "unplayed_s")
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    UNPLAYED_S_FIELD_NUMBER: _ClassVar[int]
    committed: bool
    unplayed_s: float
    def __init__(self, committed: _Optional[bool] = ..., unplayed_s: _Optional[float] = ...) -> None: ...

class LlmRequest(_message.Message):
    __slots__ = ("messages", "tools", "max_tokens", "temperature", "seed", "call_id")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    tools: _containers.RepeatedCompositeFieldContainer[ToolSpec]
    max_tokens: int
    temperature: float
    seed: int
    call_id: str
    def __init__(self, messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ..., tools: _Optional[_Iterable[_Union[ToolSpec, _Mapping]]] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., seed: _Optional[int] = ..., call_id: _Optional[str] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("role", "content", "tool_calls", "tool_call_id", "name")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALL_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    tool_calls: _containers.RepeatedCompositeFieldContainer[ToolCall]
    tool_call_id: str
    name: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ..., tool_calls: _Optional[_Iterable[_Union[ToolCall, _Mapping]]] = ..., tool_call_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ToolCall(_message.Message):
    __slots__ = ("id", "name", "arguments")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    arguments: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., arguments: _Optional[str] = ...) -> None: ...

class ToolSpec(_message.Message):
    __slots__ = ("name", "description", "parameters")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    parameters: str
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., parameters: _Optional[str] = ...) -> None: ...

class ReplyDelta(_message.Message):
    __slots__ = ("text", "tool_call", "usage")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALL_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    text: str
    tool_call: ToolCall
    usage: TokenUsage
    def __init__(self, text: _Optional[str] = ..., tool_call: _Optional[_Union[ToolCall, _Mapping]] = ..., usage: _Optional[_Union[TokenUsage, _Mapping]] = ...) -> None: ...

class TokenUsage(_message.Message):
    __slots__ = ("prompt", "completion", "cached")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    prompt: int
    completion: int
    cached: int
    def __init__(self, prompt: _Optional[int] = ..., completion: _Optional[int] = ..., cached: _Optional[int] = ...) -> None: ...

class SpeakInput(_message.Message):
    __slots__ = ("request", "text")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    request: TtsRequest
    text: str
    def __init__(self, request: _Optional[_Union[TtsRequest, _Mapping]] = ..., text: _Optional[str] = ...) -> None: ...

class TtsRequest(_message.Message):
    __slots__ = ("call_id", "voice", "language", "speed")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    VOICE_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    SPEED_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    voice: str
    language: str
    speed: float
    def __init__(self, call_id: _Optional[str] = ..., voice: _Optional[str] = ..., language: _Optional[str] = ..., speed: _Optional[float] = ...) -> None: ...

class SpeechChunk(_message.Message):
    __slots__ = ("pcm", "marks")
    PCM_FIELD_NUMBER: _ClassVar[int]
    MARKS_FIELD_NUMBER: _ClassVar[int]
    pcm: bytes
    marks: _containers.RepeatedCompositeFieldContainer[WordMark]
    def __init__(self, pcm: _Optional[bytes] = ..., marks: _Optional[_Iterable[_Union[WordMark, _Mapping]]] = ...) -> None: ...

class WordMark(_message.Message):
    __slots__ = ("char", "sample")
    CHAR_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    char: int
    sample: int
    def __init__(self, char: _Optional[int] = ..., sample: _Optional[int] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("texts",)
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, texts: _Optional[_Iterable[str]] = ...) -> None: ...

class Embeddings(_message.Message):
    __slots__ = ("rows", "vectors")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    vectors: bytes
    def __init__(self, rows: _Optional[int] = ..., vectors: _Optional[bytes] = ...) -> None: ...

class Fault(_message.Message):
    __slots__ = ("type", "message", "remedy", "retry_after_s")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    type: str
    message: str
    remedy: str
    retry_after_s: float
    def __init__(self, type: _Optional[str] = ..., message: _Optional[str] = ..., remedy: _Optional[str] = ..., retry_after_s: _Optional[float] = ...) -> None: ...
