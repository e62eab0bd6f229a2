# SPDX-License-Identifier: Apache-2.0
"""Two organizations with a row of everything, side by side in one database."""

from __future__ import annotations

import pytest

from tests.hub.db.sample import Sample, fill
from tests.hub.servers import Database


@pytest.fixture(scope="module")
def ours(hub_database: Database) -> Sample:
    """The organization in whose name the tests act."""
    return fill(hub_database.dsn("postgres"), "ours")


@pytest.fixture(scope="module")
def theirs(hub_database: Database) -> Sample:
    """The other one, that must stay out of reach."""
    return fill(hub_database.dsn("postgres"), "theirs")
