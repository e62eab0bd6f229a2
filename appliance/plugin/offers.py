# SPDX-License-Identifier: Apache-2.0
"""An offer: what a registration hook returns. Data and a factory; reading one does no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict


class Kind(StrEnum):
    """What an offer provides. The value is the config's word for it."""

    SPEECH_TO_TEXT = "speech_to_text"
    LANGUAGE_MODEL = "language_model"
    TEXT_TO_SPEECH = "text_to_speech"
    VOICE_ACTIVITY = "voice_activity"
    TURN_DETECTOR = "turn_detector"
    EMBEDDER = "embedder"
    TRANSPORT = "transport"
    TOOL = "tool"
    GUARDRAIL = "guardrail"
    RECORDING_STORE = "recording_store"


class Settings(BaseModel):
    """Base of every plugin's settings: immutable, and an unknown key is an error.

    Give each field a description: the configuration reference is generated from it.
    Mark secrets with `pydantic.SecretStr`, so that no log ever shows them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelResolver(Protocol):
    """Finds model files by name, so that no plugin knows where packs are kept."""

    def __call__(self, name: str) -> Path:
        """Return the file or folder of `name`: a part of a pack (`starter/asr`) or a path.

        Raises:
            ModelNotFoundError: no such pack part or path; the message says how to get it.
        """


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What the box gives a provider when it builds it.

    Attributes:
        model_path: resolves a model's name to its verified file or folder.
        data_dir: a folder that belongs to this provider alone, created on first use.
        threads: how many compute threads the provider may use in all.
    """

    model_path: ModelResolver
    data_dir: Path
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Offer:
    """One provider that a plugin can build.

    Attributes:
        id: unique among offers of its kind: the name used in the config (`faster_whisper`).
        kind: which provider protocol `build` returns.
        settings: the pydantic model of its settings; every field needs a default or is required.
        build: makes the provider. Called once per configured instance, in a thread, may be slow
            (it loads models); raises `ProviderError`. It must not start threads or tasks that
            `aclose` does not end.
        capabilities: the frozen dataclass of this kind (`SttCapabilities`, ...), for default settings.
        summary: one sentence for `trunkline plugins list`.
    """

    id: str
    kind: Kind
    settings: type[Settings]
    build: Callable[[Any, BuildContext], Any]
    capabilities: Any
    summary: str


@dataclass(frozen=True, slots=True)
class ModelPart:
    """One file or folder of a model pack.

    Attributes:
        path: where it lies when it ships inside a package, else None.
        repo: the model hub repository that holds it, when it must be fetched.
        files: file name to SHA-256 (hex; "" while unknown: recorded at the first pull).
        licence: SPDX identifier or the licence's name.
        revision: commit or tag of `repo`.
    """

    files: Mapping[str, str]
    licence: str
    path: Path | None = None
    repo: str | None = None
    revision: str = "main"


@dataclass(frozen=True, slots=True)
class ModelPack:
    """A named set of models that work together (`starter`, `small`, ...)."""

    id: str
    summary: str
    parts: Mapping[str, ModelPart] = field(default_factory=dict)
