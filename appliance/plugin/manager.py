# SPDX-License-Identifier: Apache-2.0
"""Finds the installed plugins, loads each in isolation, and answers who offers what.

The composition root makes one manager and passes it on; there is no global one. After `discover`
nothing goes through pluggy but the observers, which are told beside the call.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from appliance.plugin import loading, manifest
from appliance.plugin.errors import ConfigurationError
from appliance.plugin.loading import HOOK_TIMEOUT_S, LoadedPlugin, PluginFault, PluginLoadError
from appliance.plugin.manifest import API_VERSION, Installed, Manifest, ManifestError
from appliance.plugin.observers import Observers
from appliance.plugin.offers import Kind, ModelPack, Offer

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the site allows, judged from manifests before any plugin code runs.

    Attributes:
        allow_cloud: plugins that run in a cloud or send anything off premises may load.
        egress: `host:port` that may be connected to, or None for any. A plugin whose manifest names
            another is denied; `*` in the manifest (the address is a setting) needs None here.
    """

    allow_cloud: bool = True
    egress: frozenset[str] | None = None

    def objection(self, plugin: Manifest) -> str:
        """Return why `plugin` may not run here, or ""."""
        if not self.allow_cloud and (plugin.runs == "cloud" or plugin.sends_off_premises):
            sent = " and ".join(plugin.sends_off_premises) or "nothing"
            return f"cloud plugins are not allowed here (it sends {sent} off premises)"
        if self.egress is not None:
            beyond = sorted(set(plugin.egress) - self.egress)
            if beyond:
                return f"it connects to {', '.join(beyond)}, which the site does not allow"
        return ""


@dataclass(frozen=True, slots=True)
class DeniedPlugin:
    """Installed, but kept out by the site's choice; its code was not imported."""

    plugin: str
    reason: str


class PluginManager:
    """The plugins of this box. Make one with `discover`.

    Attributes:
        plugins: the loaded ones, by id.
        faults: what went wrong with the others, and later with observers.
        denied: what the site keeps out.
    """

    def __init__(
        self,
        plugins: Mapping[str, LoadedPlugin],
        faults: Collection[PluginFault] = (),
        denied: Collection[DeniedPlugin] = (),
    ) -> None:
        self.plugins = dict(plugins)
        self.faults = list(faults)
        self.denied = list(denied)
        self._offers = {
            (offer.kind, offer.id): offer
            for plugin in self.plugins.values()
            for offer in plugin.offers
        }
        self._observers = Observers(self.plugins.values(), self._observer_failed)

    @classmethod
    def discover(
        cls,
        allow: Collection[str] | None = None,
        deny: Collection[str] = (),
        *,
        policy: Policy | None = None,
        timeout_s: float = HOOK_TIMEOUT_S,
    ) -> PluginManager:
        """Load what is installed under the entry-point group `trunkline`.

        Args:
            allow: ids that may load, or None for all.
            deny: ids that may not.
            policy: what manifests may ask for.
            timeout_s: for import and hooks of one plugin together.

        Never raises for a plugin's sake: see `faults`.
        """
        discovery = _Discovery(allow, frozenset(deny), policy or Policy(), timeout_s)
        plugins = discovery.run()
        for fault in discovery.faults:
            log.warning("plugin_fault", plugin=fault.plugin, stage=fault.stage, error=fault.message)
        return cls(plugins, discovery.faults, discovery.denied)

    def offers(self, kind: Kind | None = None) -> list[Offer]:
        """Return the offers of `kind`, or all, in the order of plugin ids."""
        return [offer for offer in self._offers.values() if kind in (None, offer.kind)]

    def offer(self, kind: Kind, id: str) -> Offer:  # noqa: A002
        """Return one offer.

        Raises:
            ConfigurationError: nobody offers it; the message says what is installed, and why a
                plugin of that name does not run.
        """
        found = self._offers.get((kind, id))
        if found is not None:
            return found
        known = sorted(offer.id for offer in self.offers(kind))
        reason = self._absence(id)
        message = f"no plugin offers the {kind.value.replace('_', ' ')} {id!r}{reason}"
        near = difflib.get_close_matches(id, known, n=1)
        installed = f"installed: {', '.join(known)}" if known else "none of this kind is installed"
        remedy = f"did you mean {near[0]!r}? {installed}" if near else installed
        raise ConfigurationError(message, remedy=remedy)

    def _absence(self, plugin: str) -> str:
        for denied in self.denied:
            if denied.plugin == plugin:
                return f": the plugin is installed but denied: {denied.reason}"
        for fault in self.faults:
            if fault.plugin == plugin:
                return f": the plugin is installed but failed: {fault.message}"
        return ""

    def plugin_of(self, offer: Offer) -> LoadedPlugin:
        """Return the plugin that made `offer`."""
        return next(one for one in self.plugins.values() if offer in one.offers)

    def model_packs(self) -> list[ModelPack]:
        """Return the model packs of all plugins, in the order of plugin ids."""
        return [pack for plugin in self.plugins.values() for pack in plugin.packs]

    def notify(self, hook_name: str, **kwargs: Any) -> None:
        """Tell the observers of `hook_name`, later and beside the call. Never waits for them, never
        raises for what they do. Call it on the event loop's thread.

        Raises:
            ValueError: there is no such observer hook.
        """
        self._observers.notify(hook_name, kwargs)

    @property
    def observers_dropped(self) -> int:
        """Notifications lost because observers were too slow."""
        return self._observers.dropped

    async def aclose(self) -> None:
        """Let the observers finish what is queued (5 s at most) and stop. Idempotent."""
        await self._observers.aclose()

    def _observer_failed(self, fault: PluginFault) -> None:
        self.faults.append(fault)


