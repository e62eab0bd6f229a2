# SPDX-License-Identifier: Apache-2.0
"""The application over a real database, and people and programs who use it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from argon2 import PasswordHasher
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.api.settings import ApiSettings
from cloud_hub.app import create_app
from cloud_hub.auth.passwords import Passwords
from tests.hub.api.people import Hub, Person
from tests.hub.servers import Database

PLENTY = 1_000_000


@pytest.fixture(scope="module")
def api_settings(tmp_path_factory: pytest.TempPathFactory) -> ApiSettings:
    """Settings under which no test meets a limit that it is not about."""
    return ApiSettings(
        data_folder=tmp_path_factory.mktemp("hub"),
        public_url="http://hub.test",
        key_rate=PLENTY,
        address_rate=PLENTY,
        sign_in_rate=PLENTY,
    )


@pytest.fixture
def quick() -> Passwords:
    """Argon2id at a cost that tests can afford."""
    return Passwords(PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))


@pytest.fixture
async def hub(
    api_settings: ApiSettings, api_engine: AsyncEngine, hub_database: Database, quick: Passwords
) -> AsyncIterator[Hub]:
    """The application, and ways to be somebody in it."""
    made = Hub(create_app(api_settings, api_engine, passwords=quick), api_engine, hub_database)
    yield made
    await made.close()


@pytest.fixture
async def ada(hub: Hub) -> Person:
    """The owner of an organization of her own, signed in."""
    return await hub.owner()
