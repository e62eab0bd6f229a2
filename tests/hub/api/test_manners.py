# SPDX-License-Identifier: Apache-2.0
"""What holds for the whole API: errors, versions, repeated requests, limits, headers, the audit log."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.api.document import operations
from cloud_hub.api.settings import ApiSettings
from cloud_hub.app import create_app
from cloud_hub.auth.passwords import Passwords
from tests.hub.api.people import PASSWORD, Hub, Person
from tests.hub.db.sample import fill
from tests.hub.servers import Database


async def test_a_repeated_request_is_answered_and_not_repeated(hub: Hub, ada: Person) -> None:
    headers = {"Idempotency-Key": "once-1"}
    wanted = {"name": "CRM", "scopes": ["calls:read"]}
    first = await ada.post("/keys", wanted, headers=headers)
    again = await ada.post("/keys", wanted, headers=headers)
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert first.headers["Location"] == again.headers["Location"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len((await ada.get("/keys")).json()["data"]) == 1
    other = await ada.post("/keys", {**wanted, "name": "ERP"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    eve = await hub.owner()
    assert (await eve.post("/keys", wanted, headers=headers)).json()["id"] != first.json()["id"]


async def test_equal_requests_at_once_have_one_effect(ada: Person) -> None:
    headers = {"Idempotency-Key": "race"}
    answers = await asyncio.gather(
        *(ada.post("/teams", {"name": "Night"}, headers=headers) for _ in range(8))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1


async def test_a_failed_request_leaves_its_key_free(ada: Person) -> None:
    headers = {"Idempotency-Key": "second try"[:6]}
    assert (await ada.post("/teams", {"name": ""}, headers=headers)).status_code == 422
    assert (await ada.post("/teams", {"name": "Day"}, headers=headers)).status_code == 201


async def test_a_change_on_top_of_an_older_version_is_refused(ada: Person) -> None:
    made = await ada.made("/teams", {"name": "Night"})
    path = f"/teams/{made['id']}"
    bare = await ada.patch(path, {"name": "Day"})
    assert (bare.status_code, bare.json()["code"]) == (428, "if_match_required")
    changed = await ada.patch(path, {"name": "Day"}, 1)
    assert changed.headers["ETag"] == '"2"'
    late = await ada.patch(path, {"name": "Dusk"}, 1)
    assert (late.status_code, late.json()["code"]) == (412, "stale")
    assert (await ada.get(path)).json()["name"] == "Day"
    assert (await ada.delete(path, 1)).status_code == 412
    assert (await ada.delete(path, 2)).status_code == 204


async def test_every_error_is_a_problem_with_a_stable_code(hub: Hub, ada: Person) -> None:
    cases: list[tuple[str, str, dict[str, Any], int, str]] = [
        ("GET", "/nothing", {}, 404, "not_found"),
        ("PUT", "/teams", {}, 405, "method_not_allowed"),
        ("POST", "/teams", {"content": b"{"}, 422, "invalid"),
        ("POST", "/teams", {"json": {"name": "x\u0000"}}, 422, "invalid"),
        ("POST", "/agents", {"json": {"name": "a", "draft": {"x": "\u0000"}}}, 422, "invalid"),
        ("POST", "/agents", {"content": b'{"name": "a", "draft": {"x": NaN}}'}, 422, "invalid"),
        ("GET", "/calls?limit=0", {}, 422, "invalid"),
        ("GET", "/calls?unknown=1", {}, 422, "invalid"),
        ("GET", "/calls/not-a-uuid", {}, 422, "invalid"),
        ("POST", "/teams", {"content": b" " * (1 << 20) + b"{}"}, 413, "too_long"),
    ]
    for method, path, options, status, code in cases:
        response = await ada.client.request(method, path, **options)
        assert (response.status_code, response.json()["code"]) == (status, code), path
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["request_id"] == response.headers["X-Request-ID"]
    allowed = (await ada.client.request("OPTIONS", f"/teams/{ada.user_id}")).headers["Allow"]
    assert allowed == "DELETE, GET, PATCH"
    await ada.made("/teams", {"name": "Night"})
    twice = await ada.post("/teams", {"name": "NIGHT"})
    assert (twice.status_code, twice.json()["code"]) == (409, "conflict")


async def test_what_is_done_is_in_the_audit_log_and_the_chain_holds(ada: Person) -> None:
    made = await ada.made("/teams", {"name": "Night"})
    await ada.patch(f"/teams/{made['id']}", {"name": "Day"}, 1)
    listed = (await ada.get("/audit", params={"target_kind": "team"})).json()["data"]
    assert [each["action"] for each in listed] == ["team.update", "team.create"]
    assert {each["actor_id"] for each in listed} == {str(ada.user_id)}
    assert listed[0]["ip"] == "127.0.0.1"
    chain = (await ada.get("/audit/verification")).json()
    assert chain["intact"]
    assert chain["entries"] == 3
    assert chain["head"] == listed[0]["hash"]


async def test_answers_carry_headers_of_caution_and_nothing_about_the_server(hub: Hub) -> None:
    client = hub.client()
    for path in ("/health", "/session", "../setup"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
    given = await client.get("/health", headers={"X-Request-ID": "abc-123-def"})
    assert given.headers["x-request-id"] == "abc-123-def"


async def test_limits_and_foreign_origins(
    tmp_path: Path, api_engine: AsyncEngine, hub_database: Database, quick: Passwords
) -> None:
    settings = ApiSettings(
        data_folder=tmp_path,
        public_url="https://hub.test",
        cors_origins=["https://console.test"],
        address_rate=5,
        sign_in_rate=2,
    )
    hub = Hub(create_app(settings, api_engine, passwords=quick), api_engine, hub_database)
    client = hub.client("192.0.2.1")
    wanted = {"email": "x@example.com", "password": "y"}
    found = [(await client.post("/sign-in", json=wanted)).status_code for _ in range(3)]
    assert found == [401, 401, 429]
    answers = [await client.get("/health") for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert answers[-1].json()["code"] == "too_many_requests"
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert "max-age" in answers[0].headers["strict-transport-security"]
    other = hub.client("192.0.2.2")
    ours = await other.get("/health", headers={"Origin": "https://console.test"})
    assert ours.headers["access-control-allow-origin"] == "https://console.test"
    theirs = await other.get("/health", headers={"Origin": "https://evil.test"})
    assert "access-control-allow-origin" not in theirs.headers
    await hub.close()


async def test_an_agent_gets_versions_that_nothing_changes(ada: Person) -> None:
    draft = {"version": 1, "name": "reception", "prompt": "You answer the telephone."}
    agent = await ada.made("/agents", {"name": "reception", "draft": draft})
    path = f"/agents/{agent['id']}"
    first = await ada.made(f"{path}/versions", {"message": "first"})
    same = await ada.made(f"{path}/versions", {})
    assert (first["number"], same["id"]) == (1, first["id"])
    await ada.patch(path, {"draft": {**draft, "prompt": "Be brief."}}, 1)
    second = await ada.made(f"{path}/versions", {})
    assert second["number"] == 2
    kept = (await ada.get(f"{path}/versions/1")).json()
    assert kept["content"] == draft
    for method in ("PATCH", "PUT", "DELETE"):
        assert (await ada.client.request(method, f"{path}/versions/1")).status_code == 405
    wrong = await ada.post(f"{path}/versions", {"content": {"name": "other"}})
    assert wrong.status_code == 422
    nowhere = await ada.post("/deployments", {"agent_version_id": second["id"]})
    assert (nowhere.status_code, nowhere.json()["code"]) == (422, "refused")


async def test_usage_adds_up_to_the_unit(hub: Hub) -> None:
    sample = fill(hub.database.dsn("postgres"), "metered")
    clerk = await hub.member(sample.organization_id, "billing")
    totals = (await clerk.get("/usage/totals", params={"group_by": ["kind", "day"]})).json()
    assert totals["complete"]
    assert [(each["kind"], each["unit"], each["quantity"]) for each in totals["data"]] == [
        ("llm", "tokens", 12)
    ]
    assert totals["data"][0]["day"][:2] == "20"
    rows = (await clerk.get("/usage", params={"call_id": str(sample.call_id)})).json()
    assert [each["quantity"] for each in rows["data"]] == [12]


async def test_a_recording_is_heard_in_parts_and_each_listening_is_noted(
    hub: Hub, api_settings: ApiSettings
) -> None:
    sample = fill(hub.database.dsn("postgres"), "heard")
    listener = await hub.member(sample.organization_id, "operator")
    listed = (await listener.get("/recordings", params={"call_id": str(sample.call_id)})).json()
    path = f"/recordings/{listed['data'][0]['id']}/content"
    assert (await listener.get(path)).status_code == 404
    file = api_settings.data_folder / "recordings" / "r" / "1"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"RIFF and so on")
    part = await listener.get(path, headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"RIFF")
    assert part.headers["content-type"] == "audio/wav"
    assert part.headers["content-disposition"].startswith("attachment")
    auditor = await hub.member(sample.organization_id, "auditor")
    entries = (await auditor.get("/audit", params={"action": "recording.listen"})).json()
    assert [each["actor_id"] for each in entries["data"]] == [str(listener.user_id)]
    assert (await auditor.get(path)).status_code == 403


def test_the_description_says_who_may_do_what_and_how_every_error_looks(hub: Hub) -> None:
    document = hub.app.openapi()
    for path, _, operation in operations(document):
        assert operation["summary"], path
        assert operation["description"], path
        assert "security" in operation
        for status in ("401", "404", "422", "429"):
            assert "application/problem+json" in operation["responses"][status]["content"]
        body = operation.get("requestBody")
        if body:
            schema = body["content"]["application/json"]["schema"]
            name = schema["$ref"].rpartition("/")[2]
            assert document["components"]["schemas"][name]["additionalProperties"] is False
    assert json.loads(json.dumps(document)) == document


@pytest.mark.parametrize("scheme", ["Basic", "Token"])
async def test_only_bearer_keys_are_understood(hub: Hub, scheme: str) -> None:
    response = await hub.client(Authorization=f"{scheme} abc").get("/calls")
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert PASSWORD not in response.text
