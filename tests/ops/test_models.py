# SPDX-License-Identifier: Apache-2.0
"""Model packs: resolved, verified, pulled from a hub on this machine, cut off, resumed, refused."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from trunkline_starter_models import pack_dir
from trunkline_starter_models.checksums import ASR, LLM
from typer.testing import CliRunner

from appliance.cli import models as cli
from appliance.engines import packs
from appliance.engines.packs import Library, builtin_packs, resolver, sha256
from appliance.engines.pull import PullError, pull_part
from appliance.plugin import ModelNotFoundError, ModelPack, ModelPart
from tests.ops.hub import COMMIT, Hub

WEIGHTS = random.Random(1).randbytes(300_000)
FILES = {"sub/model.bin": WEIGHTS, "config.json": b"{}"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub(dict(FILES))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    yield server
    server.close()


def library(tmp_path: Path, digest: str = "") -> Library:
    part = ModelPart(
        files={"sub/model.bin": digest, "config.json": ""}, licence="MIT", repo="org/repo"
    )
    return Library(tmp_path, {"p": ModelPack("p", "For tests.", {"asr": part})})


class Source:
    """Packs as plugins give them."""

    def __init__(self, *found: ModelPack) -> None:
        self._packs = list(found)

    def model_packs(self) -> list[ModelPack]:
        return self._packs


def test_a_pull_puts_verified_files_in_place_and_records_them(hub: Hub, tmp_path: Path) -> None:
    models = library(tmp_path)
    seen: list[tuple[str, int, int]] = []
    pulled = pull_part(models, "p/asr", lambda *what: seen.append(what))
    assert pulled.fetched
    assert (pulled.folder / "model.bin").read_bytes() == WEIGHTS
    assert sorted(path.name for path in pulled.folder.iterdir()) == ["config.json", "model.bin"]
    assert seen[-1] == ("config.json", 2, 2)
    assert ("model.bin", 300_000, 300_000) in seen
    lock = json.loads(models.lock_file.read_text())["p/asr"]
    assert lock["commit"] == COMMIT
    assert lock["files"]["model.bin"] == sha256(pulled.folder / "model.bin")
    assert not (models.root / ".partial").exists()
    assert models.resolve("p/asr") == pulled.folder


def test_a_second_pull_fetches_nothing(hub: Hub, tmp_path: Path) -> None:
    pull_part(library(tmp_path), "p/asr")
    hub.requests.clear()
    assert not pull_part(library(tmp_path), "p/asr").fetched
    assert hub.requests == []


def test_a_download_that_was_cut_off_goes_on_where_it_stopped(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The hub's library writes 10 MB at a time; the file of this test is smaller than that.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 16_384)
    models = library(tmp_path)
    hub.cut_after = [100_000]
    with pytest.raises(PullError, match=r"503.*kept"):
        pull_part(models, "p/asr")
    assert not (models.root / "p").exists()
    kept = (models.root / ".partial" / "p" / "asr" / "model.bin.part").stat().st_size
    assert kept > 0
    hub.refusing = False
    hub.ranges.clear()
    assert pull_part(models, "p/asr").fetched
    assert hub.ranges[0] == f"bytes={kept}-"
    assert (models.resolve("p/asr") / "model.bin").read_bytes() == WEIGHTS


def test_what_was_kept_of_another_version_is_not_mixed_in(hub: Hub, tmp_path: Path) -> None:
    models = library(tmp_path)
    hub.cut_after = [100_000]
    with pytest.raises(PullError):
        pull_part(models, "p/asr")
    hub.refusing = False
    hub.files["sub/model.bin"] = WEIGHTS[::-1]
    pull_part(models, "p/asr")
    assert (models.resolve("p/asr") / "model.bin").read_bytes() == WEIGHTS[::-1]


def test_with_no_network_nothing_is_half_written_and_the_message_helps(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PullError, match=r"127\.0\.0\.1:9 cannot be reached.*goes on"):
        pull_part(library(tmp_path), "p/asr")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not (tmp_path / "models" / ".partial").exists()


def test_files_that_differ_from_the_packs_checksum_are_discarded(hub: Hub, tmp_path: Path) -> None:
    models = library(tmp_path, digest="0" * 64)
    with pytest.raises(PullError, match=r"checksum of model\.bin differs from the recorded one"):
        pull_part(models, "p/asr")
    assert not (models.root / "p").exists()
    assert list(models.root.rglob("model.bin*")) == []


def test_files_that_differ_from_what_the_hub_says_are_discarded(hub: Hub, tmp_path: Path) -> None:
    hub.lying_etag = "1" * 64
    with pytest.raises(PullError, match="differs from the hub's"):
        pull_part(library(tmp_path), "p/asr")


def test_a_repository_that_is_gone_is_said_to_be_gone(hub: Hub, tmp_path: Path) -> None:
    hub.files.clear()
    with pytest.raises(PullError, match="404"):
        pull_part(library(tmp_path), "p/asr")


def test_later_pulls_are_held_to_the_first_one(hub: Hub, tmp_path: Path) -> None:
    models = library(tmp_path)
    folder = pull_part(models, "p/asr").folder
    (folder / "model.bin").unlink()
    hub.files["sub/model.bin"] = b"something else"
    with pytest.raises(PullError, match="differs from the recorded one"):
        pull_part(models, "p/asr")
    assert f"/resolve/{COMMIT}/" in hub.requests[-1]
    assert (folder / "config.json").exists()


def test_a_damaged_file_is_found_when_the_model_is_loaded(hub: Hub, tmp_path: Path) -> None:
    models = library(tmp_path)
    file = pull_part(models, "p/asr").folder / "model.bin"
    file.write_bytes(WEIGHTS[:-1] + b"x")
    with pytest.raises(ModelNotFoundError, match=r"checksum.*models pull p"):
        library(tmp_path).resolve("p/asr")
    assert pull_part(models, "p/asr").fetched


def test_a_file_is_read_again_only_when_it_changed(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = library(tmp_path)
    pull_part(models, "p/asr")
    models.resolve("p/asr")
    read: list[Path] = []

    def counted(file: Path) -> str:
        read.append(file)
        return sha256(file)

    monkeypatch.setattr(packs, "sha256", counted)
    again = library(tmp_path)
    again.resolve("p/asr")
    assert read == []
    again.check("p/asr", again.packs["p"].parts["asr"], again=True)
    assert len(read) == 2


def test_a_model_may_be_a_path_and_a_wrong_name_says_what_there_is(tmp_path: Path) -> None:
    find = resolver(tmp_path, Source())
    assert find(str(tmp_path)) == tmp_path
    with pytest.raises(ModelNotFoundError, match="did you mean 'small/asr'"):
        find("smal/asr")
    with pytest.raises(ModelNotFoundError, match="its parts: small/asr, small/llm, small/tts"):
        find("small/vad")
    with pytest.raises(ModelNotFoundError, match="run: trunkline models pull small"):
        find("small/asr")


def test_a_part_in_a_plugin_with_one_file_resolves_to_that_file(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"gguf")
    part = ModelPart(
        files={"m.gguf": sha256(tmp_path / "m.gguf")}, licence="Apache-2.0", path=tmp_path
    )
    find = resolver(tmp_path / "data", Source(ModelPack("mine", "", {"llm": part})))
    assert find("mine/llm") == tmp_path / "m.gguf"


def test_every_built_in_part_names_repository_licence_and_files() -> None:
    assert list(builtin_packs()) == ["small", "standard", "large"]
    for pack in builtin_packs().values():
        assert list(pack.parts) == ["asr", "llm", "tts"]
        for part in pack.parts.values():
            assert part.repo
            assert part.licence
            assert part.files


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUNKLINE_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def test_the_command_lists_the_starter_pack_and_what_can_be_pulled(data: Path) -> None:
    result = CliRunner().invoke(cli.app, ["list", "--json"])
    assert result.exit_code == 0, result.output
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert rows["starter/asr"]["source"] == "in a plugin"
    assert rows["small/asr"] | {"folder": ""} == {
        "name": "small/asr",
        "present": False,
        "bytes": 0,
        "licence": "MIT",
        "source": "Systran/faster-whisper-base",
        "folder": "",
    }


def test_the_command_pulls_from_a_hub_and_shows_the_licence(
    data: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = library(data).packs["p"]
    monkeypatch.setattr(cli, "all_packs", lambda source: {"p": pack})
    result = CliRunner().invoke(cli.app, ["pull", "p", "--json"])
    assert result.exit_code == 0, result.output
    assert "p/asr: licence MIT, from org/repo" in result.stderr
    assert json.loads(result.stdout)[0]["fetched"]
    assert CliRunner().invoke(cli.app, ["verify", "p"]).exit_code == 0
    (data / "models" / "p" / "asr" / "config.json").write_text("{ }")
    result = CliRunner().invoke(cli.app, ["verify", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)[0]["faults"][0]["message"].startswith("its checksum differs")


def test_the_command_without_a_network_ends_with_one_and_says_so(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    result = CliRunner().invoke(cli.app, ["pull", "small"])
    assert result.exit_code == 1
    assert "cannot be reached" in result.stderr
    assert not (data / "models" / "small").exists()


def test_the_command_names_the_packs_when_one_is_unknown(data: Path) -> None:
    result = CliRunner().invoke(cli.app, ["pull", "smal"])
    assert result.exit_code == 2
    assert "Known: starter, small, standard, large" in result.stderr


def test_the_starter_models_are_the_ones_whose_checksums_ship_with_them() -> None:
    for name, recorded in (("asr", ASR), ("llm", LLM)):
        folder = pack_dir() / name
        files = [
            f
            for f in folder.rglob("*")
            if f.is_file() and f.name not in {"MODEL_CARD.md", "eval.json"}
        ]
        found = {file.relative_to(folder).as_posix(): sha256(file) for file in files}
        assert found == recorded, "run: (cd plugins/starter_models; python -m recipe.checksums)"
