# SPDX-License-Identifier: Apache-2.0
"""The first owner of the demonstration's hub, who works with it as people and programs do: by `/v1`."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from ruamel.yaml import YAML

from appliance.demo.hub import Addresses, HubError
from appliance.sync.claim import ClaimDetails, ClaimError, Door, fetch_authority, same_fingerprint
from appliance.sync.identity import HubFiles

T = TypeVar("T")

EMAIL = "owner@example.com"
ORGANIZATION = "Larkspur Dental"
BOX = "Front desk"
TIMEOUT_S = 30.0
DEPLOY_S = 90.0
LOOK_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Deployed:
    """An agent that a box got from the hub.

    Attributes:
        version_id, number: of the agent's version.
        reported: what the box says that it runs, as the hub shows it.
    """

    version_id: str
    number: int
    reported: Mapping[str, Any]


class Owner:
    """A person signed in at the hub; an async context manager.

    Args:
        addresses: of the hub.
    """

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._client = httpx.AsyncClient(base_url=f"{addresses.api}/v1", timeout=TIMEOUT_S)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def move_in(self, keep: Path) -> None:
        """Become the owner by the link for the first one, with a password made now.

        Args:
            keep: file for e-mail and password, for whoever wants to look around later.

        Raises:
            HubError: the link is not good.
        """
        password = secrets.token_urlsafe(18)
        made = await self.post(
            "/setup",
            {
                "token": self._addresses.setup_token,
                "email": EMAIL,
                "name": "The first owner",
                "password": password,
                "organization": ORGANIZATION,
            },
        )
        self._client.headers["X-CSRF-Token"] = made["csrf_token"]
        with os.fdopen(os.open(keep, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            json.dump({"email": EMAIL, "password": password}, file)

    async def claim(self, files: HubFiles, show: Callable[[str], None]) -> str:
        """Have a box join: it asks and shows a code, the owner enters it, the box fetches its certificate.

        Args:
            files: of the box.
            show: its display.

        Returns:
            The box's id.

        Raises:
            HubError: one of them refused.
        """
        try:
            authority = await fetch_authority(self._addresses.boxes)
            if not same_fingerprint(authority.fingerprint, self._addresses.fingerprint):
                raise HubError("the interface for boxes has not the fingerprint that the hub shows")
            async with Door(self._addresses.boxes, authority.pem) as door:
                details = ClaimDetails(name="demo", software=version("trunkline"))
                pending = await door.ask(files, details)
                show(pending.code)
                box = await self.post("/appliances", {"code": pending.code, "name": BOX})
                if await door.collect(files, pending) is None:
                    raise HubError("the box did not get its certificate")
        except ClaimError as error:
            raise HubError(f"the box was not claimed: {error}") from error
        return str(box["id"])

    async def deploy(self, file: Path, box: str) -> Deployed:
        """Make a version of the agent in `file`, deploy it to a box, and wait until the box runs it.

        Raises:
            HubError: the hub or the box refuses it, or it takes too long.
        """
        content = await asyncio.to_thread(YAML(typ="safe", pure=True).load, file)
        name = content["name"]
        agent = await self.post("/agents", {"name": name, "draft": content})
        made = await self.post(f"/agents/{agent['id']}/versions", {"message": "demonstration"})
        wanted = {"agent_version_id": made["id"], "appliance_id": box}
        deployment = await self.post("/deployments", wanted)

        async def applied() -> Mapping[str, Any] | None:
            state = await self.get(f"/deployments/{deployment['id']}")
            if state["status"] == "halted":
                raise HubError(f"the deployment was halted: {state['reason']} {state['targets']}")
            if state["status"] != "done":
                return None
            reported: Mapping[str, Any] = (await self.get(f"/appliances/{box}"))["reported"]
            running = reported["document"].get("agents", {}).get(name, {})
            return reported if running.get("version") == str(made["number"]) else None

        reported = await until(applied, DEPLOY_S)
        if reported is None:
            raise HubError(f"the box did not report the agent within {DEPLOY_S:.0f} s")
        return Deployed(made["id"], made["number"], reported)

    async def get(self, path: str, **parameters: Any) -> dict[str, Any]:
        """Return what the hub answers.

        Raises:
            HubError: it refuses or cannot be reached.
        """
        return await self._ask("GET", path, params=parameters)

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Have the hub do something; return its answer.

        Raises:
            HubError: it refuses or cannot be reached.
        """
        return await self._ask("POST", path, json=body)

    async def _ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        try:
            answer = await self._client.request(method, path, **more)
        except httpx.HTTPError as error:
            raise HubError(f"{method} {path}: {error or type(error).__name__}") from error
        if not answer.is_success:
            raise HubError(f"{method} {path} was answered with {answer.status_code}: {answer.text}")
        body: dict[str, Any] = answer.json()
        return body


async def until(ask: Callable[[], Awaitable[T | None]], seconds: float) -> T | None:
    """Ask again and again until there is an answer; None when there is none in time."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    while True:
        answer = await ask()
        if answer is not None or clock() >= deadline:
            return answer
        await asyncio.sleep(LOOK_EVERY_S)