class _Discovery:
    """One pass over what is installed."""

    def __init__(
        self,
        allow: Collection[str] | None,
        deny: frozenset[str],
        policy: Policy,
        timeout_s: float,
    ) -> None:
        self._allow = None if allow is None else frozenset(allow)
        self._deny = deny
        self._policy = policy
        self._timeout_s = timeout_s
        self.faults: list[PluginFault] = []
        self.denied: list[DeniedPlugin] = []

    def run(self) -> dict[str, LoadedPlugin]:
        by_id: dict[str, list[Installed]] = defaultdict(list)
        for plugin in manifest.installed():
            by_id[plugin.id].append(plugin)
        loaded: dict[str, LoadedPlugin] = {}
        for plugin_id, claimants in by_id.items():
            if len(claimants) > 1:
                names = " and ".join(one.distribution for one in claimants)
                self._fault(plugin_id, "collision", f"{names} both call themselves {plugin_id!r}")
                continue
            ready = self._load(claimants[0])
            if ready is not None:
                loaded[plugin_id] = ready
        return self._without_collisions(loaded)

    def _load(self, plugin: Installed) -> LoadedPlugin | None:
        if plugin.id in self._deny or (self._allow is not None and plugin.id not in self._allow):
            why = "the configuration denies it" if plugin.id in self._deny else "it is not allowed"
            self.denied.append(DeniedPlugin(plugin.id, why))
            return None
        try:
            about = manifest.read(plugin)
        except ManifestError as error:
            self._fault(plugin.id, "manifest", str(error))
            return None
        if about.api != API_VERSION:
            message = f"it was written for plugin API {about.api}; this box speaks {API_VERSION}"
            self._fault(plugin.id, "api", message)
            return None
        objection = self._policy.objection(about)
        if objection:
            self.denied.append(DeniedPlugin(plugin.id, objection))
            return None
        try:
            return loading.load(plugin, about, self._timeout_s)
        except PluginLoadError as error:
            self._fault(plugin.id, error.stage, error.message)
            return None

    def _without_collisions(self, loaded: dict[str, LoadedPlugin]) -> dict[str, LoadedPlugin]:
        """Refuse all plugins that claim the same thing: none is silently preferred or renamed."""
        claims: dict[str, list[str]] = defaultdict(list)
        for one in loaded.values():
            for offer in one.offers:
                claims[f"{offer.kind}/{offer.id}"].append(one.id)
            for pack in one.packs:
                claims[f"model pack {pack.id}"].append(one.id)
        refused: set[str] = set()
        for claim, ids in claims.items():
            if len(ids) < 2:
                continue
            names = " and ".join(dict.fromkeys(ids))
            for plugin_id in dict.fromkeys(ids):
                self._fault(plugin_id, "collision", f"{claim} is offered twice, by {names}")
            refused.update(ids)
        return {key: one for key, one in loaded.items() if key not in refused}

    def _fault(self, plugin: str, stage: str, message: str) -> None:
        self.faults.append(PluginFault(plugin, stage, message))
