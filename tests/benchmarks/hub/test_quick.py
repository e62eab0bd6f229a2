# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the hub, small: every part of it with a real hub, and nothing lost or doubled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.hub.__main__ import main

pytestmark = pytest.mark.slow


def test_the_benchmark_of_the_hub_measures_every_part_and_counts_every_row(tmp_path: Path) -> None:
    file = tmp_path / "hub.json"
    main(["--quick", "--json", str(file)])
    report = json.loads(file.read_text())
    results = {name.partition("@")[0]: result for name, result in report["results"].items()}
    assert report["benchmark"] == "hub"
    for part in ("", "drain_"):
        assert results[f"trunkline/{part}missing"]["mean"] == 0
        assert results[f"trunkline/{part}twice"]["mean"] == 0
    assert results["trunkline/unacknowledged"]["mean"] == 0
    assert results["trunkline/publish_to_committed"]["n"] > 100
    assert results["trunkline/drain_rate"]["mean"] > 0
    for sort in ("list_first", "list_deep", "list_by_caller", "detail", "transcript"):
        assert results[f"trunkline/api_{sort}"]["n"] == 10
