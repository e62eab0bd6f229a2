# SPDX-License-Identifier: Apache-2.0
"""The author's pages say what is true: every hook documented, every file, option and name real."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import appliance.plugin
from appliance.plugin import conformance
from appliance.plugin.manifest import Manifest
from appliance.plugin.observers import OBSERVER_HOOKS
from appliance.plugin.offers import Kind

DOCS = Path(__file__).parents[2] / "docs" / "plugins"
GUIDE = (DOCS / "README.md").read_text(encoding="utf-8")


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_hooks", DOCS / "write_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOKS = load_script().hooks()


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_every_hook_says_when_it_is_called_and_what_its_arguments_are(hook: object) -> None:
    assert inspect.isfunction(hook)
    said = inspect.cleandoc(hook.__doc__ or "")
    assert len(said.split()) >= 8, "a hook is documented for the person who implements it"
    explained = "".join(other.__doc__ or "" for other in HOOKS)
    for argument in inspect.signature(hook).parameters:
        assert f"`{argument}`" in explained
    if inspect.signature(hook).return_annotation != "None":
        assert "Return" in said


def test_an_undocumented_hook_would_be_noticed() -> None:
    def call_forgotten(whom: str) -> None: ...

    with pytest.raises(AssertionError):
        test_every_hook_says_when_it_is_called_and_what_its_arguments_are(call_forgotten)


def test_every_hook_is_in_the_reference() -> None:
    reference = (DOCS / "hooks.md").read_text(encoding="utf-8")
    for hook in HOOKS:
        assert f"## {hook.__name__}\n" in reference
    assert {hook.__name__ for hook in HOOKS if hook.__name__ in OBSERVER_HOOKS} == OBSERVER_HOOKS


def test_the_hook_reference_is_current() -> None:
    script = [sys.executable, str(DOCS / "write_hooks.py"), "--check"]
    result = subprocess.run(script, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_guide_explains_every_key_of_the_manifest() -> None:
    for key in Manifest.model_fields:
        assert f"`{key}`" in GUIDE


def test_the_guide_names_every_kind_with_its_conformance_class() -> None:
    for kind in Kind:
        assert f"`{kind}`" in GUIDE
    for name in conformance.__all__:
        if name.endswith("Conformance"):
            assert f"`{name}`" in GUIDE


def test_what_the_guide_imports_exists() -> None:
    imports = re.findall(r"from (appliance[\w.]*) import ([\w, ]+)", GUIDE)
    assert imports
    for module, names in imports:
        found = importlib.import_module(module)
        for name in names.split(","):
            assert hasattr(found, name.strip())


def test_links_of_the_guide_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", GUIDE):
        assert (DOCS / target).exists(), target


def test_the_public_names_are_those_that_the_package_lists() -> None:
    for name in appliance.plugin.__all__:
        assert hasattr(appliance.plugin, name)
