# SPDX-License-Identifier: Apache-2.0
"""Plugins as plain data: for `trunkline plugins`, the admin page and the reference."""

from __future__ import annotations

import dataclasses
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from appliance.plugin.loading import LoadedPlugin
from appliance.plugin.offers import ModelPack, Offer


def plugin_data(plugin: LoadedPlugin) -> dict[str, Any]:
    """Return everything about a loaded plugin that JSON can hold."""
    return {
        "id": plugin.id,
        "distribution": plugin.installed.distribution,
        "version": plugin.installed.version,
        "module": plugin.installed.module,
        "manifest": plugin.manifest.model_dump(mode="json"),
        "hooks": sorted(plugin.hook_names),
        "offers": [offer_data(offer) for offer in plugin.offers],
        "model_packs": [pack_data(pack) for pack in plugin.packs],
    }


def offer_data(offer: Offer) -> dict[str, Any]:
    """Return an offer: what it can do and how it is set."""
    return {
        "id": offer.id,
        "kind": offer.kind.value,
        "summary": offer.summary,
        "capabilities": {
            field.name: plain(getattr(offer.capabilities, field.name))
            for field in dataclasses.fields(offer.capabilities)
        },
        "settings": [setting_data(name, field) for name, field in all_fields(offer.settings)],
    }


def setting_data(name: str, field: FieldInfo) -> dict[str, Any]:
    """Return one setting. A secret's default is never shown."""
    required = field.is_required()
    default = None if required else field.get_default(call_default_factory=True)
    return {
        "name": name,
        "type": type_name(field.annotation),
        "required": required,
        "default": plain(default),
        "description": field.description or "",
    }


def pack_data(pack: ModelPack) -> dict[str, Any]:
    """Return a model pack and what its parts are licensed under."""
    parts = {name: part.licence for name, part in pack.parts.items()}
    return {"id": pack.id, "summary": pack.summary, "parts": parts}


def type_name(annotation: Any) -> str:
    """Name a type as a person would write it in an annotation."""
    annotation = getattr(annotation, "__value__", annotation)  # a `type` alias
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in (None, type(None), ...):
        return "..." if annotation is ... else "None"
    if origin is Annotated:
        return type_name(arguments[0])
    if origin is Literal:
        return " | ".join(repr(one) for one in arguments)
    if origin in (Union, UnionType):
        return " | ".join(type_name(one) for one in arguments)
    name = getattr(origin or annotation, "__name__", str(annotation))
    return f"{name}[{', '.join(map(type_name, arguments))}]" if arguments else name


def all_fields(model: type[BaseModel], prefix: str = "") -> list[tuple[str, FieldInfo]]:
    """Return every field with its dotted name, those of models inside models too (`trunks.user`)."""
    found: list[tuple[str, FieldInfo]] = []
    for name, field in model.model_fields.items():
        found.append((prefix + name, field))
        for inner in _models(field.annotation):
            found += all_fields(inner, f"{prefix}{name}.")
    return found


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the pydantic models that a type is made of."""
    annotation = getattr(annotation, "__value__", annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for one in get_args(annotation) for model in _models(one)]


def is_secret(field: FieldInfo) -> bool:
    """Tell whether a field holds a credential."""
    return "SecretStr" in type_name(field.annotation)


def plain(value: Any) -> Any:  # noqa: PLR0911  (a table of types)
    """Turn a value into what JSON can hold."""
    match value:
        case None | bool() | int() | float():
            return value
        case SecretStr():
            return "***"
        case Enum():
            return value.value
        case set() | frozenset():
            return sorted(plain(one) for one in value)
        case list() | tuple():
            return [plain(one) for one in value]
        case dict():
            return {str(key): plain(one) for key, one in value.items()}
        case BaseModel():
            return value.model_dump(mode="json")
    return str(value)
