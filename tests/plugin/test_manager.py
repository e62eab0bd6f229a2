# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
import time

import pytest

from appliance.plugin import ConfigurationError, Kind
from appliance.plugin.loading import PluginFault
from appliance.plugin.manager import PluginManager, Policy
from tests.plugin.conftest import API_AND_RUNS, Site

OFFERING = """
from appliance.plugin import (
    Kind, ModelPack, ModelPart, Offer, Settings, TtsCapabilities, hookimpl
)

def build(settings, context):
    raise NotImplementedError

@hookimpl
def register_providers():
    return [
        Offer("{offer}", Kind.TEXT_TO_SPEECH, Settings, build, TtsCapabilities(16000), "A voice.")
    ]

@hookimpl
def register_model_packs():
    return [ModelPack("{offer}-pack", "Models.", {{"a": ModelPart({{}}, "MIT")}})]
"""
VOICE = '["text_to_speech"]'


def discover(*ids: str, policy: Policy | None = None, timeout_s: float = 5.0) -> PluginManager:
    return PluginManager.discover(ids, policy=policy, timeout_s=timeout_s)


def only_fault(manager: PluginManager) -> PluginFault:
    (fault,) = manager.faults
    return fault


def test_what_a_plugin_offers_is_found_by_kind_and_id(site: Site) -> None:
    site.install("flute", OFFERING.format(offer="flute"), kinds=VOICE)
    manager = discover("flute")
    assert not manager.faults
    offer = manager.offer(Kind.TEXT_TO_SPEECH, "flute")
    assert manager.offers(Kind.TEXT_TO_SPEECH) == [offer]
    assert manager.offers(Kind.TOOL) == []
    assert manager.plugin_of(offer).installed.distribution == "trunkline-flute"
    assert [pack.id for pack in manager.model_packs()] == ["flute-pack"]


def test_an_unknown_offer_names_what_is_installed_and_what_is_near(site: Site) -> None:
    site.install("flute", OFFERING.format(offer="flute"), kinds=VOICE)
    with pytest.raises(ConfigurationError, match=r"did you mean 'flute'.*installed: flute"):
        discover("flute").offer(Kind.TEXT_TO_SPEECH, "fluet")


def test_a_plugin_that_fails_to_import_is_named_and_the_rest_loads(site: Site) -> None:
    site.install("broken", "import no_such_library_anywhere")
    site.install("flute", OFFERING.format(offer="flute"), kinds=VOICE)
    manager = discover("broken", "flute")
    assert list(manager.plugins) == ["flute"]
    fault = only_fault(manager)
    assert (fault.plugin, fault.stage) == ("broken", "import")
    assert "no_such_library_anywhere" in fault.message


def test_a_plugin_that_exits_at_import_does_not_take_the_box_with_it(site: Site) -> None:
    site.install("leaver", "raise SystemExit(3)")
    assert "SystemExit" in only_fault(discover("leaver")).message


def test_a_hook_that_raises_is_named(site: Site) -> None:
    site.install(
        "thrower",
        """
        from appliance.plugin import hookimpl

        @hookimpl
        def register_providers():
            raise KeyError("lost")
        """,
    )
    fault = only_fault(discover("thrower"))
    assert fault.stage == "hook"
    assert "register_providers" in fault.message
    assert "lost" in fault.message


def test_a_hook_that_hangs_is_given_up_and_named(site: Site) -> None:
    site.install(
        "hanger",
        """
        import threading
        from appliance.plugin import hookimpl

        @hookimpl
        def register_model_packs():
            threading.Event().wait()
        """,
    )
    start = time.monotonic()
    fault = only_fault(discover("hanger", timeout_s=0.2))
    assert time.monotonic() - start < 3
    assert fault.stage == "hook"
    assert "register_model_packs did not return within 0.2 s" in fault.message


def test_an_import_that_hangs_is_given_up_and_named(site: Site) -> None:
    module = site.install("sleeper", "import threading; threading.Event().wait()")
    fault = only_fault(discover("sleeper", timeout_s=0.2))
    assert fault.stage == "import"
    assert f"import of {module} did not return" in fault.message


