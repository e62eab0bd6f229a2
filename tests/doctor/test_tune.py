# SPDX-License-Identifier: Apache-2.0
"""`trunkline doctor --tune`: settings for the hardware, ready to paste."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from appliance import config as configuration
from appliance.cli.doctor import doctor
from appliance.config.toml import dumps
from appliance.doctor.tune import Gpu, Hardware, look, most_calls, parse_gpus, propose, threads
from appliance.plugin.manager import PluginManager
from tests.lab.process import DEMO_CONFIG

SMALL = Hardware(2, 4.0)
LARGE = Hardware(16, 64.0)
WITH_GPU = Hardware(16, 128.0, (Gpu("NVIDIA L40S", 44.7),))


def run(*options: str) -> Any:
    app = typer.Typer()
    app.command()(doctor)
    return CliRunner().invoke(app, [*options, "--tune"])


@pytest.mark.parametrize("cores", [1, 2, 4, 6, 8, 16, 64])
def test_engines_never_get_more_threads_than_there_are_cores(cores: int) -> None:
    model, recognizer = threads(Hardware(cores, 16.0))
    assert min(model, recognizer) >= 1
    assert cores <= 4 or model + recognizer + 2 <= cores


def test_a_small_box_gets_one_thread_an_engine_and_workers() -> None:
    made = propose(SMALL)
    assert made.settings["box"]["threads"] == 1
    assert made.settings["language_model.local"]["threads"] == 1
    assert made.settings["speech_to_text.local"]["placement"] == "worker"


def test_one_core_keeps_its_engines_inline() -> None:
    assert propose(Hardware(1, 1.0)).settings["language_model.local"]["placement"] == "inline"


def test_a_gpu_gets_the_models_and_their_batches() -> None:
    made = propose(WITH_GPU).settings
    assert made["speech_to_text.local"]["device"] == "cuda"
    assert made["speech_to_text.local"]["batch_size"] > 1
    assert made["language_model.local"]["gpu_layers"] == -1
    assert made["limits"]["max_calls"] == most_calls(WITH_GPU)


def test_more_hardware_never_means_fewer_calls() -> None:
    sizes = [SMALL, LARGE, WITH_GPU, Hardware(64, 512.0, (Gpu("H200", 140.0),))]
    calls = [most_calls(size) for size in sizes]
    assert calls == sorted(calls)
    assert calls[-1] <= 250


@pytest.mark.parametrize("hardware", [SMALL, LARGE, WITH_GPU], ids=["small", "large", "gpu"])
def test_what_is_proposed_is_a_valid_configuration(hardware: Hardware, tmp_path: Path) -> None:
    plugins = PluginManager.discover()
    demo = configuration.load(DEMO_CONFIG, plugins)
    made = tomllib.loads(propose(hardware, demo).toml())
    merged = tomllib.loads(DEMO_CONFIG.read_text(encoding="utf-8"))
    for section, values in made.items():
        for key, value in values.items():
            if isinstance(value, dict):
                merged[section].setdefault(key, {}).update(value)
            else:
                merged.setdefault(section, {})[key] = value
    merged["agents"]["dir"] = str(DEMO_CONFIG.parent / merged["agents"]["dir"])
    merged["language_model"]["degraded"]["script"] = str(
        DEMO_CONFIG.parent / merged["language_model"]["degraded"]["script"]
    )
    path = tmp_path / "appliance.toml"
    path.write_text(dumps(merged), encoding="utf-8")
    configuration.load(path, plugins)


def test_every_setting_has_its_reason_beside_it() -> None:
    made = propose(WITH_GPU)
    for section, values in made.settings.items():
        for key in values:
            assert made.why[f"{section}.{key}"] in made.toml()


def test_lines_of_nvidia_smi_that_are_no_gpu_are_left_out() -> None:
    text = "NVIDIA H200, 143771\nNVIDIA A2, [N/A]\n\nTesla T4, 15360\n"
    assert parse_gpus(text) == [Gpu("NVIDIA H200", 140.4), Gpu("Tesla T4", 15.0)]


def test_this_machine_has_a_core_and_memory() -> None:
    here = look()
    assert here.cores >= 1
    assert here.memory_gib > 0


def test_the_command_prints_toml_to_paste_or_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run()
    assert done.exit_code == 0, done.output
    assert tomllib.loads(done.stdout)["box"]["threads"] >= 1
    found = json.loads(run("--json").stdout)
    assert found["settings"]["limits"]["max_calls"] >= 1
    assert found["hardware"]["cores"] >= 1


def test_only_settings_that_the_configured_providers_have_are_proposed() -> None:
    done = run("--config", str(DEMO_CONFIG))
    assert done.exit_code == 0, done.output
    made = tomllib.loads(done.stdout)
    assert "local" in made["language_model"]
    assert "degraded" not in made["language_model"]
    assert "text_to_speech" not in made
