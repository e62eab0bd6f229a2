# SPDX-License-Identifier: Apache-2.0
"""How a box joins, renews and leaves: the box's own code against a real server and a real database."""

from __future__ import annotations

import asyncio
import json
import ssl
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from cryptography import x509
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner

from appliance.cli.root import app
from appliance.sync.claim import ClaimDetails, ClaimError, Door, fetch_authority, same_fingerprint
from appliance.sync.identity import HubFiles
from appliance.wire import Identity
from cloud_hub.db.models.fleet import Appliance, Certificate, Claim
from cloud_hub.db.session import tenant
from cloud_hub.fleet import claim as claims_module
from cloud_hub.fleet.ca import CertificateAuthority, CertificateRefusedError
from cloud_hub.fleet.callout import Key
from cloud_hub.fleet.claim import (
    ALPHABET,
    HubAddress,
    TooManyCodesError,
    WrongCodeError,
    claim_box,
    create_token,
    new_code,
    normalized,
    token_file,
)
from cloud_hub.fleet.device_api import AskLimit
from cloud_hub.fleet.register import DatabaseRegister, record, revoke
from tests.hub.device import DeviceHub, device_hub
from tests.hub.mqtt_box import make_csr

DETAILS = ClaimDetails(serial="SN-7", name="lobby", software="0.1")


@pytest.fixture
async def hub(tmp_path: Path, api_engine: AsyncEngine) -> AsyncIterator[DeviceHub]:
    async with device_hub(tmp_path, api_engine) as running:
        yield running


@pytest.fixture
def files(tmp_path: Path) -> HubFiles:
    return HubFiles(tmp_path / "box" / "hub")


async def enter(hub: DeviceHub, organization: UUID, code: str, **options: UUID) -> UUID:
    return await claim_box(hub.engine, organization, code, "Reception", **options)


async def joined(hub: DeviceHub, organization: UUID, files: HubFiles) -> Identity:
    async with Door(hub.url, hub.authority.root_pem) as door:
        pending = await door.ask(files, DETAILS)
        await enter(hub, organization, pending.code)
        identity = await door.collect(files, pending)
    assert identity is not None
    return identity


async def test_a_box_joins_by_the_code_that_an_operator_enters(
    hub: DeviceHub, files: HubFiles
) -> None:
    organization = await hub.organization()
    found = await fetch_authority(hub.url)
    assert same_fingerprint(found.fingerprint.upper(), hub.authority.fingerprint)
    assert not found.vouched
    async with Door(hub.url, found.pem) as door:
        pending = await door.ask(files, DETAILS)
        assert await door.collect(files, pending) is None
        box_id = await enter(hub, organization, pending.code.lower().replace("-", " "))
        identity = await door.collect(files, pending)
        again = await door.collect(files, pending)
    assert identity is not None
    assert identity == again  # an answer that got lost can be asked for again
    assert identity.box_id == str(box_id)
    stored = files.identity()
    assert stored == identity
    certificate = x509.load_pem_x509_certificate(identity.certificate.encode())
    assert hub.authority.identify(certificate).box_id == str(box_id)
    days = (certificate.not_valid_after_utc - datetime.now(UTC)) / timedelta(days=1)
    assert 89 < days <= 90
    async with tenant(hub.engine, organization) as session:
        box = (await session.execute(select(Appliance))).scalar_one()
        assert (box.name, box.serial_number, box.state) == ("Reception", "SN-7", "active")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "127.0.0.1:9", "hub.example.com"])
async def test_a_hub_is_asked_over_https_alone(url: str, device_authority_pem: str) -> None:
    # Whoever answers in plain text could hand out an authority of their own, and read the claim's secret.
    with pytest.raises(ClaimError, match="https://") as refused:
        await fetch_authority(url)
    assert refused.value.final
    with pytest.raises(ClaimError, match="https://"):
        Door(url, device_authority_pem)


@pytest.fixture(scope="module")
def device_authority_pem(tmp_path_factory: pytest.TempPathFactory) -> str:
    return CertificateAuthority.open(tmp_path_factory.mktemp("authority")).root_pem


