# SPDX-License-Identifier: Apache-2.0
"""Every timing constant of turn-taking, in one place, with its unit and reason.

caller  ▁▁▁▁▅▇▇▇▅▇▇▇▅▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁
            ^onset      ^last speech
            │           ├─ stop_ms ─┤ recognizer is flushed here
            │           │             ├ its words are here: an answer is drafted and its speech held
            │           ├──── end_of_turn_ms ────┤ turn committed: what is held of the answer plays
            └ pre_roll_ms of audio before the onset goes to the recognizer too

agent   ▇▇▅▇▇▇▅▇▇▇▅▇▃▁▁▁▁▁▁▁▁▁
caller  ▁▁▁▁▁▁▁▁▅▇▇▇▇▇▅▇▇▇▇
                ├start_ms┤ ducked by duck_db
                ├─ barge_in_ms ─┤ agent's speech is dropped
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TurnTaking(BaseModel):
    """How an agent takes turns. All times are milliseconds of the call's media clock."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    speech_threshold: float = Field(
        0.5, gt=0, lt=1, description="Voice activity score from which a window counts as speech."
    )
    silence_threshold: float = Field(
        0.35,
        gt=0,
        lt=1,
        description="Score below which a window counts as silence while the caller speaks.",
    )
    start_ms: int = Field(
        64, ge=32, le=500, description="Speech this long begins a turn: shorter sounds are clicks."
    )
    stop_ms: int = Field(
        96, ge=32, le=1000, description="Silence this long makes the recognizer finalize its text."
    )
    end_of_turn_ms: int = Field(
        300,
        ge=100,
        le=5000,
        description="Silence this long ends the caller's turn. 550 suits callers who pause to think.",
    )
    unsure_end_of_turn_ms: int = Field(
        1400,
        ge=100,
        le=10000,
        description="Silence that ends the turn when the turn detector says 'not finished'.",
    )
    speculation: bool = Field(
        True,
        description="Prepare the answer while the silence is waited out; more speech discards it.",
    )
    pre_roll_ms: int = Field(
        240, ge=0, le=500, description="Audio before the detected onset that the recognizer gets."
    )
    barge_in: bool = Field(True, description="The caller may interrupt the agent.")
    barge_in_ms: int = Field(
        128, ge=64, le=2000, description="Overlapping speech this long stops the agent."
    )
    duck_db: float = Field(
        -12.0, ge=-60, le=0, description="Gain of the agent's speech while an overlap is undecided."
    )
    backchannels: frozenset[str] = Field(
        frozenset(
            {"mm-hmm", "mm hmm", "mhm", "uh-huh", "uh huh", "yeah", "okay", "ok", "right", "i see"}
        ),
        description="What a listener says without wanting the turn: the agent goes on.",
    )
    recognize_timeout_ms: int = Field(
        2500, ge=200, le=20000, description="Longest wait for the recognizer after the turn's end."
    )
    reply_timeout_ms: int = Field(
        8000,
        ge=500,
        le=60000,
        description="Longest silence of the agent while it prepares an answer; then it apologises.",
    )
    silence_prompt_ms: int = Field(
        8000, ge=1000, le=120000, description="Silence of both after which the agent asks again."
    )
