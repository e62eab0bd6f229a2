# SPDX-License-Identifier: Apache-2.0
"""What the call core wants done. The shell does it; none of these has an effect by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from appliance.plugin import LlmRequest, TurnContext


@dataclass(frozen=True, slots=True)
class OpenRecognition:
    """Start a recognition stream for a turn, with the audio from `from_ms` on."""

    turn: int
    from_ms: int


@dataclass(frozen=True, slots=True)
class FlushRecognition:
    """Ask for a final transcript of the turn so far."""

    turn: int
    flush: int


@dataclass(frozen=True, slots=True)
class CloseRecognition:
    """The turn is over: drop its stream."""

    turn: int


@dataclass(frozen=True, slots=True)
class JudgeTurn:
    """Ask the turn detector."""

    turn: int
    flush: int
    context: TurnContext


@dataclass(frozen=True, slots=True)
class Generate:
    """Ask the model. Without `committed` it is a draft: its speech comes by `Prepare`, and what it
    used counts as spoken only after `Commit`.
    """

    gen: int
    request: LlmRequest
    committed: bool = True


@dataclass(frozen=True, slots=True)
class CancelGenerate:
    """Stop asking; nothing of `gen` is wanted any more."""

    gen: int


@dataclass(frozen=True, slots=True)
class RunTool:
    """Run a tool; the shell validates the arguments."""

    gen: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Speak:
    """Say a clause after all clauses asked for before."""

    gen: int
    text: str


@dataclass(frozen=True, slots=True)
class Prepare:
    """Synthesize a clause of a draft after all its clauses before, and hold it back."""

    gen: int
    text: str


@dataclass(frozen=True, slots=True)
class Commit:
    """The draft is the answer: what is prepared of it plays from now on."""

    gen: int


@dataclass(frozen=True, slots=True)
class Discard:
    """The draft is not wanted: cancel its generation and forget its speech. None of it was heard."""

    gen: int


@dataclass(frozen=True, slots=True)
class StopSpeaking:
    """Drop all speech now; report what was heard by `PlaybackStopped`."""


@dataclass(frozen=True, slots=True)
class Duck:
    """Set the gain of speech, in dB, from the next frame on."""

    gain_db: float


@dataclass(frozen=True, slots=True)
class HangUp:
    """End the call."""


Action: TypeAlias = (
    OpenRecognition
    | FlushRecognition
    | CloseRecognition
    | JudgeTurn
    | Generate
    | CancelGenerate
    | RunTool
    | Speak
    | Prepare
    | Commit
    | Discard
    | StopSpeaking
    | Duck
    | HangUp
)
