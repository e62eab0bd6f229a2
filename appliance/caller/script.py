# SPDX-License-Identifier: Apache-2.0
"""What the caller does, turn by turn: a YAML file or the same in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

KINDS = ("say", "wav", "dtmf", "wait", "hold")


class ScriptError(Exception):
    """A script cannot be used; the message names file and place."""


class TurnSpec(BaseModel):
    """One turn: exactly one of `say`, `wav`, `dtmf`, `wait`, `hold`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    say: str | None = Field(None, min_length=1, description="Text to speak.")
    wav: Path | None = Field(None, description="File to play, from the script's folder.")
    dtmf: Annotated[str, Field(pattern=r"^[0-9*#A-D]+$")] | None = Field(
        None, description="Digits to send (RFC 4733)."
    )
    wait: float | None = Field(None, gt=0, le=600, description="Seconds to say nothing.")
    hold: float | None = Field(None, gt=0, le=600, description="Seconds to keep the agent on hold.")
    interrupt_after_s: float | None = Field(
        None,
        ge=0,
        description="Begin so long after the agent began to speak; else when it is done.",
    )
    expect_reply: bool | None = Field(
        None, description="Wait for the agent's answer. Default: yes, but for `wait` and `hold`."
    )
    pause_s: float = Field(0.0, ge=0, le=60, description="Further silence before the turn.")
    voice: str | None = Field(None, description="Voice for `say`; default: the script's.")
    speed: float | None = Field(None, gt=0.3, lt=3, description="Tempo for `say`, likewise.")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            has = f"this one has {' and '.join(given)}" if given else "this one has none"
            message = f"a turn has one of {', '.join(KINDS)}; {has}"
            raise ValueError(message)
        return self

    @property
    def kind(self) -> str:
        """Return which of them it is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)


class Script(BaseModel):
    """A conversation from the caller's side."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    turns: tuple[TurnSpec, ...] = Field((), description="What to do, in order.")
    greeting: bool = Field(True, description="Wait for the agent's greeting first.")
    voice: str | None = Field(None, description="Voice of the synthesizer.")
    speed: float = Field(1.0, gt=0.3, lt=3, description="Its tempo.")


def load_script(path: Path) -> Script:
    """Read a script; `wav` paths become relative to its folder.

    Raises:
        ScriptError: unreadable, not YAML, or wrong.
    """
    try:
        tree: Any = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptError(f"{path} cannot be read: {error}") from error
    except MarkedYAMLError as error:
        line = (error.problem_mark.line if error.problem_mark else 0) + 1
        raise ScriptError(f"{path}:{line}: not valid YAML: {error.problem}") from error
    if isinstance(tree, list):
        tree = {"turns": tree}
    try:
        script = Script.model_validate(tree or {})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = str(first["msg"]).removeprefix("Value error, ")
        raise ScriptError(f"{path}: {place}: {message}") from error
    turns = tuple(
        turn.model_copy(update={"wav": path.parent / turn.wav}) if turn.wav else turn
        for turn in script.turns
    )
    return script.model_copy(update={"turns": turns})
