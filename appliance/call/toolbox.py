# SPDX-License-Identifier: Apache-2.0
"""An agent's tools: offers them to the model, validates what it calls, runs it within its time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema
import structlog

from appliance.plugin import ProviderError, Tool, ToolCall, ToolContext, ToolResult, ToolSpec

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the model is told: JSON text, and whether the call ends."""

    ok: bool
    content: str
    end_call: bool = False


class ToolBox:
    """The tools of one call.

    Args:
        tools: in the order in which the model sees them.
        agent: name, for the tools' context.
        caller: the far party's address.
        variables: the agent's prompt variables.
    """

    def __init__(
        self,
        tools: Sequence[Tool],
        *,
        agent: str = "",
        caller: str = "",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._tools = {tool.spec.name: tool for tool in tools}
        self._agent = agent
        self._caller = caller
        self._variables = variables or {}

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What the model is offered."""
        return tuple(tool.spec for tool in self._tools.values())

    async def run(self, call: ToolCall, call_id: str) -> Outcome:
        """Run a tool call. Never raises: a failure is told to the model, which tells the caller."""
        tool = self._tools.get(call.name)
        if tool is None:
            return _refused(f"there is no tool {call.name!r}")
        try:
            arguments = _arguments(call.arguments, tool.spec.parameters)
        except ValueError as error:
            return _refused(str(error))
        context = ToolContext(
            call_id, f"{call_id}:{call.id}", self._agent, self._caller, self._variables
        )
        try:
            async with asyncio.timeout(tool.capabilities.timeout_s):
                result = await tool.run(arguments, context)
            return _done(result)
        except TimeoutError:
            return _refused(f"no answer within {tool.capabilities.timeout_s:g} s")
        except ProviderError as error:
            return _refused(error.message)
        except Exception:
            _log.exception("tool failed", tool=call.name, call_id=call_id)
            return _refused("the tool failed")


def _arguments(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Parse and validate; ValueError in words that a model can act on."""
    try:
        value = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        msg = f"the arguments are not JSON: {error.msg}"
        raise ValueError(msg) from error
    validator = jsonschema.Draft202012Validator(dict(schema))
    problems = [
        f"{'.'.join(map(str, item.absolute_path)) or 'arguments'}: {item.message}"
        for item in validator.iter_errors(value)
    ]
    if problems:
        raise ValueError("; ".join(problems))
    if not isinstance(value, dict):
        msg = "the arguments must be an object"
        raise ValueError(msg)  # noqa: TRY004 - told to the model like every other bad argument
    return value


def _done(result: ToolResult) -> Outcome:
    ok = bool(result.content.get("ok", True))
    return Outcome(ok, json.dumps(dict(result.content), ensure_ascii=False), result.end_call)


def _refused(reason: str) -> Outcome:
    return Outcome(ok=False, content=json.dumps({"ok": False, "error": reason}))
