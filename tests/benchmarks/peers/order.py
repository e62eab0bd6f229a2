# SPDX-License-Identifier: Apache-2.0
"""What an arm is asked to be: handed over as JSON, so that each agent can read it in its own environment."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Order:
    """One agent process.

    Attributes:
        path: the Unix socket where it takes calls.
        tuned: by its own documentation for latency; else as shipped.
        recognizer: folder of the Whisper model (CTranslate2).
        llm_url: base address of the OpenAI-compatible server that holds the language model.
        system: the agent's prompt, rendered.
        greeting: what it says first, rendered.
        tools: OpenAI-style function definitions; the model was trained to see them.
        voice: of eSpeak NG.
        max_tokens: longest answer.
        end_of_turn_s: silence that ends a turn, where `tuned` sets it.
    """

    path: str
    tuned: bool
    recognizer: str
    llm_url: str
    system: str
    greeting: str
    tools: list[dict[str, Any]]
    voice: str
    max_tokens: int
    end_of_turn_s: float

    def dump(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Order:
        """Read what `dump` wrote."""
        return cls(**json.loads(text))
