# SPDX-License-Identifier: Apache-2.0
"""Contracts of what acts in or watches over a call: tools, guardrails, recording stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from appliance.plugin.language import ToolSpec


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Which call runs the tool.

    Attributes:
        call_id: the call.
        idempotency_key: the same for a repeated attempt of the same tool call; pass it on where the
            tool changes the world.
        agent: the agent's name.
        caller: the far party's address.
        variables: the agent's prompt variables.
    """

    call_id: str
    idempotency_key: str
    agent: str = ""
    caller: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returns.

    Attributes:
        content: JSON-serialisable object shown to the model.
        end_call: hang up when everything said so far has been heard.
    """

    content: Mapping[str, Any]
    end_call: bool = False


@dataclass(frozen=True, slots=True)
class ToolCapabilities:
    """`changes_the_world`: it has side effects, so it runs only in a committed turn."""

    changes_the_world: bool = True
    timeout_s: float = 10.0
    local: bool = True


class Tool(Protocol):
    """Something the model can do."""

    spec: ToolSpec
    capabilities: ToolCapabilities

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Do it. `arguments` were validated against `spec.parameters`.

        Raises:
            ProviderError: told to the model, which apologises to the caller.
        """
        ...

    async def aclose(self) -> None:
        """Release connections. Idempotent."""


class Stage(StrEnum):
    """What a guardrail looks at."""

    HEARD = "heard"
    TOOL_CALL = "tool_call"
    REPLY = "reply"


class Action(StrEnum):
    """What a guardrail decided."""

    ALLOW = "allow"
    REPLACE = "replace"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`text` replaces the checked text when `action` is REPLACE; `reason` goes to the event log."""

    action: Action = Action.ALLOW
    text: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GuardrailCapabilities:
    """Stages it wants to see; `deadline_s` after which its silence counts as `on_timeout`."""

    stages: frozenset[Stage] = frozenset(Stage)
    deadline_s: float = 0.2
    on_timeout: Action = Action.ALLOW
    local: bool = True


class Guardrail(Protocol):
    """Checks what is heard, called or said."""

    capabilities: GuardrailCapabilities

    async def check(self, stage: Stage, text: str, call_id: str) -> Verdict:
        """Judge `text`. Runs beside the call, never in the audio path."""
        ...

    async def aclose(self) -> None:
        """Release resources. Idempotent."""


@dataclass(frozen=True, slots=True)
class RecordingCapabilities:
    """`encrypted`: at rest; `local`: nothing leaves the machine."""

    encrypted: bool = False
    local: bool = True


class RecordingStore(Protocol):
    """Keeps finished recordings."""

    capabilities: RecordingCapabilities

    async def put(self, call_id: str, wav: Path) -> str:
        """Store a finished recording; return the URI by which `fetch` finds it again.

        Raises:
            ProviderError: it could not be stored; the local file stays where it is.
        """
        ...

    async def fetch(self, uri: str, to: Path) -> None:
        """Write the recording to `to`.

        Raises:
            InvalidRequestError: no such recording.
        """

    async def delete(self, uri: str) -> None:
        """Remove the recording; one that is gone already is no error."""

    async def aclose(self) -> None:
        """Release connections. Idempotent."""
