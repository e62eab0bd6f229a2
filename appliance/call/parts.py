# SPDX-License-Identifier: Apache-2.0
"""What the core remembers of the caller's turn and of the agent's answer. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.call.clauses import ClauseSplitter, Echo
from appliance.call.inputs import ToolFinished
from appliance.plugin import ToolCall


@dataclass(slots=True)
class CallerTurn:
    """A turn of the caller, from its first speech until it is committed or dropped."""

    id: int
    onset_ms: int
    speaking: bool = True
    silent_since_ms: int = 0
    flush: int = 0
    final: str | None = None
    """Text of the newest flush, None while the recognizer works on it."""
    interim: str = ""
    deaf: bool = False
    """Its recognizer failed when its words were known already."""
    lost: bool = False
    """The caller said something, and no words came of it in time."""
    wait_ms: int = 0
    """Silence that ends it."""
    suspected_ms: int = 0
    """Onset of a sound in the pause that may be speech; 0 when there is none."""
    probability: float | None = None
    """The turn detector's opinion of the newest flush."""
    over: bool = False
    """The end-of-turn decision fell; only the text is still awaited."""
    due_ms: int = 0
    """When the decision fell."""

    @property
    def speech_ms(self) -> int:
        """From the first speech to the last, pauses included."""
        return self.silent_since_ms - self.onset_ms


@dataclass(slots=True)
class Reply:
    """One answer of the agent: one generation, or several when tools are called between."""

    gen: int
    first_gen: int
    canned: bool = False
    interruptible: bool = True
    hang_up: bool = False
    splitter: ClauseSplitter = field(default_factory=ClauseSplitter)
    texts: dict[int, str] = field(default_factory=dict)
    clauses: dict[int, list[str]] = field(default_factory=dict)
    """What each generation handed to the synthesizer."""
    calls: dict[str, ToolCall] = field(default_factory=dict)
    """Tool calls of the current generation."""
    results: dict[str, ToolFinished] = field(default_factory=dict)
    generated: bool = False
    rounds: int = 0
    remembered: bool = False
    """Its current generation is in the history already."""
    tools_used: bool = False
    spoken_gen: int = 0
    """Newest generation with speech asked for; 0 when none was."""
    audible: bool = False
    idle: bool = True
    """All speech asked for so far is on the wire."""
    retries: int = 0
    """How often the model broke off in mid-answer and was asked again."""
    echo: Echo | None = None
    """Holds back what a repeated generation says again."""
    max_tokens: int = 0
    """A bound so tight that the answer may end in mid-sentence; 0 when there is none."""
    drafted_ms: int | None = None
    """It was begun before the turn was committed: when."""
    first_text_ms: int | None = None
    first_clause_ms: int | None = None

    @property
    def tools_running(self) -> bool:
        """Whether a called tool has not returned."""
        return len(self.results) < len(self.calls)

    def text(self) -> str:
        """Return all that this answer says."""
        return " ".join(" ".join(self.texts.values()).split())

    def handed(self, gen: int) -> str:
        """Return what a generation handed to the synthesizer."""
        return " ".join(self.clauses.get(gen, ()))
