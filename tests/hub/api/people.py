# SPDX-License-Identifier: Apache-2.0
"""People who use the API in tests: each with cookies of their own."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.auth import accounts
from cloud_hub.db.models import Membership
from cloud_hub.db.session import tenant
from tests.hub.servers import Database

PASSWORD = "four corners of the map"
_numbers = itertools.count(1)


@dataclass
class Person:
    """Somebody signed in."""

    client: httpx.AsyncClient
    user_id: UUID
    email: str
    organization_id: UUID

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.get(path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> httpx.Response:
        return await self.client.post(path, json=json, **options)

    async def patch(
        self, path: str, json: Any, version: int | None = None, **options: Any
    ) -> httpx.Response:
        headers = {} if version is None else {"If-Match": f'"{version}"'}
        return await self.client.patch(path, json=json, headers=headers, **options)

    async def delete(self, path: str, version: int | None = None) -> httpx.Response:
        headers = {} if version is None else {"If-Match": f'"{version}"'}
        return await self.client.delete(path, headers=headers)

    async def made(self, path: str, json: Any) -> dict[str, Any]:
        """POST that must succeed."""
        response = await self.post(path, json)
        assert response.status_code == 201, response.text
        body: dict[str, Any] = response.json()
        return body


@dataclass
class Hub:
    """The application and its database."""

    app: FastAPI
    engine: AsyncEngine
    database: Database
    _clients: list[httpx.AsyncClient] = field(default_factory=list)

    def client(self, ip: str = "127.0.0.1", **headers: str) -> httpx.AsyncClient:
        """Somebody unknown, at an address."""
        transport = httpx.ASGITransport(self.app, client=(ip, 4711), raise_app_exceptions=False)
        made = httpx.AsyncClient(
            transport=transport, base_url="http://hub.test/v1", headers=headers
        )
        self._clients.append(made)
        return made

    def program(self, key: str, ip: str = "127.0.0.1") -> httpx.AsyncClient:
        """A program with an API key."""
        return self.client(ip, Authorization=f"Bearer {key}")

    async def owner(self) -> Person:
        """Somebody new with an organization of their own."""
        email = f"owner{next(_numbers)}@example.com"
        user_id = await self._account(email)
        made = await accounts.open_organization(self.engine, user_id, "Ward & Sons")
        return await self.sign_in(email, user_id, made.id)

    async def member(self, organization_id: UUID, role: str) -> Person:
        """Somebody new in an organization."""
        email = f"{role}{next(_numbers)}@example.com"
        user_id = await self._account(email)
        async with tenant(self.engine, organization_id) as session:
            session.add(Membership(organization_id=organization_id, user_id=user_id, role=role))
        return await self.sign_in(email, user_id, organization_id)

    async def sign_in(self, email: str, user_id: UUID, organization_id: UUID) -> Person:
        """Somebody with an account, signed in once more."""
        client = self.client()
        response = await client.post("/sign-in", json={"email": email, "password": PASSWORD})
        assert response.status_code == 200, response.text
        client.headers["X-CSRF-Token"] = response.json()["csrf_token"]
        return Person(client, user_id, email, organization_id)

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()

    async def _account(self, email: str) -> UUID:
        passwords = self.app.state.services.passwords
        encoded = await passwords.hash(PASSWORD)
        return await accounts.open_account(self.engine, email, "Somebody", encoded, verified=True)
