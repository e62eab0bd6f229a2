# SPDX-License-Identifier: Apache-2.0
"""What a script is made of, and how one is read from YAML and checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from appliance.plugin import ConfigurationError
from trunkline_scripted.slots import SlotType

SORRY = "I am sorry, our assistant is not available just now. Please call again later."

VARIABLE = re.compile(r"\{([a-z_][a-z0-9_]*)\}")


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        message = f"not a regular expression: {error}"
        raise ValueError(message) from error
    return value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Pattern = Annotated[str, AfterValidator(_pattern)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(_as_list)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Slot(_Strict):
    """Something to ask the caller for."""

    type: SlotType = Field(description="What it is: day, time or name.")
    ask: str = Field(description="The question that asks for it.")


class Call(_Strict):
    """A tool call."""

    tool: str = Field(description="Name of the tool.")
    arguments: dict[str, str] = Field(
        default_factory=dict, description="Arguments; variables are filled in."
    )
    done: str = Field(
        "", description='Said when the result has no "ok": false. Its keys are variables.'
    )
    failed: str = Field("", description='Said when the result says "ok": false.')


class Rule(_Strict):
    """If the caller's words match, say and do this."""

    when: Patterns = Field(
        min_length=1,
        description="Regular expressions, any of them; case does not matter. Named groups are variables.",
    )
    say: str = Field("", description="The reply. {name} stands for a variable.")
    slots: dict[str, Slot] = Field(
        default_factory=dict,
        description="What must be known before `say` and `call`; asked in order.",
    )
    call: Call | None = Field(None, description="A tool to call after `say`.")


class Script(_Strict):
    """Rules, tried in order, and the variables they use."""

    rules: tuple[Rule, ...] = Field(
        (), description="Tried in order; the first that matches answers."
    )
    fallback: str = Field(SORRY, description="Said when no rule matches.")
    variables: dict[str, str] = Field(
        default_factory=dict, description="Values for {name} in replies and arguments."
    )
    prompt_variables: dict[str, Pattern] = Field(
        default_factory=dict,
        description="Variables read from the agent's prompt: name to a regular expression; its first "
        "group, or all of its match, is the value.",
    )

    def check(self, where: str) -> None:
        """Refuse replies that use a variable which nothing defines.

        Raises:
            ConfigurationError: names the rule and the variable.
        """
        common = {*self.variables, *self.prompt_variables, "last_reply"}
        for number, rule in enumerate(self.rules, 1):
            known = common | {g for pattern in rule.when for g in re.compile(pattern).groupindex}
            known |= set(rule.slots)
            known |= {f"{name}_spoken" for name, s in rule.slots.items() if s.type is SlotType.TIME}
            texts = [rule.say, *(slot.ask for slot in rule.slots.values())]
            texts += rule.call.arguments.values() if rule.call else ()
            for name in VARIABLE.findall(" ".join(texts)):
                if name not in known:
                    message = f"{where}: rule {number} uses {{{name}}}, which nothing defines"
                    raise ConfigurationError(message, remedy=f"add {name} under variables")


def load_script(path: Path) -> Script:
    """Read a script from a YAML file with the keys of `Script`.

    Raises:
        ConfigurationError: unreadable or wrong; the message names the file and the key.
    """
    try:
        data = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid YAML: {error}") from error
    try:
        return Script.model_validate(data or {})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{path}: {key}: {first['msg']}") from error
