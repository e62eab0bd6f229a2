# SPDX-License-Identifier: Apache-2.0
"""Checks of what the box is made of: plugins, models, engines, and the phone line itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import numpy as np

from appliance.config import BoxConfig, Configured
from appliance.doctor.finding import Finding, fail, ok, warn
from appliance.engines.packs import Library
from appliance.plugin import (
    BuildContext,
    ConfigurationError,
    Flush,
    Kind,
    Leg,
    LegEvent,
    LlmRequest,
    MediaFrame,
    Message,
    ModelNotFoundError,
    Pcm,
    ProviderError,
    Role,
    SttRequest,
    TextDelta,
    Transport,
    TtsRequest,
)
from appliance.plugin.manager import PluginManager

BUILD_S = 120.0
RUN_S = 60.0
REGISTER_S = 8.0
SENTENCE = "You are booked for Friday at half past two. Is there anything else?"


def plugins(manager: PluginManager) -> Iterator[Finding]:
    """Which plugins load, which do not, and why."""
    names = ", ".join(sorted(manager.plugins))
    if names:
        yield ok("plugins", names)
    else:
        remedy = "install plugins; ./run does it from the repository"
        yield fail("plugins", "none is installed: nothing can answer", remedy)
    for fault in manager.faults:
        remedy = "update or remove it: trunkline plugins check says more"
        yield fail(f"plugin {fault.plugin}", f"{fault.stage}: {fault.message}", remedy)
    for denied in manager.denied:
        yield ok(f"plugin {denied.plugin}", f"kept out: {denied.reason}")


def models(library: Library, wanted: Sequence[str]) -> Iterator[Finding]:
    """Whether the models that the configuration names are there and intact."""
    for name in wanted:
        try:
            yield ok(f"model {name}", f"intact, at {library.resolve(name)}")
        except ModelNotFoundError as error:
            yield fail(f"model {name}", error.message, error.remedy)


def models_wanted(config: BoxConfig) -> list[str]:
    """Return the names of models in the configuration: what the settings called `model` hold."""
    found: dict[str, None] = {}
    for providers in config.configured.values():
        for one in providers.values():
            model = getattr(one.settings, "model", None)
            local = getattr(one.offer.capabilities, "local", True)
            if isinstance(model, str) and "/" in model and local:
                found[model] = None
    return list(found)


async def engine(config: BoxConfig, configured: Configured, context: BuildContext) -> Finding:
    """Build one engine, run it, and say how fast it is."""
    check = f"{configured.kind.value.replace('_', ' ')} {configured.name}"
    began = time.monotonic()
    provider = None
    try:
        build = asyncio.to_thread(configured.offer.build, configured.settings, context)
        provider = await asyncio.wait_for(build, BUILD_S)
        built = time.monotonic() - began
        # The first run pays for what engines prepare late; the second is what a caller sees.
        await asyncio.wait_for(_speed(configured.kind, provider), RUN_S)
        speed = await asyncio.wait_for(_speed(configured.kind, provider), RUN_S)
    except ProviderError as error:
        remedy = error.remedy or f"correct [{configured.kind.value}.{configured.name}]"
        return fail(check, error.message, remedy)
    except TimeoutError:
        return fail(check, f"no result in {RUN_S:.0f} s", "use a smaller model or a faster machine")
    except Exception as error:
        remedy = f"run: trunkline plugins check {configured.offer.id}"
        return fail(check, f"{type(error).__name__}: {error}", remedy)
    finally:
        if provider is not None:
            await provider.aclose()
    return ok(check, f"{configured.offer.id}: ready in {built:.1f} s; {speed}")


async def _speed(kind: Kind, provider: Any) -> str:
    began = time.monotonic()
    first: float | None = None
    match kind:
        case Kind.SPEECH_TO_TEXT:
            async for _ in provider.transcribe(_two_seconds(provider), SttRequest("doctor")):
                pass
            return f"2 s of audio in {_ms(began)}"
        case Kind.LANGUAGE_MODEL:
            pieces = 0
            messages = (Message(Role.SYSTEM, "Answer briefly."), Message(Role.USER, "Hello."))
            async for delta in provider.reply(
                LlmRequest(messages, max_tokens=16, call_id="doctor")
            ):
                if isinstance(delta, TextDelta):
                    first = first or time.monotonic()
                    pieces += 1
            after = f", first after {(first - began) * 1000:.0f} ms" if first else ""
            return f"{pieces} pieces of text in {_ms(began)}{after}"
        case Kind.TEXT_TO_SPEECH:
            samples = 0
            async for chunk in provider.speak(_sentence(), TtsRequest("doctor")):
                first = first or time.monotonic()
                samples += chunk.pcm.size
            seconds = samples / provider.capabilities.sample_rate
            after = f"first after {(first - began) * 1000:.0f} ms" if first else "no audio"
            return f"{seconds:.1f} s of speech in {_ms(began)}, {after}"
        case Kind.VOICE_ACTIVITY:
            state = provider.open()
            for _ in range(20):
                provider.score([state], np.zeros((1, provider.capabilities.window), np.int16))
            return f"{(time.monotonic() - began) * 50:.2f} ms a window"
        case _:
            return "built"


def _ms(began: float) -> str:
    return f"{(time.monotonic() - began) * 1000:.0f} ms"


async def _two_seconds(provider: Any) -> AsyncIterator[Pcm | Flush]:
    rate = provider.capabilities.sample_rates[0]
    yield np.random.default_rng(0).integers(-300, 300, 2 * rate).astype(np.int16)
    yield Flush()


async def _sentence() -> AsyncIterator[str]:
    yield SENTENCE


class _DeafHost:
    """Takes no calls: the line is only started to see whether it comes up."""

    def __init__(self) -> None:
        self._refusals: set[asyncio.Task[None]] = set()

    def incoming(self, leg: Leg) -> None:
        refusal = asyncio.ensure_future(leg.reject(503, retry_after_s=10))
        self._refusals.add(refusal)
        refusal.add_done_callback(self._refusals.discard)

    def media(self, frames: Sequence[MediaFrame]) -> None:
        """Nobody is on the line."""

    def event(self, leg: Leg, event: LegEvent) -> None:
        """Nobody is on the line."""


async def line(configured: Configured, context: BuildContext) -> list[Finding]:
    """Start a transport, wait for its trunks to register, and stop it."""
    check = f"line {configured.name}"
    try:
        build = asyncio.to_thread(configured.offer.build, configured.settings, context)
        transport: Transport = await asyncio.wait_for(build, BUILD_S)
    except (ProviderError, TimeoutError) as error:
        return [fail(check, str(error) or "it cannot be built", "see its settings")]
    try:
        await asyncio.wait_for(transport.start(_DeafHost()), RUN_S)
        await _settle(transport)
        return _line_findings(check, configured, transport)
    except ConfigurationError as error:
        return [fail(check, error.message, error.remedy or "correct the transport's settings")]
    except (ProviderError, TimeoutError) as error:
        return [fail(check, str(error) or "it does not start", "see its settings")]
    finally:
        await transport.aclose()


async def _settle(transport: Transport) -> None:
    deadline = time.monotonic() + REGISTER_S
    while time.monotonic() < deadline:
        if all(trunk.registered is not False for trunk in transport.status().trunks):
            return
        await asyncio.sleep(0.1)


def _line_findings(check: str, configured: Configured, transport: Transport) -> list[Finding]:
    status = transport.status()
    codecs = getattr(configured.settings, "codecs", None) or transport.capabilities.codecs
    listed = ", ".join(str(getattr(codec, "value", codec)) for codec in codecs)
    what = f"{status.library}: {status.capacity} calls at once; codecs {listed}"
    findings = [ok(check, what)]
    if status.capacity < 10:
        remedy = "run ./run build-pjsua2 for the library that holds 256 calls"
        findings[0] = warn(check, what, remedy)
    for trunk in status.trunks:
        if trunk.registered is False:
            remedy = "check user name, password and registrar; the PBX's log says who it refused"
            findings.append(
                fail(
                    f"trunk {trunk.name}", f"not registered: {trunk.detail or 'no answer'}", remedy
                )
            )
        else:
            state = "registered" if trunk.registered else "does not register"
            detail = f" ({trunk.detail})" if trunk.detail else ""
            findings.append(ok(f"trunk {trunk.name}", f"{state}{detail}"))
    return findings
