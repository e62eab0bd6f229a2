# SPDX-License-Identifier: Apache-2.0
"""Turns what pydantic found wrong into problems that a person can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError

from appliance.config.lines import KeyPath
from appliance.config.sources import Tree

_MASK = "(hidden)"


def report(tree: Tree, path: KeyPath, model: type[BaseModel], error: ValidationError) -> None:
    """Note every problem of `error`, found when the table at `path` was validated by `model`."""
    for item in error.errors(include_url=False):
        location = tuple(item["loc"])
        full = _written(tree, path, location)
        message, remedy = _words(item, model, location)
        hidden = full in tree.secret or _is_secret(model, location)
        value = ""
        if item["type"] not in {"missing", "extra_forbidden"} and not isinstance(
            item["input"], dict
        ):
            value = _MASK if hidden else shown(item["input"])
        if hidden:
            message = message.replace(str(item["input"]), _MASK) if item["input"] else message
        tree.report(full, message, remedy, value)


def shown(value: Any) -> str:
    """Return a value as it would be written, cut to what a line can hold."""
    text = repr(value) if not isinstance(value, str) else f'"{value}"'
    return text if len(text) <= 60 else text[:57] + "..."


def fields(model: type[BaseModel], location: KeyPath) -> dict[str, Any]:
    """Return the fields, by the key they are written with, that may stand at `location` in `model`."""
    models = [model]
    for part in location:
        if isinstance(part, int):
            continue
        models = [
            inner
            for one in models
            for name, info in _keys(one).items()
            if name == part
            for inner in models_in(info.annotation)
        ] or models
    return {name: info for one in models for name, info in _keys(one).items()}


def _keys(model: type[BaseModel]) -> dict[str, Any]:
    return {info.alias or name: info for name, info in model.model_fields.items()}


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the settings models that a field of this type may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def is_secret(annotation: Any) -> bool:
    """Tell whether a field of this type holds a secret."""
    if annotation in {SecretStr, SecretBytes}:
        return True
    return any(is_secret(inner) for inner in get_args(annotation))


def _is_secret(model: type[BaseModel], location: KeyPath) -> bool:
    names = [part for part in location if isinstance(part, str)]
    if not names:
        return False
    info = fields(model, tuple(names[:-1])).get(names[-1])
    return info is not None and is_secret(info.annotation)


def _written(tree: Tree, path: KeyPath, location: KeyPath) -> KeyPath:
    """Drop from pydantic's location what is not written in the file (tags of unions)."""
    full = path
    value: Any = tree.data
    for part in path:
        value = value.get(part, {}) if isinstance(value, dict) else {}
    for position, part in enumerate(location):
        last = position == len(location) - 1
        inside = isinstance(value, dict) and part in value
        inside = inside or (isinstance(value, list) and isinstance(part, int) and part < len(value))
        if inside:
            full, value = (*full, part), value[part]
        elif last and isinstance(part, str) and isinstance(value, dict):
            full = (*full, part)
    return full


def _words(item: Any, model: type[BaseModel], location: KeyPath) -> tuple[str, str]:
    kind, message = item["type"], str(item["msg"])
    if kind == "extra_forbidden":
        known = list(fields(model, location[:-1]))
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        if near:
            return "unknown key", f"did you mean {near[0]!r}?"
        return "unknown key", f"remove it; known: {', '.join(known) or 'none'}"
    if kind == "missing":
        info = fields(model, location[:-1]).get(str(location[-1]))
        says = info.description if info is not None and info.description else ""
        return "missing", f"add it ({says.rstrip('.')})" if says else "add it"
    if kind == "literal_error":
        expected = str(item["ctx"]["expected"])
        words = [word.strip("' ") for word in expected.replace(" or ", ",").split(",")]
        near = difflib.get_close_matches(str(item["input"]).lower(), words, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return "not one of the choices", f"{hint}write one of {expected}"
    if kind in {"value_error", "assertion_error"}:
        return message.partition(", ")[2] or message, ""
    return message[:1].lower() + message[1:], "correct the value"
