# SPDX-License-Identifier: Apache-2.0
"""`trunkline config check`: the configuration and the agents it names, together."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from appliance.cli.config import app

AGENT = """
version: 1
name: desk
prompt: Be kind.
engines:
  language_model: [local, spare]
"""

BOX = """
[agents]
default = "dsk"
[routes]
"100" = "desk"
"200" = "nobody"
[language_model.local]
use = "scripted"
[speech_to_text.local]
use = "scripted"
[text_to_speech.local]
use = "espeak"
"""


@pytest.fixture
def box(tmp_path: Path) -> Path:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "desk.yaml").write_text(AGENT)
    (tmp_path / "appliance.toml").write_text(BOX)
    return tmp_path / "appliance.toml"


def test_agents_that_do_not_exist_and_engines_that_are_not_configured_are_found(box: Path) -> None:
    result = CliRunner().invoke(app, ["check", "--config", str(box)])
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "agents.default: there is no agent 'dsk'; known: desk",
        "routes.200: there is no agent 'nobody'; known: desk",
        (
            "agent desk: engines.language_model: 'spare' is not configured; "
            "add [language_model.spare] or use one of: local"
        ),
    ]


def test_a_fine_configuration_says_so_and_ends_with_zero(box: Path) -> None:
    box.write_text(BOX.replace("dsk", "desk").replace('"200" = "nobody"', ""))
    agent = box.parent / "agents" / "desk.yaml"
    agent.write_text(AGENT.replace(", spare", ""))
    result = CliRunner().invoke(app, ["check", "--config", str(box)])
    assert (result.exit_code, result.stdout) == (0, f"{box} is fine.\n")


def test_problems_come_as_json_with_their_parts(box: Path) -> None:
    box.write_text("[box]\nthreads = 0\n")
    result = CliRunner().invoke(app, ["check", "--config", str(box), "--json"])
    assert result.exit_code == 1
    (problem,) = json.loads(result.stdout)
    assert problem["where"] == f"{box}:2"
    assert (problem["key"], problem["value"]) == ("box.threads", "0")


def test_no_configuration_at_all_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRUNKLINE_CONFIG", raising=False)
    result = CliRunner().invoke(app, ["check"])
    assert result.exit_code == 2
    assert "Name one with --config" in result.stderr
