# SPDX-License-Identifier: Apache-2.0
"""What the call core is told. Each input is a plain value; its time comes beside it.

Every input is also an event: `kind` names it in the log, its fields are the event's data. So the log
holds all that the core was told, and a replay needs nothing else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeAlias


@dataclass(frozen=True, slots=True)
class Answered:
    """Media flows."""

    kind: ClassVar[str] = "call.answered"
    codec: str


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The caller has spoken for `start_ms`; `onset_ms` is when it began."""

    kind: ClassVar[str] = "speech.started"
    onset_ms: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The caller has been silent for `stop_ms`; `since_ms` is when the silence began."""

    kind: ClassVar[str] = "speech.ended"
    since_ms: int


@dataclass(frozen=True, slots=True)
class SpeechSuspected:
    """Soon after the caller fell silent a sound began that is too short yet to be speech or a click."""

    kind: ClassVar[str] = "speech.suspected"
    onset_ms: int


@dataclass(frozen=True, slots=True)
class InterimTranscript:
    """Words of a turn that is still going on."""

    kind: ClassVar[str] = "transcript.interim"
    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class FinalTranscript:
    """Words of a turn up to its `flush`-th flush. `compute_ms`: from the flush to this answer."""

    kind: ClassVar[str] = "transcript.final"
    turn: int
    flush: int
    text: str
    compute_ms: int = 0


@dataclass(frozen=True, slots=True)
class RecognitionFailed:
    """No provider of the chain could transcribe the turn."""

    kind: ClassVar[str] = "error.recognition"
    turn: int
    message: str


@dataclass(frozen=True, slots=True)
class TurnJudged:
    """The turn detector's probability that the turn is over, asked at the `flush`-th flush."""

    kind: ClassVar[str] = "turn.judged"
    turn: int
    flush: int
    probability: float


@dataclass(frozen=True, slots=True)
class ReplyText:
    """A piece of the model's answer."""

    kind: ClassVar[str] = "reply.text"
    gen: int
    text: str


@dataclass(frozen=True, slots=True)
class ReplyToolCall:
    """The model calls a tool; `arguments` is JSON text."""

    kind: ClassVar[str] = "reply.tool_call"
    gen: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ReplyEnded:
    """The model's answer is complete."""

    kind: ClassVar[str] = "reply.ended"
    gen: int
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ReplyFailed:
    """No provider of the chain could answer."""

    kind: ClassVar[str] = "error.reply"
    gen: int
    message: str


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A tool returned. `content` is JSON text for the model."""

    kind: ClassVar[str] = "tool.result"
    gen: int
    id: str
    ok: bool
    content: str
    end_call: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class PlaybackStarted:
    """The wire took the first sample of what `gen` says."""

    kind: ClassVar[str] = "speak.started"
    gen: int
    synthesis_ms: int = 0


@dataclass(frozen=True, slots=True)
class PlaybackIdle:
    """All speech asked for so far is synthesized and on the wire."""

    kind: ClassVar[str] = "speak.idle"
    gen: int


@dataclass(frozen=True, slots=True)
class PlaybackStopped:
    """Speech was dropped on request. `heard`: (gen, words that reached the wire) in order."""

    kind: ClassVar[str] = "speak.stopped"
    heard: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class SpeechFailed:
    """No provider of the chain could synthesize; what `gen` had left to say is lost."""

    kind: ClassVar[str] = "error.speech"
    gen: int
    message: str


@dataclass(frozen=True, slots=True)
class DtmfPressed:
    """The caller pressed a key."""

    kind: ClassVar[str] = "dtmf"
    digit: str


@dataclass(frozen=True, slots=True)
class HoldChanged:
    """The far end put the call on hold or took it off."""

    kind: ClassVar[str] = "hold"
    held: bool


@dataclass(frozen=True, slots=True)
class LoadChanged:
    """How busy the box is: see `appliance.call.admission.Level`."""

    kind: ClassVar[str] = "load"
    level: int


@dataclass(frozen=True, slots=True)
class LegEnded:
    """The leg is gone."""

    kind: ClassVar[str] = "leg.ended"
    cause: str


@dataclass(frozen=True, slots=True)
class Timer:
    """The core's own deadline has come."""

    kind: ClassVar[str] = "timer"


Input: TypeAlias = (
    Answered
    | SpeechStarted
    | SpeechStopped
    | SpeechSuspected
    | InterimTranscript
    | FinalTranscript
    | RecognitionFailed
    | TurnJudged
    | ReplyText
    | ReplyToolCall
    | ReplyEnded
    | ReplyFailed
    | ToolFinished
    | PlaybackStarted
    | PlaybackIdle
    | PlaybackStopped
    | SpeechFailed
    | DtmfPressed
    | HoldChanged
    | LoadChanged
    | LegEnded
    | Timer
)

_BY_KIND: dict[str, type[Any]] = {cls.kind: cls for cls in Input.__args__}


def to_data(value: Input) -> dict[str, Any]:
    """Return the event data of an input."""
    return asdict(value)


def from_event(kind: str, data: dict[str, Any]) -> Input | None:
    """Return the input that an event records, or None for an event that the core produced."""
    cls = _BY_KIND.get(kind)
    if cls is None:
        return None
    if cls is PlaybackStopped:
        return PlaybackStopped(tuple((int(gen), str(text)) for gen, text in data["heard"]))
    made: Input = cls(**data)
    return made
