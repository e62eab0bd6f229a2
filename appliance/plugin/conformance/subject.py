# SPDX-License-Identifier: Apache-2.0
"""A provider under test: its offer, the settings to build it with, and what to feed it."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from pydantic import ValidationError

from appliance.plugin.conformance.findings import ViolationError
from appliance.plugin.errors import (
    AuthenticationError,
    ConfigurationError,
    ModelNotFoundError,
    ProviderError,
    RateLimitedError,
    UnavailableError,
)
from appliance.plugin.loading import in_daemon_thread
from appliance.plugin.manifest import Manifest, ManifestError, manifest_path, parse
from appliance.plugin.offers import BuildContext, ModelPack, ModelResolver, Offer
from appliance.plugin.speech import SAMPLE_RATE, Pcm

NEEDS_SOMETHING = (
    AuthenticationError,
    ConfigurationError,
    ModelNotFoundError,
    RateLimitedError,
    UnavailableError,
)
"""Errors that may only mean: this machine lacks a key, a server or a model."""

BUILD_DEADLINE_S = 300.0


@dataclass(frozen=True, slots=True)
class Materials:
    """What a kit feeds providers with.

    Attributes:
        speech: 16 kHz audio of someone speaking, or None to use babble.
        texts: two clauses to speak, the second at least twice as long.
    """

    speech: Pcm | None = None
    texts: tuple[str, str] = (
        "Good morning.",
        "We are open from eight in the morning until six in the evening, from Monday to Friday.",
    )


def packs_resolver(packs: Sequence[ModelPack]) -> ModelResolver:
    """Resolve the parts that ship inside packages (`starter/asr`), and paths; fetch nothing."""
    parts = {
        f"{pack.id}/{name}": part.path
        for pack in packs
        for name, part in pack.parts.items()
        if part.path is not None
    }

    def resolve(name: str) -> Path:
        path = parts.get(name, Path(name).expanduser())
        if path.exists():
            return path
        known = ", ".join(sorted(parts)) or "none"
        raise ModelNotFoundError(f"there is no model {name!r}", remedy=f"in packages: {known}")

    return resolve


def _manifest_of(offer: Offer) -> Manifest | None:
    try:
        path = manifest_path(getattr(offer.build, "__module__", ""))
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (ManifestError, OSError):
        return None


@dataclass
class Subject:
    """One offer under test. `async with subject:` builds it once and closes it at the end.

    Attributes:
        offer: what a plugin registered.
        settings: keys and values for its settings model.
        context: what the box gives it when it builds.
        manifest: of the plugin; found by where `offer.build` is defined when it is not given.
        materials: what to feed it with.
        explicit: a person gave the settings: what is lacking is then a failure, not an excuse.
        missing: why its behaviour cannot be checked here, or "".
    """

    offer: Offer
    settings: Mapping[str, Any] = field(default_factory=dict)
    context: BuildContext | None = None
    manifest: Manifest | None = None
    materials: Materials = field(default_factory=Materials)
    explicit: bool = False
    missing: str = ""
    trouble: str = ""
    """Why it could not be built although it was told how; the check of that name reports it."""
    _provider: Any = None
    _folder: tempfile.TemporaryDirectory[str] | None = None

    def __post_init__(self) -> None:
        if self.manifest is None:
            self.manifest = _manifest_of(self.offer)

    @property
    def name(self) -> str:
        """`kind/id`."""
        return f"{self.offer.kind}/{self.offer.id}"

    @property
    def provider(self) -> Any:
        """The built provider, shared by all checks.

        Raises:
            ViolationError: it could not be built.
        """
        if self._provider is None:
            raise ViolationError(f"it could not be built: {self.trouble}")
        return self._provider

    async def build(self, context: BuildContext | None = None) -> Any:
        """Build another one, in a thread as the box does.

        Raises:
            ProviderError, ValidationError: as the plugin raises them.
            TimeoutError: it took longer than `BUILD_DEADLINE_S`.
        """
        settings = self.offer.settings.model_validate(dict(self.settings))
        work = partial(self.offer.build, settings, context or self.build_context())
        future = in_daemon_thread(work, f"conformance-build-{self.offer.id}")
        return await asyncio.wait_for(asyncio.wrap_future(future), BUILD_DEADLINE_S)

    def build_context(self) -> BuildContext:
        """Return the given context, or one with a folder of its own and no model packs."""
        if self.context is None:
            self._folder = tempfile.TemporaryDirectory(prefix="trunkline-check-")
            self.context = BuildContext(packs_resolver([]), Path(self._folder.name))
        return self.context

    def without_models(self) -> BuildContext:
        """Return a context in which no model can be found."""

        def nothing(name: str) -> Path:
            raise ModelNotFoundError(f"there is no model {name!r}")

        return dataclasses.replace(self.build_context(), model_path=nothing)

    def speech(self, rate: int) -> Pcm | None:
        """Return the speech sample at `rate` Hz, or None without one."""
        pcm = self.materials.speech
        if pcm is None or rate == SAMPLE_RATE:
            return pcm
        wanted = np.arange(round(len(pcm) * rate / SAMPLE_RATE)) * SAMPLE_RATE / rate
        return np.interp(wanted, np.arange(len(pcm)), pcm).astype(np.int16)

    async def __aenter__(self) -> Self:
        try:
            self._provider = await self.build()
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
            )
            self._note(f"settings: {wrong}", excusable=not self.explicit)
        except ProviderError as error:
            excusable = isinstance(error, NEEDS_SOMETHING) and not self.explicit
            self._note(f"{type(error).__name__}: {error}", excusable=excusable)
        except Exception as error:  # a plugin may raise anything
            self._note(f"build raised {type(error).__name__}: {error}", excusable=False)
        return self

    def _note(self, reason: str, *, excusable: bool) -> None:
        """Keep the reason as what this machine lacks, or as what is wrong with the plugin."""
        if excusable:
            self.missing = reason
        else:
            self.trouble = reason

    def cannot_answer(self, error: ProviderError) -> bool:
        """Note that a first request failed; True when only something outside is lacking."""
        excusable = isinstance(error, NEEDS_SOMETHING) and not self.explicit
        if excusable:
            self.missing = f"{type(error).__name__}: {error}"
        return excusable

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        provider, self._provider = self._provider, None
        if provider is not None:
            await provider.aclose()
        if self._folder is not None:
            self._folder.cleanup()
