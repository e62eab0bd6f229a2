# SPDX-License-Identifier: Apache-2.0
"""How a box joins an organization: by a code that an operator enters, or by a token in a file.

A box that asks gets a code of 8 symbols (40 bits) that lives 15 minutes, and a secret to ask with.
The code in an operator's hands binds the request to that operator's organization; the box then
fetches its certificate, which is of use only to the holder of the key it asked with. A wrong code
is counted against the organization.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from appliance.wire import ClaimPending, ClaimRequest, Identity, to_text
from cloud_hub.db.ids import uuid7
from cloud_hub.db.models.fleet import Appliance, Certificate, Claim
from cloud_hub.db.session import nobody, tenant
from cloud_hub.fleet.ca import (
    BoxIdentity,
    CertificateAuthority,
    IssuedCertificate,
    key_hash,
    read_csr,
)
from cloud_hub.fleet.register import DatabaseRegister, Registered, record, retire, revoke

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O, U."""
CODE_LIFETIME = timedelta(minutes=15)
COLLECT_LIFETIME = timedelta(hours=24)
"""How long after the operator a box that was away can still fetch what it asked for."""
TOKEN_LIFETIME = timedelta(days=7)
POLL_S = 3
WRONG_CODES = 10
"""How many an organization may enter in `WRONG_CODES_IN`."""
WRONG_CODES_IN = timedelta(minutes=15)
RENEW_AT = 2 / 3
"""Of a certificate's life."""

_TAKE = text("SELECT app.take_claim(:code)")
_BY_SECRET = text("SELECT * FROM app.claim_by_secret(:digest)")
_PURGE = text("SELECT count(*) FROM app.purge_claims()")


class ClaimRefusedError(Exception):
    """The claim is not granted; the text may be shown to whoever asked."""


class WrongCodeError(ClaimRefusedError):
    """No open claim has this code."""


class TooManyCodesError(ClaimRefusedError):
    """The organization has entered too many wrong codes of late."""


@dataclass(frozen=True, slots=True)
class HubAddress:
    """Where boxes find the hub once they are claimed.

    Attributes:
        api_url: of the HTTPS interface for boxes, `https://host:port`.
    """

    mqtt_host: str
    mqtt_port: int
    api_url: str


