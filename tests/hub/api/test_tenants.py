# SPDX-License-Identifier: Apache-2.0
"""One organization's ids in another's hands: generated from the API's own description."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from cloud_hub.api.document import operations
from cloud_hub.db.ids import uuid7
from tests.hub.api.people import Hub, Person
from tests.hub.db.sample import fill

ROWS = {
    "team_id": "teams",
    "key_id": "api_keys",
    "agent_id": "agents",
    "agent_version_id": "agent_versions",
    "deployment_id": "deployments",
    "appliance_id": "appliances",
    "replaces": "appliances",
    "group_id": "appliance_groups",
    "appliance_group_id": "appliance_groups",
    "command_id": "commands",
    "call_id": "calls",
    "recording_id": "recordings",
    "invitation_id": "invitations",
}
BODIES: dict[str, dict[str, Any]] = {
    "update_member": {"role": "viewer"},
    "update_team": {"name": "Ours now"},
    "update_key": {"name": "Ours now"},
    "update_agent": {"description": "Ours now"},
    "create_agent_version": {"content": {"name": "reception"}},
    "update_appliance": {"name": "Ours now"},
    "update_appliance_group": {"name": "Ours now"},
    "halt_deployment": {"reason": "Ours now"},
    "create_command": {"kind": "restart"},
}
SESSIONS = {"revoke_session"}


@pytest.fixture
def theirs(hub: Hub) -> dict[str, UUID]:
    """An id of each kind, of an organization with a row of everything."""
    sample = fill(hub.database.dsn("postgres"), f"theirs{uuid7().hex[-6:]}")
    found = {"user_id": sample.user_id}
    with psycopg.connect(hub.database.dsn("postgres")) as connection:
        for name, table in ROWS.items():
            row = connection.execute(
                f"SELECT id FROM {table} WHERE organization_id = %s LIMIT 1",
                (sample.organization_id,),
            ).fetchone()
            assert row is not None, table
            found[name] = row[0]
    return found


async def answer(client: httpx.AsyncClient, method: str, path: str, name: str) -> tuple[int, Any]:
    headers = {"If-Match": '"1"'}
    body = BODIES.get(name) if method in {"post", "patch"} else None
    response = await client.request(method, path, json=body, headers=headers)
    content = response.json()
    content.pop("request_id", None)
    return response.status_code, content


async def test_every_path_with_another_organizations_ids_answers_as_if_they_did_not_exist(
    hub: Hub, ada: Person, theirs: dict[str, UUID]
) -> None:
    tried = 0
    for path, method, operation in operations(hub.app.openapi()):
        names = re.findall(r"{(\w+)}", path)
        if not names or operation["operationId"] in SESSIONS:
            continue

        def at(ids: dict[str, UUID], path: str = path) -> str:
            plain = path.removeprefix("/v1").replace("{number}", "1")
            return re.sub(r"{(\w+)}", lambda found: str(ids[found[1]]), plain)

        foreign = await answer(ada.client, method, at(theirs), operation["operationId"])
        random = {name: uuid7() for name in theirs}
        unknown = await answer(ada.client, method, at(random), operation["operationId"])
        assert foreign == unknown, operation["operationId"]
        assert foreign[0] == 404, (operation["operationId"], foreign)
        tried += 1
    assert tried > 30


async def test_every_filter_with_another_organizations_ids_finds_nothing(
    hub: Hub, ada: Person, theirs: dict[str, UUID]
) -> None:
    tried = 0
    for path, method, operation in operations(hub.app.openapi()):
        for parameter in operation.get("parameters", []):
            if method != "get" or parameter["in"] != "query" or parameter["name"] not in theirs:
                continue
            value = str(theirs[parameter["name"]])
            response = await ada.get(path.removeprefix("/v1"), params={parameter["name"]: value})
            assert response.status_code == 200, response.text
            assert response.json()["data"] == [], operation["operationId"]
            tried += 1
    assert tried > 8


async def test_every_body_with_another_organizations_ids_is_refused_as_if_they_did_not_exist(
    hub: Hub, ada: Person, theirs: dict[str, UUID]
) -> None:
    box = await ada.made("/appliance-groups", {"name": "North"})
    team = await ada.made("/teams", {"name": "Night"})
    wanted: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/appliance-tokens", {"name": "x", "replaces": "replaces"}),
        ("POST", "/deployments", {"agent_version_id": "agent_version_id"}),
        (
            "POST",
            "/deployments",
            {"agent_version_id": "agent_version_id", "appliance_id": "appliance_id"},
        ),
    ]
    assert box
    for method, path, body in wanted:
        answers = []
        for ids in (theirs, {name: uuid7() for name in theirs}):
            filled = {
                name: str(ids[name]) if value == name and name in ids else value
                for name, value in body.items()
            }
            response = await ada.client.request(method, path, json=filled)
            content = response.json()
            content.pop("request_id")
            answers.append((response.status_code, content))
        assert answers[0] == answers[1]
        assert answers[0][0] in {404, 422}
    foreign = await ada.client.put(f"/teams/{team['id']}/members/{theirs['user_id']}")
    assert foreign.status_code == 404


async def test_a_cursor_of_another_organization_or_list_is_refused(hub: Hub, ada: Person) -> None:
    eve = await hub.owner()
    cursors = []
    for person in (ada, eve):
        for number in range(3):
            await person.made("/teams", {"name": f"Team {number}"})
        found = (await person.get("/teams", params={"limit": 2})).json()
        assert len(found["data"]) == 2
        cursors.append(found["next_cursor"])
    own = await ada.get("/teams", params={"limit": 2, "cursor": cursors[0]})
    assert [each["name"] for each in own.json()["data"]] == ["Team 2"]
    assert own.json()["next_cursor"] is None
    altered = cursors[0][:-1] + ("A" if cursors[0][-1] != "A" else "B")
    for path, cursor in [("/teams", cursors[1]), ("/keys", cursors[0]), ("/teams", altered)]:
        response = await ada.get(path, params={"cursor": cursor})
        assert (response.status_code, response.json()["code"]) == (400, "bad_cursor")


async def test_what_only_the_hub_decides_cannot_be_written(hub: Hub, ada: Person) -> None:
    for extra in ("organization_id", "id", "created_by", "version", "role", "cost_micros"):
        for path in ("/teams", "/agents", "/keys", "/appliance-groups"):
            response = await ada.post(path, {"name": "reception", extra: str(uuid7())})
            assert response.status_code == 422, (path, extra, response.text)
