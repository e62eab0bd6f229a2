# SPDX-License-Identifier: Apache-2.0
"""The table of operations, tried on every route: each role, keys with and without the scope, nobody."""

from __future__ import annotations

import re

import httpx
import pytest
from fastapi.routing import APIRoute

from cloud_hub.app import PREFIX, api_routes
from cloud_hub.auth.operations import RULES, SCOPES, Access, Rule, scopes_of
from cloud_hub.db.ids import uuid7
from cloud_hub.db.models import ROLES
from tests.hub.api.people import Hub, Person

REFUSALS = {"forbidden", "persons_only"}


def operations() -> list[tuple[str, str, str, Rule]]:
    """Name, method, path below the prefix, rule; what ends the session comes last."""
    found = []
    for route in api_routes():
        assert isinstance(route, APIRoute)
        assert route.operation_id
        method = next(iter(route.methods or ()))
        found.append((route.operation_id, method, route.path, RULES[route.operation_id]))
    return sorted(found, key=lambda each: (each[0] == "sign_out", each[0]))


async def ask(client: httpx.AsyncClient, method: str, path: str) -> httpx.Response:
    """Ask for something that does not exist, with an empty body: who may gets 200, 404, 422 or 428."""
    path = "../setup" if path == "/setup" and method == "GET" else path
    path = path.replace("{number}", "1")
    path = re.sub(r"{\w+}", lambda _: str(uuid7()), path)
    json: dict[str, str] | None = {} if method in {"POST", "PUT", "PATCH"} else None
    return await client.request(method, path, json=json)


def refused(response: httpx.Response) -> bool:
    assert response.status_code < 500, response.text
    return response.status_code == 403 and response.json()["code"] in REFUSALS


def test_the_table_and_the_routes_are_the_same_list() -> None:
    names = [name for name, *_ in operations()]
    assert sorted(names) == sorted(RULES)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_may_do_what_the_table_says_and_nothing_else(
    hub: Hub, ada: Person, role: str
) -> None:
    person = await hub.member(ada.organization_id, role)
    for name, method, path, rule in operations():
        if rule.access is Access.PUBLIC:
            continue
        response = await ask(person.client, method, path)
        allowed = rule.access is Access.PERSON or role in rule.roles
        assert refused(response) is not allowed, (name, response.status_code, response.text)
        assert response.status_code != 401, (name, response.text)


async def test_a_key_may_do_what_its_scopes_say_and_never_what_is_for_people(
    hub: Hub, ada: Person
) -> None:
    async def program(*scopes: str) -> httpx.AsyncClient:
        made = await ada.made("/keys", {"name": "program", "scopes": scopes})
        return hub.program(made["key"])

    everything = await program(*SCOPES)
    without = {
        scope: await program(*(each for each in SCOPES if each != scope)) for scope in SCOPES
    }
    for name, method, path, rule in operations():
        if rule.access is Access.PUBLIC:
            continue
        response = await ask(everything, method, path)
        allowed = rule.access is Access.MEMBER and bool(rule.scope)
        assert refused(response) is not allowed, (name, response.text)
        if allowed:
            assert refused(await ask(without[rule.scope], method, path)), name


async def test_nobody_gets_past_the_door(hub: Hub) -> None:
    client = hub.client()
    for name, method, path, rule in operations():
        response = await ask(client, method, path)
        if rule.access is Access.PUBLIC:
            assert response.status_code != 401, name
        else:
            assert (response.status_code, response.json()["code"]) == (401, "unauthorized"), name


def test_no_role_can_give_a_key_more_than_it_may_do_itself() -> None:
    for role in ROLES:
        for rule in RULES.values():
            if rule.scope in scopes_of(role):
                assert role in rule.roles
    assert scopes_of("owner") == set(SCOPES)
    assert "transcripts:read" not in scopes_of("billing")


def test_all_paths_lie_under_the_prefix_of_the_version(hub: Hub) -> None:
    document = hub.app.openapi()
    assert all(path.startswith(f"{PREFIX}/") for path in document["paths"])
    assert len(document["paths"]) > 40