def new_code() -> str:
    """Return a code as it is stored: 8 symbols, 40 random bits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(8))


def normalized(code: str) -> str:
    """Return what a person typed as it is stored: any case, with or without dash, O for 0, I for 1."""
    plain = "".join(symbol for symbol in code.upper() if symbol.isalnum())
    return plain.replace("O", "0").replace("I", "1").replace("L", "1")


async def claim_box(
    engine: AsyncEngine,
    organization_id: UUID,
    code: str,
    name: str,
    *,
    replaces: UUID | None = None,
) -> UUID:
    """Do `attempt` and `claim`, each in its transaction; arguments and errors as there."""
    number = await attempt(engine, organization_id)
    async with tenant(engine, organization_id) as session:
        return await claim(session, organization_id, code, name, attempt=number, replaces=replaces)


async def attempt(engine: AsyncEngine, organization_id: UUID) -> UUID:
    """Count an attempt to enter a code, before it is made; return what `claim` wants to see.

    It has a transaction of its own, so neither a caller that rolls back nor fifty attempts at once get more
    guesses than there are. Call it before a transaction is open: two connections held at once by many callers
    would exhaust the pool. A row without code and key is an attempt; it goes when the code was right.

    Raises:
        TooManyCodesError: too many wrong codes; try again later.
    """
    now, number = datetime.now(UTC), uuid7()
    tries = (Claim.status == "refused", Claim.csr == "", Claim.token_hash.is_(None))
    async with tenant(engine, organization_id) as session:
        await session.execute(delete(Claim).where(*tries, Claim.expires_at < now))
        await session.execute(
            insert(Claim).values(
                id=number,
                organization_id=organization_id,
                status="refused",
                expires_at=now + WRONG_CODES_IN,
            )
        )
    async with tenant(engine, organization_id) as session:
        count = await session.scalar(select(func.count()).select_from(Claim).where(*tries))
    if count is not None and count > WRONG_CODES:
        raise TooManyCodesError("too many wrong codes: try again in 15 minutes")
    return number


async def claim(
    session: AsyncSession,
    organization_id: UUID,
    code: str,
    name: str,
    *,
    attempt: UUID,
    replaces: UUID | None = None,
) -> UUID:
    """Take the box that shows `code` into the organization; return its id.

    Args:
        session: a transaction in the organization's name.
        organization_id: whose operator entered the code.
        code: as typed.
        name: what the box is to be called; "" takes the name it gave itself.
        attempt: what `attempt` returned for this one.
        replaces: an existing box that this one continues after a reset; its old certificates are revoked.

    Raises:
        WrongCodeError: no open claim has this code.
        ClaimRefusedError: there is no box `replaces`.
    """
    claim_id = (await session.execute(_TAKE, {"code": normalized(code)})).scalar_one()
    if claim_id is None:
        raise WrongCodeError("no box shows this code, or it has expired")
    await session.execute(delete(Claim).where(Claim.id == attempt))
    row = (await session.execute(select(Claim).where(Claim.id == claim_id))).scalar_one()
    row.appliance_id = await _appliance(session, organization_id, name, row.details, replaces)
    row.expires_at = datetime.now(UTC) + COLLECT_LIFETIME
    await session.flush()
    return row.appliance_id


async def create_token(
    session: AsyncSession,
    organization_id: UUID,
    name: str,
    *,
    replaces: UUID | None = None,
    lifetime: timedelta = TOKEN_LIFETIME,
) -> str:
    """Return a token that lets one box join without an operator; only its hash is kept."""
    token = secrets.token_urlsafe(32)
    await session.execute(
        insert(Claim).values(
            id=uuid7(),
            organization_id=organization_id,
            token_hash=_digest(token),
            details={"name": name, "replaces": str(replaces) if replaces else ""},
            expires_at=datetime.now(UTC) + lifetime,
        )
    )
    return token


class Claims:
    """What boxes ask of the hub about their own identity.

    Args:
        engine: of the API role.
        authority: signs their certificates.
        signing_key: public half of the key that signs bundles and commands, base64.
        address: where they find the hub.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        authority: CertificateAuthority,
        signing_key: str,
        address: HubAddress,
    ) -> None:
        self._engine = engine
        self._authority = authority
        self._signing_key = signing_key
        self._address = address
        self._register = DatabaseRegister(engine)

    async def ask(self, request: ClaimRequest, ip: str) -> ClaimPending:
        """Open a claim and return its code.

        Raises:
            CertificateRefusedError: the signing request is no good.
        """
        digest = key_hash(read_csr(request.csr))
        secret = secrets.token_urlsafe(32)
        claim_id, expires = uuid7(), datetime.now(UTC) + CODE_LIFETIME
        async with nobody(self._engine) as session:
            await session.execute(_PURGE)
        code = await self._open(
            {
                "id": claim_id,
                "poll_hash": _digest(secret),
                "csr": request.csr,
                "public_key_sha256": digest,
                "details": request.model_dump(include={"serial", "name", "software"}),
                "ip": ip,
                "expires_at": expires,
            }
        )
        return ClaimPending(
            claim_id=str(claim_id),
            secret=secret,
            code=f"{code[:4]}-{code[4:]}",
            expires_at=to_text(expires),
            poll_s=POLL_S,
        )

    async def collect(self, claim_id: UUID, secret: str) -> Identity | None:
        """Return the identity of a box whose code was entered; None while it was not.

        Asking again after an answer that got lost gives the same certificate.

        Raises:
            ClaimRefusedError: no such claim, it has expired, or it was refused.
        """
        found = await self._by_secret(secret)
        if found is None or found.claim_id != claim_id:
            raise ClaimRefusedError("this claim has expired: ask for a new code")
        if found.status == "open":
            return None
        async with tenant(self._engine, found.organization_id) as session:
            row = await _locked(session, claim_id)
            return await self._issue(session, row, row.csr)

    async def redeem(self, request: ClaimRequest, ip: str) -> Identity:
        """Return the identity of a box that has a token.

        Raises:
            ClaimRefusedError: the token is unknown, expired, or was used by another key.
            CertificateRefusedError: the signing request is no good.
        """
        digest = key_hash(read_csr(request.csr))
        found = await self._by_secret(request.token)
        if found is None or found.organization_id is None:
            raise ClaimRefusedError("this token is not valid, or not valid any more")
        async with tenant(self._engine, found.organization_id) as session:
            row = await _locked(session, found.claim_id)
            if row.public_key_sha256 is None:
                details = {**row.details, **request.model_dump(include={"serial", "software"})}
                replaces = UUID(details["replaces"]) if details.get("replaces") else None
                name = row.details.get("name") or request.name
                row.appliance_id = await _appliance(
                    session, found.organization_id, name, details, replaces
                )
                row.public_key_sha256, row.csr, row.ip = digest, request.csr, ip
            elif row.public_key_sha256 != digest:
                raise ClaimRefusedError("this token has been used by another box")
            return await self._issue(session, row, request.csr)

    async def renew(self, who: BoxIdentity, csr: str) -> Identity:
        """Return a new certificate for a box that is known and not revoked.

        Raises:
            ClaimRefusedError: it is revoked or unknown.
            CertificateRefusedError: the signing request is no good.
        """
        known = await self.known(who)
        issued = self._authority.issue_box(csr, who.box_id)
        async with tenant(self._engine, known.organization_id) as session:
            await record(session, known.organization_id, known.box_id, issued)
        return self._identity(who.box_id, issued.chain_pem, issued.not_before, issued.not_after)

    async def unlink(self, who: BoxIdentity) -> None:
        """Let a box leave: it is retired and its certificates are revoked.

        Raises:
            ClaimRefusedError: it is revoked or unknown already.
        """
        known = await self.known(who)
        async with tenant(self._engine, known.organization_id) as session:
            await retire(session, known.box_id, "unlinked by the box")

    async def known(self, who: BoxIdentity) -> Registered:
        """Return the register's entry of an identity that TLS has proven.

        Raises:
            ClaimRefusedError: it is revoked or unknown.
        """
        found = await self._register.find(who.serial)
        if found is None or not found.active or str(found.box_id) != who.box_id:
            raise ClaimRefusedError("this certificate is revoked: claim the box again")
        return found

    async def _open(self, values: dict[str, Any]) -> str:
        for _ in range(5):  # two open claims with one code are a matter of 2^40
            code = new_code()
            try:
                async with nobody(self._engine) as session:
                    await session.execute(insert(Claim).values(code=code, **values))
            except IntegrityError:
                continue
            return code
        raise ClaimRefusedError("no code could be given: try again")

    async def _by_secret(self, secret: str) -> Any:
        async with nobody(self._engine) as session:
            result = await session.execute(_BY_SECRET, {"digest": _digest(secret)})
            return result.one_or_none()

    async def _issue(self, session: AsyncSession, row: Claim, csr: str) -> Identity:
        assert row.appliance_id is not None
        assert row.organization_id is not None
        box_id = str(row.appliance_id)
        if row.status == "issued":
            certificate = await self._issued_before(session, row)
            return self._identity(
                box_id, certificate.pem, certificate.not_before, certificate.not_after
            )
        issued: IssuedCertificate = self._authority.issue_box(csr, box_id)
        await record(session, row.organization_id, row.appliance_id, issued)
        row.status, row.claimed_at = "issued", row.claimed_at or datetime.now(UTC)
        return self._identity(box_id, issued.chain_pem, issued.not_before, issued.not_after)

    async def _issued_before(self, session: AsyncSession, row: Claim) -> Certificate:
        found = await session.execute(
            select(Certificate)
            .where(
                Certificate.appliance_id == row.appliance_id,
                Certificate.public_key_sha256 == row.public_key_sha256,
                Certificate.revoked_at.is_(None),
            )
            .order_by(Certificate.id)
            .limit(1)
        )
        certificate = found.scalar_one_or_none()
        if certificate is None:
            raise ClaimRefusedError("this box has been revoked since: claim it again")
        return certificate

    def _identity(
        self, box_id: str, chain_pem: str, not_before: datetime, not_after: datetime
    ) -> Identity:
        return Identity(
            box_id=box_id,
            certificate=chain_pem,
            ca=self._authority.root_pem,
            signing_key=self._signing_key,
            mqtt_host=self._address.mqtt_host,
            mqtt_port=self._address.mqtt_port,
            api_url=self._address.api_url,
            expires_at=to_text(not_after),
            renew_after=to_text(not_before + (not_after - not_before) * RENEW_AT),
        )


