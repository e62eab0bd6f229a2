# SPDX-License-Identifier: Apache-2.0
"""The providers of a box: built once from the configuration, shared by all calls, given out as chains."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog

from appliance.config import INLINE, BoxConfig, Configured
from appliance.engines.chain import (
    Health,
    LanguageModelChain,
    Member,
    SpeechToTextChain,
    TextToSpeechChain,
)
from appliance.engines.errors import as_provider_error
from appliance.engines.worker.base import WorkerStatus
from appliance.engines.worker.process import TlsFiles, WorkerSpec
from appliance.engines.worker.supervisor import Supervisor
from appliance.plugin import (
    BuildContext,
    ConfigurationError,
    Embedder,
    Flush,
    Kind,
    LanguageModel,
    LlmRequest,
    Message,
    ModelResolver,
    Pcm,
    ProviderError,
    RecordingStore,
    Role,
    SpeechToText,
    SttRequest,
    TextToSpeech,
    TtsRequest,
    TurnDetector,
    VoiceActivityDetector,
)

_log = structlog.get_logger(__name__)

ENGINES = (Kind.SPEECH_TO_TEXT, Kind.LANGUAGE_MODEL, Kind.TEXT_TO_SPEECH, Kind.EMBEDDER)
BUILD_S = 300.0
"""Longest that a provider may take to load its model: then the box starts without it."""
WARM_UP_S = 30.0


@dataclass(frozen=True, slots=True)
class EngineFault:
    """A configured provider that could not be built: the box runs without it."""

    kind: Kind
    name: str
    error: ProviderError


class EnginePool:
    """Builds, warms and closes providers.

    Args:
        config: which ones, with their settings.
        resolver: finds model files.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        config: BoxConfig,
        resolver: ModelResolver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._resolver = resolver
        self._clock = clock
        self._members: dict[tuple[Kind, str], Member[Any]] = {}
        self._workers = Supervisor()
        self.faults: list[EngineFault] = []

    async def start(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Build everything that is configured, one after another, and run each engine once.

        A provider that fails is noted in `faults` and left out.

        Raises:
            ConfigurationError: the voice activity detector cannot be built: no call could be held.
        """
        others = (Kind.TURN_DETECTOR, Kind.TOOL, Kind.RECORDING_STORE, Kind.VOICE_ACTIVITY)
        kinds = (*ENGINES, *others)
        for kind in kinds:
            for name, configured in self._config.providers(kind).items():
                progress(f"{kind.value.replace('_', ' ')} {name} ({configured.offer.id})")
                await self._add(name, configured)
        if (Kind.VOICE_ACTIVITY, "voice_activity") not in self._members:
            fault = next(f for f in self.faults if f.kind is Kind.VOICE_ACTIVITY)
            raise ConfigurationError(f"no voice activity detection: {fault.error}")

    async def _add(self, name: str, configured: Configured) -> None:
        kind = configured.kind
        began = self._clock()
        try:
            provider = await asyncio.wait_for(self._built(name, configured), BUILD_S)
            warmed = self._clock()
            if not configured.placement.remote:  # that one may not be there yet
                await asyncio.wait_for(_warm_up(kind, provider), WARM_UP_S)
        except Exception as caught:
            error = as_provider_error(caught)
            await self._workers.remove(kind, name)
            self.faults.append(EngineFault(kind, name, error))
            _log.error("engine not available", kind=kind.value, name=name, error=str(error))
            return
        member: Member[Any] = Member(name, provider)
        if kind in _WARM_UPS:
            member.answered_in(self._clock() - warmed)
        self._members[kind, name] = member
        _log.info(
            "engine ready",
            kind=kind.value,
            name=name,
            use=configured.offer.id,
            placement=configured.placement.where,
            seconds=round(self._clock() - began, 2),
        )

    async def _built(self, name: str, configured: Configured) -> Any:
        """Build a provider where its section places it."""
        placement, kind = configured.placement, configured.kind
        if placement.where == INLINE:
            context = self._context(name, configured)
            return await asyncio.to_thread(configured.offer.build, configured.settings, context)
        if not placement.remote:
            return (await self._workers.add_local(name, self._spec(name, configured))).provider
        files = placement.worker
        if files.ca is None or files.cert is None or files.key is None:
            raise ConfigurationError(f"{placement.where} needs worker.ca, worker.cert, worker.key")
        tls = TlsFiles(files.ca, files.cert, files.key)
        capabilities = configured.offer.capabilities
        worker = await self._workers.add_distant(kind, name, placement.where, tls, capabilities)
        return worker.provider

    def _spec(self, name: str, configured: Configured) -> WorkerSpec:
        box, worker = self._config.box, configured.placement.worker
        return WorkerSpec(
            configured.offer,
            configured.settings,
            self._context(name, configured),
            streams=worker.streams,
            memory_mib=worker.memory_mib,
            log_level=box.log_level,
            log_format=box.log_format,
        )

    async def replace(self, kind: Kind, name: str, configured: Configured | None = None) -> None:
        """Replace a worker while calls run, by itself or by other settings, and lose no stream.

        Args:
            kind: of the provider.
            name: of its section.
            configured: what its section says now; None to start the same again.

        Raises:
            ConfigurationError: it runs inline or on another machine, or calls could not go on with
                what the new one can do.
            ProviderError: the new one cannot serve; the old one stays.
        """
        try:
            worker = self._workers.local(kind, name)
        except KeyError as error:
            message = f"{kind.value}.{name} is no worker of this box"
            raise ConfigurationError(message, remedy='use placement = "worker"') from error
        await worker.replace(None if configured is None else self._spec(name, configured))

    def workers(self) -> Sequence[WorkerStatus]:
        """Return the state of the engines that do not run inline."""
        return self._workers.status()

    def _context(self, name: str, configured: Configured) -> BuildContext:
        box = self._config.box
        folder = box.data_dir / "plugins" / configured.offer.id / name
        return BuildContext(self._resolver, folder, box.threads)

    @property
    def voice_activity(self) -> VoiceActivityDetector:
        """The detector that scores all calls."""
        detector: VoiceActivityDetector = self._members[
            Kind.VOICE_ACTIVITY, "voice_activity"
        ].provider
        return detector

    @property
    def turn_detector(self) -> TurnDetector | None:
        """The turn detector, if one is configured and works."""
        member = self._members.get((Kind.TURN_DETECTOR, "turn_detector"))
        return None if member is None else member.provider

    @property
    def recording_store(self) -> RecordingStore | None:
        """Where finished recordings go, if that is configured and works."""
        member = self._members.get((Kind.RECORDING_STORE, "recording_store"))
        return None if member is None else member.provider

    def tool(self, name: str) -> Any:
        """Return a plugin's tool by its name in the config, or None."""
        member = self._members.get((Kind.TOOL, name))
        return None if member is None else member.provider

    def speech_to_text(self, names: Sequence[str]) -> SpeechToTextChain:
        """Return the chain of recognizers with these names."""
        members: list[Member[SpeechToText]] = self._chain(Kind.SPEECH_TO_TEXT, names)
        return SpeechToTextChain(Health(members, self._clock))

    def language_model(self, names: Sequence[str]) -> LanguageModelChain:
        """Return the chain of models with these names."""
        members: list[Member[LanguageModel]] = self._chain(Kind.LANGUAGE_MODEL, names)
        return LanguageModelChain(Health(members, self._clock))

    def text_to_speech(self, names: Sequence[str]) -> TextToSpeechChain:
        """Return the chain of synthesizers with these names."""
        members: list[Member[TextToSpeech]] = self._chain(Kind.TEXT_TO_SPEECH, names)
        return TextToSpeechChain(Health(members, self._clock))

    def embedder(self, name: str) -> Embedder | None:
        """Return an embedder, if it is configured and works."""
        member = self._members.get((Kind.EMBEDDER, name))
        return None if member is None else member.provider

    def missing(self, kind: Kind, names: Sequence[str]) -> list[str]:
        """Return the names that are not configured at all, for the validation of agents."""
        return [name for name in names if name not in self._config.providers(kind)]

    def _chain(self, kind: Kind, names: Sequence[str]) -> list[Member[Any]]:
        return [self._members[kind, name] for name in names if (kind, name) in self._members]

    async def aclose(self) -> None:
        """Close every provider; one that fails to close is logged."""
        members, self._members = self._members, {}
        for (kind, name), member in members.items():
            try:
                await asyncio.wait_for(member.provider.aclose(), 10)
            except Exception as error:
                _log.warning("engine close failed", kind=kind.value, name=name, error=str(error))
        await self._workers.aclose()


async def _warm_up(kind: Kind, provider: Any) -> None:
    """Run an engine once, so that the first caller does not pay for its lazy parts."""
    if kind in _WARM_UPS and provider.capabilities.local:
        await _WARM_UPS[kind](provider)


async def _hear_silence(provider: SpeechToText) -> None:
    async def audio() -> AsyncIterator[Pcm | Flush]:
        yield np.zeros(provider.capabilities.sample_rates[0], np.int16)
        yield Flush()

    async for _ in provider.transcribe(audio(), SttRequest("warm-up")):
        pass


async def _say_one_token(provider: LanguageModel) -> None:
    messages = (Message(Role.SYSTEM, "Say hello."), Message(Role.USER, "Hello."))
    async for _ in provider.reply(LlmRequest(messages, max_tokens=1, call_id="warm-up")):
        pass


async def _speak_a_word(provider: TextToSpeech) -> None:
    async def text() -> AsyncIterator[str]:
        yield "Hello."

    async for _ in provider.speak(text(), TtsRequest("warm-up")):
        pass


async def _embed_a_word(provider: Embedder) -> None:
    await provider.embed(["Hello."])


_WARM_UPS: Mapping[Kind, Callable[[Any], Awaitable[None]]] = {
    Kind.SPEECH_TO_TEXT: _hear_silence,
    Kind.LANGUAGE_MODEL: _say_one_token,
    Kind.TEXT_TO_SPEECH: _speak_a_word,
    Kind.EMBEDDER: _embed_a_word,
}
