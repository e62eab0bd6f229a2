# SPDX-License-Identifier: Apache-2.0
"""Checks that hold for every kind: settings, manifest, capabilities, building and closing."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import SecretStr, ValidationError

from appliance.plugin.conformance.findings import (
    Check,
    NotApplicableError,
    NotCheckedError,
    ViolationError,
    check,
    require,
)
from appliance.plugin.conformance.leaks import held, left_tasks, left_threads
from appliance.plugin.conformance.subject import Subject
from appliance.plugin.describe import all_fields, is_secret
from appliance.plugin.errors import ProviderError
from appliance.plugin.loading import CAPABILITIES
from appliance.plugin.offers import Kind

Use = Callable[[Any, Subject], Awaitable[None]]
"""One small piece of work for a provider of a kind."""

ROUNDS = 3
"""How often a provider is built, used and closed to see whether something piles up."""

UNKNOWN_KEY = "no_such_setting_7f3a"


@check("settings refuse an unknown key", needs_provider=False)
async def unknown_keys_are_refused(subject: Subject) -> str:
    """A misspelt setting must be an error, not silence."""
    try:
        subject.offer.settings.model_validate({**subject.settings, UNKNOWN_KEY: 1})
    except ValidationError as error:
        named = [one for one in error.errors() if UNKNOWN_KEY in one["loc"]]
        require(bool(named), "the error does not name the unknown key")
        return ""
    raise ViolationError(f"{subject.offer.settings.__name__} accepted an unknown key")


@check("settings describe every field", needs_provider=False)
async def fields_are_described(subject: Subject) -> str:
    """The configuration reference is generated from the descriptions."""
    fields = all_fields(subject.offer.settings)
    bare = sorted(name for name, field in fields if not (field.description or "").strip())
    require(not bare, f"no description: {', '.join(bare)}")
    return f"{len(fields)} fields"


@check(
    "settings that hold credentials are secret, and the manifest names them", needs_provider=False
)
async def secrets_are_declared(subject: Subject) -> str:
    """What a log must never show is known from the manifest and hidden by its type."""
    if subject.manifest is None:
        raise NotCheckedError("the plugin's manifest is not at hand")
    fields = dict(all_fields(subject.offer.settings))
    secret = {name for name, field in fields.items() if is_secret(field)}
    declared = set(subject.manifest.secrets)
    require(secret <= declared, f"not in the manifest: {', '.join(sorted(secret - declared))}")
    open_ones = sorted(declared & set(fields) - secret)
    require(not open_ones, f"not {SecretStr.__name__}: {', '.join(open_ones)}")
    return f"{len(secret)} secrets"


@check("capabilities are frozen and of the kind's type", needs_provider=False)
async def capabilities_are_frozen(subject: Subject) -> str:
    """The core reads them at any time and from any thread."""
    found, wanted = subject.offer.capabilities, CAPABILITIES[subject.offer.kind]
    require(isinstance(found, wanted), f"{type(found).__name__} instead of {wanted.__name__}")
    first = dataclasses.fields(found)[0].name
    try:
        setattr(found, first, getattr(found, first))
    except AttributeError:
        return ""
    raise ViolationError(f"{type(found).__name__} can be changed")


@check("what leaves the premises is in the manifest", needs_provider=False)
async def manifest_tells_what_leaves(subject: Subject) -> str:
    """A site forbids by manifest, so capabilities may not say otherwise."""
    if subject.manifest is None:
        raise NotCheckedError("the plugin's manifest is not at hand")
    local = getattr(subject.offer.capabilities, "local", True)
    sent = subject.manifest.sends_off_premises
    require(
        local or bool(sent), "capabilities say it is not local, the manifest that nothing leaves"
    )
    if subject.manifest.runs == "local" and not sent:
        require(not subject.manifest.egress, "nothing leaves, and yet it names hosts to connect to")
    return f"sends {' and '.join(sent) or 'nothing'}"


@check("it builds, and answers a first request", needs_provider=False)
async def it_builds(subject: Subject) -> str:
    """Everything else stands on this."""
    if subject.missing:
        raise NotCheckedError(subject.missing)
    built = type(subject.provider.capabilities)
    wanted = CAPABILITIES[subject.offer.kind]
    require(issubclass(built, wanted), f"its capabilities are a {built.__name__}")
    try:
        await USES[subject.offer.kind](subject.provider, subject)
    except ProviderError as error:
        if subject.cannot_answer(error):
            raise NotCheckedError(subject.missing) from error
        raise ViolationError(f"{type(error).__name__}: {error}") from error
    return ""


@check("a model that cannot be found is a ProviderError with a message", needs_provider=False)
async def missing_models_are_told(subject: Subject) -> str:
    """`build` may fail, but only in the way the core understands."""
    try:
        subject.offer.settings.model_validate(dict(subject.settings))
    except ValidationError as error:
        raise NotCheckedError("its settings cannot be used") from error
    try:
        provider = await subject.build(subject.without_models())
    except ProviderError as error:
        require(bool(error.message.strip()), f"{type(error).__name__} carries no message")
        return f"{type(error).__name__}"
    except Exception as error:
        raise ViolationError(f"build raised {type(error).__name__}: {error}") from error
    await provider.aclose()
    raise NotApplicableError("it needs no model from outside")


@check("aclose can be called twice")
async def closing_twice_is_fine(subject: Subject) -> str:
    """Clean-up paths meet; the second call does nothing."""
    if subject.offer.kind is Kind.TRANSPORT:
        raise NotApplicableError("checked after start and stop")
    provider = await subject.build()
    await USES[subject.offer.kind](provider, subject)
    await provider.aclose()
    await provider.aclose()
    return ""


@check("after aclose nothing is left: no task, no thread, no open file")
async def nothing_is_left(subject: Subject) -> str:
    """Build, use and close it a few times; what it leaves once it leaves a thousand times."""
    if subject.offer.kind is Kind.TRANSPORT:
        raise NotApplicableError("checked after start and stop")
    counts = []
    for _ in range(ROUNDS):
        before = held()
        provider = await subject.build()
        await USES[subject.offer.kind](provider, subject)
        await provider.aclose()
        del provider
        tasks = await left_tasks(before)
        require(not tasks, f"tasks are left: {', '.join(tasks)}")
        threads = await left_threads(before)
        require(not threads, f"threads are left: {', '.join(threads)}")
        await asyncio.sleep(0)
        counts.append(held())
    return _no_growth(counts[0].native_threads, counts[-1].native_threads, "threads") + _no_growth(
        counts[0].files, counts[-1].files, "open files"
    )


def _no_growth(first: int, last: int, what: str) -> str:
    """A library may keep a pool after its first use; it may not grow with each."""
    grown = last - first
    require(
        grown < ROUNDS - 1,
        f"{what} grew from {first} to {last} when it was built and closed {ROUNDS - 1} times more",
    )
    return ""


USES: dict[Kind, Use] = {}
"""A smallest piece of work for each kind; the kinds' own modules fill it in."""

CHECKS: tuple[Check, ...] = (
    unknown_keys_are_refused,
    fields_are_described,
    secrets_are_declared,
    capabilities_are_frozen,
    manifest_tells_what_leaves,
    it_builds,
)
"""First for every kind."""

LAST_CHECKS: tuple[Check, ...] = (
    missing_models_are_told,
    closing_twice_is_fine,
    nothing_is_left,
)
"""Last for every kind: they build providers of their own."""
