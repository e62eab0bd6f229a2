# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys

import pytest

from appliance.plugin import Kind
from appliance.plugin.manifest import ManifestError, installed, parse, read
from tests.plugin.conftest import Site

WHOLE = """
id = "tone"
api = 1
kinds = ["text_to_speech"]
runs = "cloud"
sends_off_premises = ["text"]
egress = ["api.example.com:443"]
secrets = ["api_key"]
gpu_memory_mb = 100
licence = "Apache-2.0"
summary = "Speaks in tones."
"""


def test_a_whole_manifest_is_read_with_its_types() -> None:
    manifest = parse(WHOLE, "plugin.toml")
    assert manifest.kinds == (Kind.TEXT_TO_SPEECH,)
    assert manifest.egress == ("api.example.com:443",)


@pytest.mark.parametrize(
    ("line", "replacement", "names"),
    [
        ('runs = "cloud"', 'runs = "moon"', "runs"),
        ('kinds = ["text_to_speech"]', 'kinds = ["voice"]', "kinds.0"),
        ('egress = ["api.example.com:443"]', 'egress = ["https://x/"]', "egress.0"),
        ('id = "tone"', 'id = "Tone Deaf"', "id"),
        ("api = 1", 'api = "one"', "api"),
        ("gpu_memory_mb = 100", "gpu_memory = 100", "gpu_memory"),
        ('licence = "Apache-2.0"', "", "licence"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(line: str, replacement: str, names: str) -> None:
    with pytest.raises(ManifestError, match=rf"here/plugin\.toml: .*{names}: "):
        parse(WHOLE.replace(line, replacement), "here/plugin.toml")


def test_all_wrong_keys_come_in_one_message() -> None:
    with pytest.raises(ManifestError, match=r"api.*runs"):
        parse(WHOLE.replace("api = 1", "").replace('"cloud"', '"moon"'), "plugin.toml")


def test_text_that_is_no_toml_is_told_with_its_line() -> None:
    with pytest.raises(ManifestError, match=r"plugin\.toml is not valid TOML: .*line 2"):
        parse("api = 1\nid =\n", "plugin.toml")


def test_a_manifest_is_read_without_importing_the_plugin(site: Site) -> None:
    module = site.install("quiet", "raise RuntimeError('imported')")
    plugin = next(one for one in installed() if one.id == "quiet")
    assert read(plugin).id == "quiet"
    assert plugin.version == "1.2.3"
    assert module not in sys.modules


def test_a_package_without_manifest_is_told_so(site: Site) -> None:
    module = site.install("bare", manifest=None)
    plugin = next(one for one in installed() if one.id == "bare")
    with pytest.raises(ManifestError, match=rf"{module} carries no plugin\.toml"):
        read(plugin)


def test_a_manifest_of_another_plugin_is_refused(site: Site) -> None:
    site.install("one")
    site.whole_manifest("one", WHOLE)
    plugin = next(one for one in installed() if one.id == "one")
    with pytest.raises(ManifestError, match=r"says id = 'tone'.*trunkline-one is named 'one'"):
        read(plugin)
