# SPDX-License-Identifier: Apache-2.0
"""`plugin.toml`: what a plugin says about itself, readable without importing it.

The admin and the hub decide from it what may run ("nothing leaves the building"), before any of the
plugin's code does. It lies inside the import package, as package data.
"""

from __future__ import annotations

import importlib.util
import tomllib
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from appliance.plugin.hookspecs import GROUP
from appliance.plugin.offers import Kind

API_VERSION = 1
"""The plugin API that this box speaks. Raised only by a change that breaks plugins."""

FILE_NAME = "plugin.toml"

PluginId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
HostPort = Annotated[str, StringConstraints(pattern=r"^(\*|[A-Za-z0-9.\-]+):(\*|[0-9]{1,5})$")]


class ManifestError(Exception):
    """A plugin has no manifest, or one that cannot be accepted; the message names file and key."""


class Manifest(BaseModel):
    """The keys of `plugin.toml`. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: PluginId = Field(description="Name of the plugin: the same as that of its entry point.")
    api: int = Field(ge=1, description="Version of the plugin API it was written for.")
    kinds: tuple[Kind, ...] = Field(
        default=(), description="Kinds of providers it offers; empty for model packs and observers."
    )
    runs: Literal["local", "cloud"] = Field(description="Where the work is done.")
    sends_off_premises: tuple[Literal["audio", "text"], ...] = Field(
        default=(), description="What of a call leaves the building; empty when nothing does."
    )
    egress: tuple[HostPort, ...] = Field(
        default=(), description="`host:port` it connects to; `*` stands for what the settings name."
    )
    secrets: tuple[str, ...] = Field(default=(), description="Settings that hold credentials.")
    gpu_memory_mb: int = Field(default=0, ge=0, description="GPU memory it needs, in MiB.")
    licence: str = Field(min_length=1, description="SPDX expression of what it loads.")
    summary: str = Field(min_length=1, description="One sentence for people.")
    check: dict[Kind, dict[str, dict[str, Any]]] = Field(
        default_factory=dict,
        description="`[check.KIND.ID]`: settings with which the conformance kit builds that offer.",
    )


@dataclass(frozen=True, slots=True)
class Installed:
    """A plugin as the packaging metadata knows it; nothing of it was imported.

    Attributes:
        id: name of its entry point.
        module: what the entry point names.
        distribution: name of the installed distribution.
        version: of that distribution.
    """

    id: str
    module: str
    distribution: str
    version: str


def installed() -> list[Installed]:
    """Return every installed plugin, by id. Two distributions may claim the same id."""
    found = [_installed(point) for point in entry_points(group=GROUP)]
    return sorted(found, key=lambda one: (one.id, one.distribution))


def _installed(point: EntryPoint) -> Installed:
    if point.dist is None:
        return Installed(point.name, point.value, "unknown", "")
    return Installed(point.name, point.value, point.dist.name, point.dist.version)


def manifest_path(module: str) -> Path:
    """Return where the manifest of the import package of `module` lies, importing nothing.

    Raises:
        ManifestError: the package is not there, or carries no manifest.
    """
    package = module.partition(":")[0].partition(".")[0]
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError) as error:
        raise ManifestError(f"the package {package} cannot be found: {error}") from error
    if spec is None:
        raise ManifestError(f"the package {package} is not installed where Python looks for it")
    for folder in spec.submodule_search_locations or ():
        path = Path(folder) / FILE_NAME
        if path.is_file():
            return path
    raise ManifestError(f"the package {package} carries no {FILE_NAME}")


def parse(text: str, where: str) -> Manifest:
    """Parse and validate a manifest.

    Args:
        text: TOML.
        where: how messages name the file.

    Raises:
        ManifestError: every wrong key, in one message.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"{where} is not valid TOML: {error}") from error
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        wrong = [f"{_key(item['loc'])}: {item['msg']}" for item in error.errors()]
        raise ManifestError(f"{where}: {'; '.join(wrong)}") from error


def _key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "(file)"


def read(plugin: Installed) -> Manifest:
    """Read the manifest of an installed plugin without importing it.

    Raises:
        ManifestError: missing, invalid, or of another plugin.
    """
    path = manifest_path(plugin.module)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error
    manifest = parse(text, str(path))
    if manifest.id != plugin.id:
        raise ManifestError(
            f"{path} says id = {manifest.id!r}, but the entry point of {plugin.distribution} "
            f"is named {plugin.id!r}"
        )
    return manifest
