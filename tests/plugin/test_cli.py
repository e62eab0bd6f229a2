# SPDX-License-Identifier: Apache-2.0
"""`trunkline plugins` as a person types it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from appliance.cli.plugins import app
from tests.plugin.conftest import Site

VOICE = """
from appliance.plugin import hookimpl
from pydantic import Field, SecretStr
from appliance.plugin import Kind, Offer, Settings, TtsCapabilities
from tests.plugin.fakes import Tts

class VoiceSettings(Settings):
    voice: str = Field("first", description="Which voice speaks.")
    api_key: SecretStr = Field(SecretStr("hush"), description="The key.")

class Voice(Tts):
{body}

@hookimpl
def register_providers():
    return [
        Offer(
            "{plugin}", Kind.TEXT_TO_SPEECH, VoiceSettings,
            lambda settings, context: Voice(), Tts.capabilities, "Hums.",
        )
    ]
"""
MANIFEST = 'api = 1\nruns = "local"\nsecrets = ["api_key"]\n'
KIND = '["text_to_speech"]'

SLOW_TO_CANCEL = """
    async def speak(self, text, request):
        import asyncio
        try:
            async for chunk in super().speak(text, request):
                yield chunk
        finally:
            await asyncio.sleep(0.1)
"""

WRONG_ORDER = """
    async def speak(self, text, request):
        held = None
        async for chunk in super().speak(text, request):
            if held is None:
                held = chunk
                continue
            yield type(chunk)(chunk.pcm, held.marks[:0])
            yield type(chunk)(held.pcm, chunk.marks + held.marks)
            held = None
        if held is not None:
            yield held
"""

LEAKED_THREAD = """
    def __init__(self):
        import threading
        wait = threading.Event().wait
        threading.Thread(target=wait, name="forgotten", daemon=True).start()
"""

HANGING_HOOK = """
import threading
from appliance.plugin import hookimpl

@hookimpl
def register_providers():
    threading.Event().wait()
"""


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let in only the plugins that the tests install."""
    path = tmp_path / "appliance.toml"
    path.write_text('[plugins]\nallow = ["hum", "broken", "cloudy"]\nallow_cloud = false\n')
    monkeypatch.setenv("TRUNKLINE_CONFIG", str(path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    return path


def install_hum(site: Site, plugin: str = "hum", body: str = "    pass") -> None:
    site.install(plugin, VOICE.format(plugin=plugin, body=body), manifest=MANIFEST, kinds=KIND)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def test_list_shows_what_is_offered_what_is_denied_and_what_is_faulty(site: Site) -> None:
    install_hum(site)
    site.install("broken", "import no_such_library_anywhere")
    site.install("cloudy", manifest='api = 1\nruns = "cloud"\nsends_off_premises = ["audio"]\n')
    result = run("list")
    assert result.exit_code == 1
    assert "text_to_speech/hum" in result.stdout
    assert "fault plugin broken: import:" in result.stdout
    assert "denied cloudy: cloud plugins are not allowed here" in result.stdout
    data = run_json("list")
    assert [one["id"] for one in data["plugins"]] == ["hum"]
    assert [one["stage"] for one in data["faults"]] == ["import"]


def test_list_is_content_when_nothing_is_wrong(site: Site) -> None:
    install_hum(site)
    assert run("list").exit_code == 0


def test_show_prints_manifest_settings_capabilities_and_hooks_but_no_secret(site: Site) -> None:
    install_hum(site)
    out = run("show", "hum").stdout
    for expected in ("Apache-2.0", "Which voice speaks.", "sample_rate", "register_providers"):
        assert expected in out
    assert "hush" not in out + run("show", "hum", "--json").stdout
    settings = run_json("show", "hum")["offers"][0]["settings"]
    assert settings[0] == {
        "name": "voice",
        "type": "str",
        "required": False,
        "default": "first",
        "description": "Which voice speaks.",
    }


def test_show_of_an_unknown_plugin_names_the_installed_ones(site: Site) -> None:
    install_hum(site)
    result = run("show", "humm")
    assert result.exit_code == 2
    assert "Installed: hum." in result.output


def test_show_of_a_faulty_plugin_says_what_is_wrong(site: Site) -> None:
    site.install("broken", "import no_such_library_anywhere")
    result = run("show", "broken")
    assert result.exit_code == 1
    assert "no_such_library_anywhere" in result.output


def test_check_passes_a_plugin_that_keeps_its_contract(site: Site) -> None:
    install_hum(site)
    result = run("check", "hum")
    assert result.exit_code == 0, result.output
    assert "FAIL" not in result.stdout


@pytest.mark.parametrize(
    ("body", "name", "detail"),
    [
        (SLOW_TO_CANCEL, "cancelled, it stops within 20 ms and leaves no task", "ms to stop"),
        (WRONG_ORDER, "word marks rise and lie inside the text and the audio", "come after"),
        (
            LEAKED_THREAD,
            "after aclose nothing is left: no task, no thread, no open file",
            "threads are left: forgotten",
        ),
    ],
)
def test_check_fails_a_broken_plugin_and_names_the_fault(
    site: Site, body: str, name: str, detail: str
) -> None:
    install_hum(site, body=body)
    result = run("check", "text_to_speech/hum", "--json")
    assert result.exit_code == 1
    failed = [one for one in json.loads(result.stdout) if one["passed"] is False]
    assert [one["name"] for one in failed] == [name]
    assert detail in failed[0]["detail"]


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import no_such_library_anywhere", "import of .* 'no_such_library_anywhere'"),
        (HANGING_HOOK, r"hook: hook register_providers did not return within 5 s"),
    ],
)
def test_check_fails_a_plugin_that_does_not_load(site: Site, code: str, fault: str) -> None:
    install_hum(site)
    site.install("broken", code)
    result = run("check", "broken")
    assert result.exit_code == 1
    assert "FAIL" in result.stdout
    assert re.search(fault, result.stdout)


def test_check_takes_settings_from_the_command_line_and_from_a_file(
    site: Site, tmp_path: Path
) -> None:
    install_hum(site)
    good = tmp_path / "good.toml"
    good.write_text('voice = "second"\n')
    assert run("check", "text_to_speech/hum", "-s", str(good)).exit_code == 0
    result = run("check", "text_to_speech/hum", "-s", "vioce=second")
    assert result.exit_code == 1
    assert "vioce" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "nothing"), "no plugin 'nothing' is loaded. Loaded: hum"),
        (("check", "text_to_speech/none"), "installed: hum"),
        (("check", "-s", "voice=x"), "--settings needs exactly one ID"),
        (("check", "hum", "-s", "no/such/file.toml"), "neither KEY=VALUE nor a file"),
    ],
)
def test_check_explains_a_wrong_command(site: Site, arguments: tuple[str, ...], said: str) -> None:
    install_hum(site)
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.output