def test_a_misspelt_hook_is_refused(site: Site) -> None:
    site.install(
        "typo",
        """
        from appliance.plugin import hookimpl

        @hookimpl
        def register_provider():
            return []
        """,
    )
    assert "register_provider" in only_fault(discover("typo")).message


def test_a_hook_that_returns_the_wrong_thing_is_refused(site: Site) -> None:
    site.install(
        "wrong",
        """
        from appliance.plugin import hookimpl

        @hookimpl
        def register_providers():
            return {"flute": 1}
        """,
    )
    assert "must return a list of Offer, returned dict" in only_fault(discover("wrong")).message


def test_an_offer_of_a_kind_that_the_manifest_hides_is_refused(site: Site) -> None:
    site.install("sly", OFFERING.format(offer="sly"), kinds='["tool"]')
    fault = only_fault(discover("sly"))
    assert fault.stage == "offer"
    assert "text_to_speech/sly is not among the manifest's kinds (tool)" in fault.message


def test_another_api_version_is_refused_and_never_imported(site: Site) -> None:
    module = site.install("future", manifest='api = 2\nruns = "local"\n')
    fault = only_fault(discover("future"))
    assert fault.stage == "api"
    assert "plugin API 2; this box speaks 1" in fault.message
    assert module not in sys.modules


def test_two_plugins_with_the_same_offer_are_refused_and_both_named(site: Site) -> None:
    for plugin in ("left", "right"):
        site.install(plugin, OFFERING.format(offer="same"), kinds=VOICE)
    site.install("flute", OFFERING.format(offer="flute"), kinds=VOICE)
    manager = discover("left", "right", "flute")
    assert list(manager.plugins) == ["flute"]
    assert {fault.plugin for fault in manager.faults} == {"left", "right"}
    assert all("left and right" in fault.message for fault in manager.faults)
    with pytest.raises(ConfigurationError):
        manager.offer(Kind.TEXT_TO_SPEECH, "same")


def test_two_distributions_with_the_same_plugin_id_are_refused_and_both_named(site: Site) -> None:
    site.install("twin", distribution="trunkline-twin")
    site.install("twin", distribution="other-twin")
    message = only_fault(discover("twin")).message
    assert "trunkline-twin" in message
    assert "other-twin" in message


def test_a_denied_plugin_is_not_imported_and_the_config_error_says_why(site: Site) -> None:
    module = site.install("flute", OFFERING.format(offer="flute"), kinds=VOICE)
    manager = PluginManager.discover(["flute"], deny=["flute"])
    assert not manager.faults
    assert module not in sys.modules
    with pytest.raises(ConfigurationError, match="installed but denied: the configuration"):
        manager.offer(Kind.TEXT_TO_SPEECH, "flute")


def test_a_faulty_plugin_is_blamed_when_its_offer_is_asked_for(site: Site) -> None:
    site.install("flute", "raise RuntimeError('out of tune')")
    with pytest.raises(ConfigurationError, match=r"installed but failed: .*out of tune"):
        discover("flute").offer(Kind.TEXT_TO_SPEECH, "flute")


CLOUD = 'api = 1\nruns = "cloud"\nsends_off_premises = ["text"]\negress = ["api.example.com:443"]\n'


def test_policy_can_deny_what_leaves_the_premises(site: Site) -> None:
    module = site.install("cloudy", manifest=CLOUD)
    site.install("local", manifest=API_AND_RUNS)
    manager = discover("cloudy", "local", policy=Policy(allow_cloud=False))
    assert list(manager.plugins) == ["local"]
    assert manager.denied[0].plugin == "cloudy"
    assert "sends text off premises" in manager.denied[0].reason
    assert module not in sys.modules


@pytest.mark.parametrize(
    ("allowed", "loads"), [({"api.example.com:443"}, True), ({"api.example.com:80"}, False)]
)
def test_policy_can_deny_by_address(site: Site, allowed: set[str], loads: bool) -> None:
    site.install("cloudy", manifest=CLOUD)
    manager = discover("cloudy", policy=Policy(egress=frozenset(allowed)))
    assert (list(manager.plugins) == ["cloudy"]) is loads
