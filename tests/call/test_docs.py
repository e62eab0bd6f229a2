# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path

from appliance.call import inputs
from appliance.call.states import State

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs/calls.md").read_text()


def test_every_kind_of_event_is_documented() -> None:
    source = "".join(path.read_text() for path in (ROOT / "appliance/call").glob("*.py"))
    recorded = set(re.findall(r'\brecord\(\s*"([a-z._]+)"', source))
    told = set(inputs._BY_KIND)
    assert len(recorded) > 10
    assert {kind for kind in recorded | told if f"`{kind}`" not in DOCS} == set()


def test_every_state_is_in_the_picture_or_named() -> None:
    assert {state for state in State if state.value not in DOCS} == set()