async def test_the_key_never_leaves_the_box_and_nobody_else_can_read_it(
    hub: DeviceHub, files: HubFiles
) -> None:
    organization = await hub.organization()
    await joined(hub, organization, files)
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    async with tenant(hub.engine, organization) as session:
        row = (await session.execute(select(Claim))).scalar_one()
    assert "PRIVATE" not in row.csr
    assert row.csr.startswith("-----BEGIN CERTIFICATE REQUEST")


async def test_a_code_works_once_and_for_one_organization(hub: DeviceHub, files: HubFiles) -> None:
    first, second = await hub.organization(), await hub.organization()
    async with Door(hub.url, hub.authority.root_pem) as door:
        pending = await door.ask(files, DETAILS)
    attempts = await asyncio.gather(
        *(enter(hub, each, pending.code) for each in (first, second)), return_exceptions=True
    )
    assert sum(isinstance(each, WrongCodeError) for each in attempts) == 1
    with pytest.raises(WrongCodeError):
        await enter(hub, first, pending.code)


async def test_an_expired_code_is_worth_nothing(
    hub: DeviceHub, files: HubFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    organization = await hub.organization()
    monkeypatch.setattr(claims_module, "CODE_LIFETIME", timedelta(seconds=-1))
    async with Door(hub.url, hub.authority.root_pem) as door:
        pending = await door.ask(files, DETAILS)
        with pytest.raises(WrongCodeError):
            await enter(hub, organization, pending.code)
        with pytest.raises(ClaimError, match="expired") as refused:
            await door.collect(files, pending)
    assert refused.value.final


async def test_codes_cannot_be_guessed_by_trying(hub: DeviceHub, files: HubFiles) -> None:
    organization = await hub.organization()
    async with Door(hub.url, hub.authority.root_pem) as door:
        pending = await door.ask(files, DETAILS)
    tries = await asyncio.gather(
        *(enter(hub, organization, new_code()) for _ in range(25)), return_exceptions=True
    )
    assert sum(isinstance(each, WrongCodeError) for each in tries) <= claims_module.WRONG_CODES
    assert any(isinstance(each, TooManyCodesError) for each in tries)
    with pytest.raises(TooManyCodesError):  # the right one too: who guesses learns nothing
        await enter(hub, organization, pending.code)
    other = await hub.organization()
    await enter(hub, other, pending.code)


def test_codes_read_as_people_write_them() -> None:
    assert normalized("abcd-ef0h") == "ABCDEF0H"
    assert normalized("OIL1 0000") == "01110000"
    assert all(symbol in ALPHABET for symbol in new_code())
    assert len({new_code() for _ in range(1000)}) == 1000


async def test_the_secret_of_one_claim_opens_no_other(hub: DeviceHub, tmp_path: Path) -> None:
    organization = await hub.organization()
    one, two = HubFiles(tmp_path / "one"), HubFiles(tmp_path / "two")
    async with Door(hub.url, hub.authority.root_pem) as door:
        mine, other = await door.ask(one, DETAILS), await door.ask(two, DETAILS)
        await enter(hub, organization, other.code)
        mixed = other.model_copy(update={"secret": mine.secret})
        with pytest.raises(ClaimError):
            await door.collect(one, mixed)
    assert one.identity() is None


async def test_a_token_file_lets_one_box_in_once(hub: DeviceHub, tmp_path: Path) -> None:
    organization = await hub.organization()
    async with tenant(hub.engine, organization) as session:
        token = await create_token(session, organization, "Warehouse")
    one, two = HubFiles(tmp_path / "one"), HubFiles(tmp_path / "two")
    async with Door(hub.url, hub.authority.root_pem) as door:
        identity = await door.redeem(one, token, DETAILS)
        assert await door.redeem(one, token, DETAILS) == identity  # its answer may get lost
        with pytest.raises(ClaimError, match="another box"):
            await door.redeem(two, token, DETAILS)
        with pytest.raises(ClaimError, match="not valid"):
            await door.redeem(two, "made-up", DETAILS)
    async with tenant(hub.engine, organization) as session:
        box = (await session.execute(select(Appliance))).scalar_one()
    assert (str(box.id), box.name) == (identity.box_id, "Warehouse")


async def test_two_boxes_racing_for_one_token_are_one_box(hub: DeviceHub, tmp_path: Path) -> None:
    organization = await hub.organization()
    async with tenant(hub.engine, organization) as session:
        token = await create_token(session, organization, "Warehouse")
    async with Door(hub.url, hub.authority.root_pem) as door:
        outcomes = await asyncio.gather(
            *(door.redeem(HubFiles(tmp_path / str(n)), token, DETAILS) for n in range(6)),
            return_exceptions=True,
        )
    assert sum(isinstance(each, Identity) for each in outcomes) == 1


async def test_renewal_gives_a_new_key_and_the_box_stays_itself(
    hub: DeviceHub, files: HubFiles
) -> None:
    before = await joined(hub, await hub.organization(), files)
    old_key = files.key.read_text()
    assert not files.renewal_due()
    assert files.renewal_due(datetime.now(UTC) + timedelta(days=61))
    async with Door.of(files) as door:
        after = await door.renew(files)
    assert after.box_id == before.box_id
    assert after.certificate != before.certificate
    assert files.key.read_text() != old_key
    async with Door.of(files) as door:  # and the new pair works
        await door.renew(files)


async def test_a_crash_in_the_middle_of_a_renewal_leaves_one_whole_pair(
    hub: DeviceHub, files: HubFiles
) -> None:
    identity = await joined(hub, await hub.organization(), files)
    files.next_request()  # ... and the power fails before the answer
    assert HubFiles(files.folder).identity() == identity
    async with Door.of(HubFiles(files.folder)) as door:
        newer = await door.renew(files)
    following = identity.model_copy(update={"certificate": newer.certificate})
    files.next_request()
    (files.folder / "identity.next.json").write_text(following.model_dump_json())
    # ... and the power fails between the answer and the renaming
    survivor = HubFiles(files.folder)
    assert survivor.identity() == following
    assert not (files.folder / "key.next.pem").exists()


async def test_a_box_that_was_away_for_months_renews_with_its_expired_certificate(
    hub: DeviceHub, files: HubFiles
) -> None:
    organization = await hub.organization()
    identity = await joined(hub, organization, files)
    long_ago = datetime.now(UTC) - timedelta(days=300)
    expired = hub.authority.issue_box(files.request(), identity.box_id, now=long_ago)
    async with tenant(hub.engine, organization) as session:
        await record(session, organization, UUID(identity.box_id), expired)
    files.store(identity.model_copy(update={"certificate": expired.chain_pem}))
    async with Door.of(files) as door:
        renewed = await door.renew(files)
    assert renewed.box_id == identity.box_id
    too_long = hub.authority.issue_box(
        files.request(), identity.box_id, now=long_ago - timedelta(days=700)
    )
    async with tenant(hub.engine, organization) as session:
        await record(session, organization, UUID(identity.box_id), too_long)
    files.store(identity.model_copy(update={"certificate": too_long.chain_pem}))
    async with Door.of(files) as door:
        with pytest.raises(ClaimError, match="too long ago"):
            await door.renew(files)


async def test_a_revoked_box_neither_renews_nor_connects(hub: DeviceHub, files: HubFiles) -> None:
    organization = await hub.organization()
    identity = await joined(hub, organization, files)
    register = DatabaseRegister(hub.engine)
    certificate = x509.load_pem_x509_certificate(identity.certificate.encode())
    who = hub.authority.identify(certificate)
    key = Key(who.box_id, who.public_key_sha256)
    begun = datetime.now(UTC)
    assert await register.admits(who.box_id, who.serial)
    assert not await register.not_admitted([key])
    assert not await register.admits(str(organization), who.serial)
    async with tenant(hub.engine, organization) as session:
        assert await revoke(session, UUID(identity.box_id), "stolen") == 1
    assert not await register.admits(who.box_id, who.serial)
    assert await register.revoked_since(begun) == [key]
    assert await register.not_admitted([key]) == {key}
    async with Door.of(files) as door:
        with pytest.raises(ClaimError, match="revoked") as refused:
            await door.renew(files)
    assert refused.value.final


async def test_a_key_with_another_good_certificate_is_not_cut_off(
    hub: DeviceHub, files: HubFiles
) -> None:
    organization = await hub.organization()
    identity = await joined(hub, organization, files)
    begun = datetime.now(UTC)
    second = hub.authority.issue_box(files.request(), identity.box_id)
    async with tenant(hub.engine, organization) as session:
        await record(session, organization, UUID(identity.box_id), second)
        await session.execute(
            update(Certificate)
            .where(Certificate.serial != second.serial)
            .values(revoked_at=datetime.now(UTC))
        )
    assert await DatabaseRegister(hub.engine).revoked_since(begun) == []


async def test_certificates_that_ran_out_die_when_a_newer_one_is_used(
    hub: DeviceHub, files: HubFiles
) -> None:
    organization = await hub.organization()
    identity = await joined(hub, organization, files)
    box_id = UUID(identity.box_id)
    long_ago = datetime.now(UTC) - timedelta(days=100)
    expired = hub.authority.issue_box(make_csr()[1], identity.box_id, now=long_ago)
    newest = hub.authority.issue_box(make_csr()[1], identity.box_id)
    async with tenant(hub.engine, organization) as session:
        await record(session, organization, box_id, expired)
        await record(session, organization, box_id, newest)
    register = DatabaseRegister(hub.engine)
    assert await register.admits(identity.box_id, newest.serial)
    found = await register.find(expired.serial)
    assert found is not None
    assert not found.active
    first = x509.load_pem_x509_certificate(identity.certificate.encode())
    assert await register.admits(identity.box_id, format(first.serial_number, "x"))


async def test_a_box_that_was_reset_goes_on_as_the_same_box(hub: DeviceHub, tmp_path: Path) -> None:
    organization = await hub.organization()
    before, after = HubFiles(tmp_path / "before"), HubFiles(tmp_path / "after")
    old = await joined(hub, organization, before)
    async with Door(hub.url, hub.authority.root_pem) as door:
        pending = await door.ask(after, DETAILS)
        box_id = await enter(hub, organization, pending.code, replaces=UUID(old.box_id))
        new = await door.collect(after, pending)
    assert new is not None
    assert new.box_id == old.box_id == str(box_id)
    async with Door.of(before) as door:
        with pytest.raises(ClaimError, match="revoked"):
            await door.renew(before)


async def test_no_organization_can_replace_anothers_box(hub: DeviceHub, tmp_path: Path) -> None:
    owner, thief = await hub.organization(), await hub.organization()
    theirs = await joined(hub, owner, HubFiles(tmp_path / "theirs"))
    async with Door(hub.url, hub.authority.root_pem) as door:
        pending = await door.ask(HubFiles(tmp_path / "mine"), DETAILS)
    with pytest.raises(claims_module.ClaimRefusedError, match="no such box"):
        await enter(hub, thief, pending.code, replaces=UUID(theirs.box_id))
    serial = x509.load_pem_x509_certificate(theirs.certificate.encode()).serial_number
    found = await DatabaseRegister(hub.engine).find(format(serial, "x"))
    assert found is not None
    assert found.active


async def test_a_box_that_leaves_is_retired_and_its_certificates_are_revoked(
    hub: DeviceHub, files: HubFiles
) -> None:
    organization = await hub.organization()
    await joined(hub, organization, files)
    async with Door.of(files) as door:
        await door.unlink()
        with pytest.raises(ClaimError, match="revoked"):
            await door.renew(files)
    files.remove()
    assert list(files.folder.iterdir()) == []
    async with tenant(hub.engine, organization) as session:
        assert (await session.execute(select(Appliance.state))).scalar_one() == "retired"


async def test_certificates_of_another_authority_and_none_at_all_open_nothing(
    hub: DeviceHub, files: HubFiles, tmp_path: Path
) -> None:
    identity = await joined(hub, await hub.organization(), files)
    other = CertificateAuthority.open(tmp_path / "other")
    forged = other.issue_box(files.request(), identity.box_id)
    forged_files = HubFiles(tmp_path / "forged")
    forged_files.store(replace_certificate(identity, forged.chain_pem))
    files.key.replace(forged_files.key)
    async with Door.of(forged_files) as door:
        with pytest.raises(ClaimError):
            await door.renew(forged_files)
    context = ssl.create_default_context(cadata=hub.authority.root_pem)
    async with httpx.AsyncClient(base_url=hub.url, verify=context) as client:
        headers = {"X-Client-Cert": identity.certificate.replace("\n", "")}
        response = await client.delete("/v1/box", headers=headers)
        assert response.status_code == 401
        assert response.headers["content-type"] == "application/problem+json"
        too_long = await client.post("/v1/box/claims", content=b"x" * 100_000)
        assert too_long.status_code == 413
        nonsense = await client.post("/v1/box/claims", content=b'{"v":"1.0","csr":"' + b"a" * 99)
        assert nonsense.status_code == 422


def replace_certificate(identity: Identity, pem: str) -> Identity:
    return identity.model_copy(update={"certificate": pem})


async def test_a_box_does_not_talk_to_a_server_that_its_hub_did_not_vouch_for(
    hub: DeviceHub, files: HubFiles, tmp_path: Path
) -> None:
    stranger = CertificateAuthority.open(tmp_path / "stranger")
    async with Door(hub.url, stranger.root_pem) as door:
        with pytest.raises(ClaimError, match="cannot be reached"):
            await door.ask(files, replace(DETAILS, name="x"))


def test_signing_requests_that_are_no_good_are_refused_with_a_reason(tmp_path: Path) -> None:
    authority = CertificateAuthority.open(tmp_path / "ca")
    good = make_csr("whatever")[1]
    for bad in ("", "nonsense", good[:-60] + "AAAA" + good[-56:], "x" * 9000):
        with pytest.raises(CertificateRefusedError):
            authority.issue_box(bad, "box")
    issued = authority.issue_box(good, "box-7")
    assert authority.identify(x509.load_pem_x509_certificate(issued.chain_pem.encode())).box_id == (
        "box-7"
    )


def test_the_authoritys_key_is_kept_from_others_and_survives_a_restart(tmp_path: Path) -> None:
    authority = CertificateAuthority.open(tmp_path / "ca")
    assert CertificateAuthority.open(tmp_path / "ca").fingerprint == authority.fingerprint
    for key in ("root.key", "issuing.key"):
        assert stat.S_IMODE((tmp_path / "ca" / key).stat().st_mode) == 0o600
    (tmp_path / "ca" / "root.key").unlink()  # the root may be taken away
    again = CertificateAuthority.open(tmp_path / "ca")
    assert again.issue_box(make_csr()[1], "box").serial
    (tmp_path / "ca" / "issuing.key").chmod(0o644)
    with pytest.raises(PermissionError):
        CertificateAuthority.open(tmp_path / "ca")


def test_strangers_can_open_only_so_many_claims() -> None:
    limit = AskLimit(each=2, everyone=3, within_s=10)
    assert [limit.allows("a", 0), limit.allows("a", 1), limit.allows("a", 2)] == [True, True, False]
    assert limit.allows("b", 3)
    assert not limit.allows("c", 4)
    assert limit.allows("c", 12)


async def test_a_person_claims_looks_and_leaves_at_the_command_line(
    hub: DeviceHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUNKLINE_DATA_DIR", str(tmp_path / "data"))
    organization = await hub.organization()
    async with tenant(hub.engine, organization) as session:
        token = await create_token(session, organization, "Warehouse")
    address = HubAddress("localhost", 8883, hub.url)
    (tmp_path / "token.json").write_text(token_file(token, hub.authority, address))

    async def trunkline(*arguments: str) -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, app, ["hub", *arguments])
        return result.exit_code, result.output

    code, output = await trunkline("status")
    assert (code, output.strip()) == (0, "This box belongs to no hub.")
    code, output = await trunkline("claim", "--token-file", "token.json")
    assert code == 0, output
    assert "This box is now" in output
    code, output = await trunkline("status", "--json")
    assert json.loads(output)["days_left"] == 89
    code, output = await trunkline("claim", hub.url)
    assert code == 1
    assert "trunkline hub unlink" in output
    code, output = await trunkline("unlink", "--yes")
    assert code == 0, output
    code, output = await trunkline("claim", hub.url, "--fingerprint", "00" * 32)
    assert code == 1
    assert "fingerprint" in output
    async with tenant(hub.engine, organization) as session:
        assert (await session.execute(select(Appliance.state))).scalar_one() == "retired"
