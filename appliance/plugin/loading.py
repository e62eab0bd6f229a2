# SPDX-License-Identifier: Apache-2.0
"""Loads one plugin so that whatever it does wrong stays its own: it may fail, raise or hang."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, is_dataclass
from typing import Any, TypeVar

import pluggy

from appliance.plugin import hookspecs
from appliance.plugin.acting import GuardrailCapabilities, RecordingCapabilities, ToolCapabilities
from appliance.plugin.hookspecs import GROUP
from appliance.plugin.language import EmbedderCapabilities, LlmCapabilities
from appliance.plugin.manifest import Installed, Manifest
from appliance.plugin.offers import Kind, ModelPack, Offer, Settings
from appliance.plugin.speech import (
    SttCapabilities,
    TtsCapabilities,
    TurnCapabilities,
    VadCapabilities,
)
from appliance.plugin.transport import TransportCapabilities

T = TypeVar("T")

HOOK_TIMEOUT_S = 5.0
"""How long import and hooks of one plugin may take together."""

CAPABILITIES: dict[Kind, type[Any]] = {
    Kind.SPEECH_TO_TEXT: SttCapabilities,
    Kind.LANGUAGE_MODEL: LlmCapabilities,
    Kind.TEXT_TO_SPEECH: TtsCapabilities,
    Kind.VOICE_ACTIVITY: VadCapabilities,
    Kind.TURN_DETECTOR: TurnCapabilities,
    Kind.EMBEDDER: EmbedderCapabilities,
    Kind.TRANSPORT: TransportCapabilities,
    Kind.TOOL: ToolCapabilities,
    Kind.GUARDRAIL: GuardrailCapabilities,
    Kind.RECORDING_STORE: RecordingCapabilities,
}
"""The capability dataclass of each kind."""


@dataclass(frozen=True, slots=True)
class PluginFault:
    """Something is wrong with a plugin; the rest of the box runs on.

    Attributes:
        plugin: its id.
        stage: `manifest`, `api`, `import`, `hook`, `offer`, `collision` or `observer`.
        message: what happened, in one sentence.
    """

    plugin: str
    stage: str
    message: str

    def __str__(self) -> str:
        return f"plugin {self.plugin}: {self.stage}: {self.message}"


class PluginLoadError(Exception):
    """A plugin was refused; carries the stage for its `PluginFault`."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage
        self.message = message


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A plugin that runs.

    Attributes:
        installed: names and version.
        manifest: its `plugin.toml`.
        offers: what it can build.
        packs: the model packs it carries or knows.
        hooks: pluggy's callers for this plugin alone, so that no plugin's failure is another's.
        hook_names: the hooks it implements.
    """

    installed: Installed
    manifest: Manifest
    offers: tuple[Offer, ...]
    packs: tuple[ModelPack, ...]
    hooks: pluggy.HookRelay
    hook_names: frozenset[str]

    @property
    def id(self) -> str:
        """The plugin's id."""
        return self.manifest.id


def in_daemon_thread(work: Callable[[], T], name: str) -> Future[T]:
    """Run `work` in a thread that cannot keep the process alive, however long it hangs."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # SystemExit included: it is the plugin's doing
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def load(plugin: Installed, manifest: Manifest, timeout_s: float = HOOK_TIMEOUT_S) -> LoadedPlugin:
    """Import a plugin and collect what it registers.

    Raises:
        PluginLoadError: the import failed, a hook raised, returned the wrong thing or is unknown,
            or both together took longer than `timeout_s`.
    """
    progress = ["import"]
    future = in_daemon_thread(
        lambda: _collect(plugin, manifest, progress), f"plugin-{plugin.id}-load"
    )
    try:
        error = future.exception(timeout_s)
    except TimeoutError:
        message = f"{_where(plugin, progress[-1])} did not return within {timeout_s:g} s"
        raise PluginLoadError(progress[-1].split()[0], message) from None
    if error is None:
        return future.result()
    if isinstance(error, PluginLoadError):
        raise error
    message = f"{_where(plugin, progress[-1])}: {_describe(error)}"
    raise PluginLoadError(progress[-1].split()[0], message) from error


def _where(plugin: Installed, step: str) -> str:
    stage, _, hook = step.partition(" ")
    return f"import of {plugin.module}" if stage == "import" else f"hook {hook}"


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _collect(plugin: Installed, manifest: Manifest, progress: list[str]) -> LoadedPlugin:
    """Runs in the daemon thread; `progress` tells the waiting side how far it came."""
    module_name, _, attribute = plugin.module.partition(":")
    module: Any = importlib.import_module(module_name)
    for part in filter(None, attribute.split(".")):
        module = getattr(module, part)
    progress.append("hook registration")
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(module, name=plugin.id)
    manager.check_pending()
    implemented = frozenset(caller.name for caller in manager.get_hookcallers(module) or ())
    progress.append("hook register_providers")
    offers = _flatten(manager.hook.register_providers(), Offer)
    progress.append("hook register_model_packs")
    packs = _flatten(manager.hook.register_model_packs(), ModelPack)
    for offer in offers:
        _accept(offer, manifest)
    return LoadedPlugin(plugin, manifest, offers, packs, manager.hook, implemented)


def _flatten(results: Sequence[Any], wanted: type[T]) -> tuple[T, ...]:
    """Join what the hook implementations of one plugin returned: a list each."""
    joined: list[T] = []
    for result in results:
        if not isinstance(result, list) or not all(isinstance(item, wanted) for item in result):
            raise PluginLoadError(
                "hook", f"must return a list of {wanted.__name__}, returned {type(result).__name__}"
            )
        joined.extend(result)
    return tuple(joined)


def _accept(offer: Offer, manifest: Manifest) -> None:
    """Refuse an offer that contradicts the manifest or that the core could not use."""
    name = f"offer {offer.kind}/{offer.id}"
    if offer.kind not in manifest.kinds:
        declared = ", ".join(manifest.kinds) or "none"
        raise PluginLoadError("offer", f"{name} is not among the manifest's kinds ({declared})")
    if not (isinstance(offer.settings, type) and issubclass(offer.settings, Settings)):
        raise PluginLoadError("offer", f"{name}: settings must be a subclass of Settings")
    wanted = CAPABILITIES[offer.kind]
    if not isinstance(offer.capabilities, wanted) or not is_dataclass(offer.capabilities):
        raise PluginLoadError("offer", f"{name}: capabilities must be a {wanted.__name__}")
    if not callable(offer.build):
        raise PluginLoadError("offer", f"{name}: build must be callable")
