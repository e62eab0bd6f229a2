# SPDX-License-Identifier: Apache-2.0
"""An agent: what a designer writes in a YAML file. Typed, with a default for all but the essential."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, time, timedelta
from typing import Annotated, Any, Literal

import jsonschema
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    field_validator,
    model_validator,
)

from appliance.call.spoken_hours import spoken_hours
from appliance.call.timing import TurnTaking

_JINJA = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
BUILT_IN_VARIABLES = ("today", "tomorrow", "time", "date", "caller", "called")
HOURS_VARIABLES = ("hours_today", "hours_tomorrow")
"""Known where a `book_appointment` tool tells the opening hours; empty on a day that is closed."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Engines(_Model):
    """Provider chains by the names in the box's config: the first that works is used."""

    speech_to_text: tuple[str, ...] = Field(("local",), min_length=1)
    language_model: tuple[str, ...] = Field(("local",), min_length=1)
    text_to_speech: tuple[str, ...] = Field(("local",), min_length=1)


class Voice(_Model):
    """How the agent sounds."""

    name: str | None = Field(None, description="Voice of the synthesizer; None is its default.")
    speed: float = Field(1.0, ge=0.5, le=2.0, description="1.0 is the voice's own pace.")


class Phrases(_Model):
    """What the agent says without asking the model."""

    not_understood: str = "I'm sorry, I didn't catch that."
    still_there: str = "Are you still there?"
    goodbye: str = "Thank you for calling. Goodbye."
    apology: str = "I'm sorry, something went wrong on my side. Could you say that again?"
    giving_up: str = "I'm sorry, I can't help you right now. Please call again later. Goodbye."


class Limits(_Model):
    """Bounds of a call."""

    max_call_s: int = Field(900, ge=10, le=14400, description="Longest call, in seconds.")
    silence_prompts: int = Field(
        2, ge=0, le=10, description="How often a silent caller is asked before the call ends."
    )
    reply_tokens: int = Field(160, ge=8, le=2048, description="Longest answer, in tokens.")
    history_messages: int = Field(40, ge=4, le=400, description="Messages the model is shown.")
    tool_rounds: int = Field(4, ge=0, le=16, description="Tool calls in a row within one answer.")
    failures: int = Field(
        3, ge=1, le=10, description="Engine failures in a row after which the agent gives up."
    )


class EndCall(_Model):
    """The agent may end the call."""

    type: Literal["end_call"]
    name: str = "end_call"
    description: str = "End the call, after saying goodbye."


class BookAppointment(_Model):
    """The agent writes into the box's own calendar."""

    type: Literal["book_appointment"]
    name: str = "book_appointment"
    description: str = "Book an appointment."
    hours: dict[str, tuple[time, time]] = Field(
        description='Opening hours by weekday: `Monday: ["09:00", "17:00"]`. A day left out is closed.'
    )

    @field_validator("hours")
    @classmethod
    def _known_days(cls, value: dict[str, tuple[time, time]]) -> dict[str, tuple[time, time]]:
        for day, (opens, closes) in value.items():
            if day not in _WEEKDAYS:
                msg = f"{day!r} is not a weekday; write one of {', '.join(_WEEKDAYS)}"
                raise ValueError(msg)
            if opens >= closes:
                msg = f"{day} closes at {closes:%H:%M} before it opens at {opens:%H:%M}"
                raise ValueError(msg)
        return value


class Webhook(_Model):
    """The agent calls an HTTP service of the customer's own."""

    type: Literal["webhook"]
    name: str = Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,63}$")
    description: str
    url: HttpUrl
    method: Literal["GET", "POST", "PUT"] = "POST"
    headers: dict[str, SecretStr] = Field(default_factory=dict, description="Sent as they are.")
    parameters: dict[str, Any] = Field(
        default_factory=lambda: {"type": "object", "properties": {}},
        description="JSON Schema of the arguments.",
    )
    timeout_s: float = Field(5.0, gt=0, le=60)
    changes_the_world: bool = Field(True, description="It has side effects.")

    @field_validator("parameters")
    @classmethod
    def _valid_schema(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            jsonschema.Draft202012Validator.check_schema(value)
        except jsonschema.SchemaError as error:
            msg = f"not a valid JSON Schema: {error.message}"
            raise ValueError(msg) from error
        if value.get("type") != "object":
            msg = "the schema of a tool's arguments must have type: object"
            raise ValueError(msg)
        return value


class PluginTool(_Model):
    """A tool from a plugin, by its name in the box's config ([tools.NAME])."""

    type: Literal["plugin"]
    name: str


ToolConfig = Annotated[
    EndCall | BookAppointment | Webhook | PluginTool, Field(discriminator="type")
]


class Agent(_Model):
    """One agent. The file's name is not its name: `name` is."""

    version: Literal[1] = Field(description="Version of this file format.")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="Used in routes.")
    description: str = ""
    language: str = Field("en", description="BCP 47 tag.")
    greeting: str = Field("", description="Said when the call is answered; a template like prompt.")
    prompt: str = Field(min_length=1, description="System prompt: a Jinja template.")
    variables: dict[str, str] = Field(default_factory=dict, description="Used by the templates.")
    hints: tuple[str, ...] = Field((), description="Words the recognizer should expect.")
    engines: Engines = Engines()
    voice: Voice = Voice()
    turn_taking: TurnTaking = TurnTaking()
    phrases: Phrases = Phrases()
    limits: Limits = Limits()
    tools: tuple[ToolConfig, ...] = ()
    interruptible_greeting: bool = True
    temperature: float = Field(0.0, ge=0, le=2)

    @model_validator(mode="after")
    def _consistent(self) -> Agent:
        names = [tool.name for tool in self.tools]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            msg = f"tools: {', '.join(twice)} is defined twice; give each tool its own name"
            raise ValueError(msg)
        known = [*BUILT_IN_VARIABLES, *(HOURS_VARIABLES if self._opening_hours() else ())]
        for field in ("prompt", "greeting"):
            try:
                self._render(getattr(self, field), dict.fromkeys(known, "x"))
            except TemplateError as error:
                msg = (
                    f"{field}: {error}; known variables are {', '.join([*self.variables, *known])}"
                )
                if any(name in str(error) for name in HOURS_VARIABLES):
                    msg += "; the hours of a day come from a book_appointment tool: add one"
                raise ValueError(msg) from error
        return self

    def render(self, template: str, now: datetime, *, caller: str = "", called: str = "") -> str:
        """Fill a template (`prompt` or `greeting`) for a call that begins at `now` (local time)."""
        today, tomorrow = (_WEEKDAYS[day.weekday()] for day in (now, now + timedelta(days=1)))
        variables = {
            "today": today,
            "tomorrow": tomorrow,
            "time": f"{now:%H:%M}",
            "date": f"{now:%Y-%m-%d}",
            "caller": caller,
            "called": called,
        }
        if hours := self._opening_hours():
            for name, day in zip(HOURS_VARIABLES, (today, tomorrow), strict=True):
                variables[name] = spoken_hours(*hours[day], self.language) if day in hours else ""
        return self._render(template, variables)

    def _opening_hours(self) -> dict[str, tuple[time, time]]:
        """Return those of the first calendar, by weekday."""
        return next((tool.hours for tool in self.tools if isinstance(tool, BookAppointment)), {})

    def _render(self, template: str, built_in: Mapping[str, str]) -> str:
        return _JINJA.from_string(template).render({**built_in, **self.variables}).strip()

    def revision(self) -> str:
        """Return a short hash of all that makes this agent behave as it does."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]
