# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ipaddress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, SecretStr

from appliance.plugin import Settings
from appliance.plugin.describe import all_fields, is_secret, plain, setting_data, type_name


class Colour(StrEnum):
    RED = "red"


class Line(Settings):
    password: SecretStr = Field(SecretStr("hush"), description="The password.")


class Lines(Settings):
    lines: dict[str, Line] = Field(default_factory=dict, description="Lines by name.")
    name: str = Field(description="A name.")


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (int, "int"),
        (Path | None, "Path | None"),
        (tuple[str, ...], "tuple[str, ...]"),
        (dict[str, Line], "dict[str, Line]"),
        (Literal["a", "b"], "'a' | 'b'"),
        (Annotated[int, Field(ge=1)] | None, "int | None"),
        (tuple[ipaddress.IPv4Network, ...], "tuple[IPv4Network, ...]"),
        (Colour, "Colour"),
    ],
)
def test_a_type_is_named_as_a_person_would_write_it(annotation: Any, name: str) -> None:
    assert type_name(annotation) == name


def test_settings_inside_settings_are_found_by_dotted_names() -> None:
    fields = dict(all_fields(Lines))
    assert list(fields) == ["lines", "lines.password", "name"]
    assert [name for name, field in fields.items() if is_secret(field)] == ["lines.password"]


def test_a_secret_default_is_not_shown() -> None:
    assert setting_data("password", Line.model_fields["password"])["default"] == "***"


def test_a_required_setting_has_no_default() -> None:
    data = setting_data("name", Lines.model_fields["name"])
    assert data["required"]
    assert data["default"] is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (frozenset({"b", "a"}), ["a", "b"]),
        ((Colour.RED, 1.5), ["red", 1.5]),
        ({"x": Path("y")}, {"x": "y"}),
        (True, True),
    ],
)
def test_values_become_what_json_can_hold(value: Any, shown: Any) -> None:
    assert plain(value) == shown
