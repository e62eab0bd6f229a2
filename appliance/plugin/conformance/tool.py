# SPDX-License-Identifier: Apache-2.0
"""Checks of a tool. It is not run: what it does to the world is not the kit's to do."""

from __future__ import annotations

import json
import re

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from appliance.plugin.acting import Tool
from appliance.plugin.conformance.findings import Check, ViolationError, check, require
from appliance.plugin.conformance.subject import Subject

NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")


async def use(tool: Tool, subject: Subject) -> None:
    """Read what it says of itself."""
    json.dumps(dict(tool.spec.parameters))


@check("its name and description are fit for a model")
async def it_is_named(subject: Subject) -> str:
    """The model chooses by them; services accept such names only."""
    spec = subject.provider.spec
    require(bool(NAME.fullmatch(spec.name)), f"{spec.name!r} is no name for a tool")
    require(len(spec.description.split()) >= 3, "its description does not say what it does")
    return str(spec.name)


@check("its parameters are a JSON Schema object, described one by one")
async def its_schema_is_valid(subject: Subject) -> str:
    """Arguments are validated against it before the tool sees them."""
    schema = subject.provider.spec.parameters
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ViolationError(f"not a JSON Schema: {error.message}") from error
    require(schema.get("type") == "object", "its type is not object")
    fields = schema.get("properties", {})
    bare = sorted(name for name, about in fields.items() if not about.get("description"))
    require(not bare, f"no description: {', '.join(bare)}")
    return f"{len(fields)} parameters"


@check("it has a time limit that a caller would wait for")
async def it_has_a_time_limit(subject: Subject) -> str:
    """Silence on the line feels long."""
    limit = subject.provider.capabilities.timeout_s
    require(0 < limit <= 60, f"{limit} s")
    return f"{limit:g} s"


CHECKS: tuple[Check, ...] = (it_is_named, its_schema_is_valid, it_has_a_time_limit)
