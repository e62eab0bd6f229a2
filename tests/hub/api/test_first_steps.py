# SPDX-License-Identifier: Apache-2.0
"""From an empty hub to a claimed box and a transcript."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from appliance.sync.claim import ClaimDetails, Door
from appliance.sync.identity import HubFiles
from cloud_hub.auth.accounts import make_setup_link
from tests.hub.api.people import PASSWORD, Hub, Person
from tests.hub.db.sample import fill
from tests.hub.device import device_hub


async def test_the_first_owner_comes_in_by_the_set_up_link_and_it_works_once(hub: Hub) -> None:
    link = await make_setup_link(hub.engine)
    assert link is not None
    client = hub.client()
    wanted = {
        "token": link,
        "email": "Ada@Example.com",
        "name": "Ada",
        "password": PASSWORD,
        "organization": "Ward & Sons",
    }
    weak = await client.post("/setup", json={**wanted, "password": "password1234"})
    assert (weak.status_code, weak.json()["code"]) == (422, "weak_password")
    wrong = await client.post("/setup", json={**wanted, "token": "x" * 43})
    assert (wrong.status_code, wrong.json()["code"]) == (403, "wrong_link")
    first = await client.post("/setup", json=wanted)
    assert first.status_code == 201, first.text
    assert [each["role"] for each in first.json()["organizations"]] == ["owner"]
    again = await hub.client().post("/setup", json={**wanted, "email": "eve@example.com"})
    assert again.status_code == 403
    assert await make_setup_link(hub.engine) is None
    me = await client.get("/session")
    assert me.json()["email"] == "ada@example.com"
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


async def test_a_box_is_claimed_by_its_code_and_appears_in_the_list(
    hub: Hub, ada: Person, tmp_path: Path
) -> None:
    async with (
        device_hub(tmp_path, hub.engine) as boxes,
        Door(boxes.url, boxes.authority.root_pem) as door,
    ):
        files = HubFiles(tmp_path / "box" / "hub")
        pending = await door.ask(files, ClaimDetails(serial="7", name="lobby", software="1"))
        claimed = await ada.made("/appliances", {"code": pending.code, "name": "Reception"})
        identity = await door.collect(files, pending)
    assert identity is not None
    assert identity.box_id == claimed["id"]
    listed = (await ada.get("/appliances")).json()
    assert [(each["id"], each["name"]) for each in listed["data"]] == [(claimed["id"], "Reception")]
    wrong = await ada.post("/appliances", {"code": pending.code})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "wrong_code")


async def test_a_call_and_its_transcript_are_read_by_its_own_organization_alone(
    hub: Hub, ada: Person
) -> None:
    sample = fill(hub.database.dsn("postgres"), "steps")
    theirs = await hub.member(sample.organization_id, "analyst")
    listed = (await theirs.get("/calls", params={"caller": "+491234"})).json()
    assert [UUID(each["id"]) for each in listed["data"]] == [sample.call_id]
    detail = (await theirs.get(f"/calls/{sample.call_id}")).json()
    assert detail["status"] == "active"
    transcript = (await theirs.get(f"/calls/{sample.call_id}/transcript")).json()
    assert [turn["text"] for turn in transcript["turns"]] == ["secret words"]
    assert (await ada.get("/calls")).json() == {"data": [], "next_cursor": None}
    for path in (f"/calls/{sample.call_id}", f"/calls/{sample.call_id}/transcript"):
        hidden = await ada.get(path)
        assert (hidden.status_code, hidden.json()["code"]) == (404, "not_found")