async def _appliance(
    session: AsyncSession,
    organization_id: UUID,
    name: str,
    details: dict[str, Any],
    replaces: UUID | None,
) -> UUID:
    """Make the box's row, or revive the one it continues."""
    serial, software = str(details.get("serial", "")), str(details.get("software", ""))
    if replaces is not None:
        found = await session.execute(
            select(Appliance).where(Appliance.id == replaces).with_for_update()
        )
        box = found.scalar_one_or_none()
        if box is None:
            raise ClaimRefusedError("there is no such box to be replaced")
        await revoke(session, replaces, "replaced after a reset")
        box.state, box.retired_at = "active", None
        box.name, box.serial_number, box.software_version = name or box.name, serial, software
        return replaces
    box_id = uuid7()
    session.add(
        Appliance(
            organization_id=organization_id,
            id=box_id,
            name=name or str(details.get("name") or "") or f"Box {str(box_id)[-4:]}",
            serial_number=serial,
            software_version=software,
        )
    )
    await session.flush()
    return box_id


async def _locked(session: AsyncSession, claim_id: UUID) -> Claim:
    found = await session.execute(select(Claim).where(Claim.id == claim_id).with_for_update())
    return found.scalar_one()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def token_file(token: str, authority: CertificateAuthority, address: HubAddress) -> str:
    """Return the text of a token file (JSON): all that a box needs to find and trust this hub."""
    return json.dumps({"url": address.api_url, "token": token, "ca": authority.root_pem}, indent=1)
