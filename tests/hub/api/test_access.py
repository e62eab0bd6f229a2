# SPDX-License-Identifier: Apache-2.0
"""Sessions, keys, second factors, roles given and taken: what opens the door, and what shuts it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pyotp
import pytest

from cloud_hub.auth.limits import Buckets
from cloud_hub.auth.passwords import WeakPasswordError, check_policy
from cloud_hub.auth.secrets import KeyText, MasterSecret, SealError
from tests.hub.api.people import PASSWORD, Hub, Person


async def test_a_session_that_is_revoked_or_signed_out_is_over(hub: Hub, ada: Person) -> None:
    second = await hub.sign_in(ada.email, ada.user_id, ada.organization_id)
    listed = (await ada.get("/sessions")).json()["data"]
    assert [each["current"] for each in listed] == [False, True]
    assert (await ada.delete(f"/sessions/{listed[0]['id']}")).status_code == 204
    assert (await second.get("/session")).status_code == 401
    token = next(iter(ada.client.cookies.jar)).value
    assert (await ada.delete("/session")).status_code == 204
    ada.client.cookies.set("trunkline", token or "", domain="hub.test")
    assert (await ada.get("/session")).status_code == 401


async def test_a_change_needs_the_sessions_token_and_an_origin_of_our_own(
    hub: Hub, ada: Person
) -> None:
    right = ada.client.headers.pop("X-CSRF-Token")
    missing = await ada.post("/teams", {"name": "Night"})
    assert (missing.status_code, missing.json()["code"]) == (403, "csrf")
    other = await hub.owner()
    theirs = {"X-CSRF-Token": other.client.headers["X-CSRF-Token"]}
    assert (await ada.post("/teams", {"name": "Night"}, headers=theirs)).status_code == 403
    for headers in ({"Origin": "https://evil.test"}, {"Sec-Fetch-Site": "cross-site"}):
        response = await ada.post(
            "/teams", {"name": "Night"}, headers={"X-CSRF-Token": right, **headers}
        )
        assert response.json()["code"] == "foreign_origin"
        wanted = {"email": ada.email, "password": PASSWORD}
        login = await hub.client().post("/sign-in", json=wanted, headers=headers)
        assert login.status_code == 403
    own = {"X-CSRF-Token": right, "Origin": "http://hub.test"}
    assert (await ada.post("/teams", {"name": "Night"}, headers=own)).status_code == 201


async def test_wrong_passwords_are_answered_alike_and_make_the_account_wait(
    hub: Hub, ada: Person
) -> None:
    client = hub.client()
    answers = []
    for email in (ada.email, "nobody@example.com"):
        response = await client.post("/sign-in", json={"email": email, "password": "wrong one"})
        content = response.json()
        content.pop("request_id")
        answers.append((response.status_code, content))
    assert answers[0] == answers[1]
    assert answers[0][0] == 401
    for _ in range(6):
        response = await client.post("/sign-in", json={"email": ada.email, "password": "wrong"})
    assert (response.status_code, response.json()["code"]) == (429, "locked")
    assert int(response.headers["Retry-After"]) <= 900
    assert (await ada.get("/session")).status_code == 200


async def test_a_new_password_ends_all_other_sessions(hub: Hub, ada: Person) -> None:
    second = await hub.sign_in(ada.email, ada.user_id, ada.organization_id)
    wrong = {"current_password": "no", "new_password": "another long sentence"}
    assert (await ada.post("/password", wrong)).json()["code"] == "wrong_password"
    right = {**wrong, "current_password": PASSWORD}
    assert (await ada.post("/password", right)).status_code == 204
    assert (await ada.get("/session")).status_code == 200
    assert (await second.get("/session")).status_code == 401


async def test_a_second_factor_is_asked_for_and_each_code_works_once(hub: Hub, ada: Person) -> None:
    offer = await ada.made("/second-factor", {"password": PASSWORD})
    clock = pyotp.TOTP(offer["secret"])
    step = int(time.time())
    early = clock.at(step - 30)
    confirmed = await ada.post("/second-factor/confirm", {"code": early})
    assert confirmed.status_code == 200, confirmed.text
    recovery = confirmed.json()["codes"]
    client = hub.client()
    wanted = {"email": ada.email, "password": PASSWORD}
    without = await client.post("/sign-in", json=wanted)
    assert (without.status_code, without.json()["code"]) == (401, "code_needed")
    used = await client.post("/sign-in", json={**wanted, "code": early})
    assert used.json()["code"] == "wrong_sign_in"
    code = clock.at(step + 30)
    first = await client.post("/sign-in", json={**wanted, "code": code})
    assert first.status_code == 200, first.text
    assert first.json()["second_factor"]
    assert (await client.post("/sign-in", json={**wanted, "code": code})).status_code == 401
    lost = {**wanted, "code": recovery[3].upper()}
    assert (await hub.client().post("/sign-in", json=lost)).status_code == 200
    assert (await hub.client().post("/sign-in", json=lost)).status_code == 401


async def test_somebody_is_invited_comes_in_once_and_is_what_the_invitation_said(
    hub: Hub, ada: Person
) -> None:
    made = await ada.made("/invitations", {"email": "Grace@example.com", "role": "developer"})
    client = hub.client()
    offer = await client.post("/join/offer", json={"token": made["token"]})
    assert offer.json()["organization_name"] == "Ward & Sons"
    wanted = {"token": made["token"], "name": "Grace", "password": PASSWORD}
    joined = await client.post("/join/new-account", json=wanted)
    assert joined.status_code == 201, joined.text
    assert [each["role"] for each in joined.json()["organizations"]] == ["developer"]
    again = await hub.client().post("/join/new-account", json=wanted)
    assert (again.status_code, again.json()["code"]) == (403, "wrong_link")
    other = await hub.owner()
    second = await other.made("/invitations", {"email": "grace@example.com", "role": "viewer"})
    stranger = await ada.post("/join", {"token": second["token"]})
    assert stranger.json()["code"] == "not_for_you"
    client.headers["X-CSRF-Token"] = joined.json()["csrf_token"]
    taken = await client.post("/join", json={"token": second["token"]})
    assert taken.status_code == 201
    vague = await client.get("/calls")
    assert (vague.status_code, vague.json()["code"]) == (400, "which_organization")
    named = {"Trunkline-Organization": str(other.organization_id)}
    assert (await client.get("/calls", headers=named)).status_code == 200
    assert (await client.get("/keys", headers=named)).status_code == 403
    foreign = {"Trunkline-Organization": str((await hub.owner()).organization_id)}
    assert (await client.get("/calls", headers=foreign)).json()["code"] == "not_a_member"


async def test_an_admin_makes_no_owners_and_the_last_owner_stays(hub: Hub, ada: Person) -> None:
    admin = await hub.member(ada.organization_id, "admin")
    invited = await admin.post("/invitations", {"email": "x@example.com", "role": "owner"})
    assert invited.status_code == 403
    path = f"/members/{ada.user_id}"
    assert (await admin.patch(path, {"role": "viewer"}, 1)).status_code == 403
    assert (await admin.delete(path)).status_code == 403
    assert (await ada.patch(path, {"role": "admin"}, 1)).json()["code"] == "last_owner"
    raised = await ada.patch(f"/members/{admin.user_id}", {"role": "owner"}, 1)
    assert (raised.status_code, raised.headers["ETag"]) == (200, '"2"')
    assert (await admin.delete(path)).status_code == 204
    assert (await ada.get("/teams")).json()["code"] == "not_a_member"


async def test_a_key_stops_when_it_is_revoked_and_works_only_where_it_may(
    hub: Hub, ada: Person
) -> None:
    wanted = {
        "name": "CRM",
        "scopes": ["calls:read"],
        "allowed_networks": ["192.0.2.0/24", "2001:db8::/32"],
    }
    made = await ada.made("/keys", wanted)
    for ip, status in [
        ("192.0.2.9", 200),
        ("::ffff:192.0.2.9", 200),
        ("2001:db8::1", 200),
        ("198.51.100.1", 403),
        ("127.0.0.1", 403),
    ]:
        spoof = {"X-Forwarded-For": "192.0.2.9"}
        response = await hub.program(made["key"], ip).get("/calls", headers=spoof)
        assert response.status_code == status, ip
    shown = (await ada.get(f"/keys/{made['id']}")).json()
    assert shown["last_used_at"] is not None
    assert "key" not in shown
    assert (await ada.delete(f"/keys/{made['id']}")).status_code == 204
    assert (await hub.program(made["key"], "192.0.2.9").get("/calls")).status_code == 401
    typo = made["key"][:-1] + ("0" if made["key"][-1] != "0" else "1")
    assert (await hub.program(typo).get("/calls")).status_code == 401


async def test_a_key_can_do_no_more_than_who_makes_it_and_ends_when_it_says(
    hub: Hub, ada: Person
) -> None:
    developer = await hub.member(ada.organization_id, "developer")
    wide = {"name": "wide", "scopes": ["fleet:command"]}
    assert (await developer.post("/keys", wide)).status_code == 403
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    old = {"name": "old", "scopes": ["calls:read"], "expires_at": past}
    assert (await developer.post("/keys", old)).status_code == 422
    made = await ada.made("/keys", {"name": "own", "scopes": ["calls:read"]})
    assert (await developer.delete(f"/keys/{made['id']}")).status_code == 403
    foreign = {"Trunkline-Organization": str((await hub.owner()).organization_id)}
    response = await hub.program(made["key"]).get("/calls", headers=foreign)
    assert response.json()["code"] == "not_a_member"


def test_a_mistyped_key_is_known_without_the_database() -> None:
    key = KeyText.new()
    assert KeyText.parse(str(key)) == key
    assert KeyText.parse(str(key).replace("tlk", "key")) is None
    assert KeyText.parse(str(key)[:-2] + "zz") is None
    assert KeyText.parse("ü_a_b_c") is None


def test_what_is_sealed_opens_only_with_the_same_secret_purpose_and_context() -> None:
    master = MasterSecret(b"one")
    sealed = master.seal("totp", b"secret", b"ada")
    assert master.open_sealed("totp", sealed, b"ada") == b"secret"
    for other, purpose, context in [
        (MasterSecret(b"two"), "totp", b"ada"),
        (master, "cursor", b"ada"),
        (master, "totp", b"eve"),
    ]:
        with pytest.raises(SealError):
            other.open_sealed(purpose, sealed, context)


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "password1234",
        "P4ssw0rd!2024",
        "qwertyuiop123",
        "aaaaaaaaaaaaaa",
        "123456789012345",
        "lovelace-2024",
        "x" * 129,
    ],
)
def test_a_password_that_an_attacker_tries_first_is_refused(password: str) -> None:
    with pytest.raises(WeakPasswordError):
        check_policy(password, "ada@example.com", "Ada Lovelace")


@pytest.mark.parametrize("password", [PASSWORD, "correct horse battery staple", "n7Qw!x92kLp4"])
def test_a_long_or_a_random_password_is_taken(password: str) -> None:
    check_policy(password, "ada@example.com", "Ada Lovelace")


def test_a_bucket_empties_and_fills_with_time() -> None:
    buckets = Buckets(60)
    taken = [buckets.take("ada", 100.0) for _ in range(61)]
    assert [each.allowed for each in taken] == [True] * 60 + [False]
    assert taken[-1].retry_after_s == 1
    assert buckets.take("eve", 100.0).allowed
    assert buckets.take("ada", 101.5).allowed
    assert not buckets.take("ada", 101.5).allowed
