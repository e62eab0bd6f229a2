# SPDX-License-Identifier: Apache-2.0
"""What ships beside the code is true: reference pages, example configurations, links, locks, licences."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from appliance.cli.config import app as config_app
from appliance.cli.root import COMMANDS, build

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(
    path for path in ROOT.glob("configs/**/*.toml") if "[box]" in path.read_text(encoding="utf-8")
)


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_the_reference_pages_are_what_the_code_says_now() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "docs.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_example_configuration_is_valid_with_its_agents(path: Path) -> None:
    result = CliRunner().invoke(config_app, ["check", "--config", str(path)])
    assert result.exit_code == 0, result.output


def test_there_is_an_example_configuration_to_start_from() -> None:
    assert ROOT / "configs" / "appliance.toml" in EXAMPLES


def test_show_prints_valid_toml_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    file = tmp_path / "a.toml"
    file.write_text(
        '[transport.l]\nuse = "sip"\n[transport.l.trunks."my pbx"]\nregistrars = ["sip:pbx"]\n'
        'username = "1"\npassword = { file = "secret" }\n'
    )
    result = CliRunner().invoke(config_app, ["show", "--config", str(file)])
    assert result.exit_code == 0, result.output
    assert "hunter2" not in result.stdout
    shown = tomllib.loads(result.stdout)
    trunk = shown["transport"]["l"]["trunks"]["my pbx"]
    assert (trunk["password"], trunk["username"]) == ("(hidden)", "1")


def leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if not inner:
        yield name, command
    for key, one in (inner or {}).items():
        yield from leaves(one, f"{name} {key}")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    root = build()
    found = root.get_command(root.make_context("trunkline", [], resilient_parsing=True), command)
    for name, leaf in leaves(found, command):
        text = f"{leaf.help} {leaf.epilog}"
        assert "Cannot be used" not in text
        assert "Example" in text, name


def without_code(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in tracked()
        if page.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", without_code(page))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_locks_name_no_address_and_pin_every_package_by_hash() -> None:
    for name in ("requirements.lock", "requirements-build.lock", "requirements-source.lock"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text
        assert "--index" not in text
        assert "--find-links" not in text
        for entry in re.split(r"\n(?=[A-Za-z0-9])", text.partition("\n")[2]):
            assert "==" in entry
            assert "--hash=sha256:" in entry


def test_locks_hold_what_every_package_of_the_project_asks_for() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    text += (ROOT / "requirements-source.lock").read_text(encoding="utf-8")
    locked = {name.lower() for name in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)}
    for file in (ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")):
        project = tomllib.loads(file.read_text(encoding="utf-8"))
        wanted = list(project["project"]["dependencies"])
        wanted += project.get("dependency-groups", {}).get("dev", [])
        for one in wanted:
            found = re.match(r"[A-Za-z0-9._-]+", one)
            name = re.sub(r"[._-]+", "-", found.group() if found else one).lower()
            if not name.startswith("trunkline"):
                assert name in locked, f"{file.relative_to(ROOT)} asks for {name}: ./run lock"


def test_no_training_framework_is_installed_with_the_box() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"^(torch|transformers|nvidia-|triton|tensorflow)", text, re.MULTILINE)


def test_every_source_file_names_its_licence() -> None:
    gpl = (ROOT / "plugins" / "sip", ROOT / "plugins" / "piper")
    for file in tracked():
        if file.suffix != ".py" and file.name not in {"run", "Justfile"}:
            continue
        head = file.read_text(encoding="utf-8")[:300]
        if not head:
            continue
        inside_gpl = any(folder in file.parents for folder in gpl)
        found = re.search(r"SPDX-License-Identifier: (\S+)", head)
        allowed = {"GPL-3.0-or-later"} if inside_gpl else {"Apache-2.0"}
        if ROOT / "tests" in file.parents:  # tests may load the plugins that are under the GPL
            allowed.add("GPL-3.0-or-later")
        assert found, file.relative_to(ROOT)
        assert found.group(1) in allowed, file.relative_to(ROOT)


def test_each_package_carries_its_licence_text() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    for name in ("sip", "piper"):
        text = (ROOT / "plugins" / name / "LICENSE").read_text(encoding="utf-8")
        assert "GNU GENERAL PUBLIC LICENSE" in text
