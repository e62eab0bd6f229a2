# SPDX-License-Identifier: Apache-2.0
"""Accounts: opened by set-up link, invitation or sign-up; proven by password and second factor."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from cloud_hub.auth.passwords import Passwords
from cloud_hub.auth.secrets import digest, new_token
from cloud_hub.auth.totp import SecondFactors
from cloud_hub.db import audit
from cloud_hub.db.ids import uuid7
from cloud_hub.db.models import Credential, Membership, Organization, User, UserToken
from cloud_hub.db.session import nobody, person, tenant

SETUP_LIFETIME = timedelta(hours=24)
RESET_LIFETIME = timedelta(hours=1)
VERIFY_LIFETIME = timedelta(hours=24)
FREE_FAILURES = 5
"""Wrong passwords before an account makes its owner, and whoever guesses, wait."""
LONGEST_LOCK = timedelta(minutes=15)

_BY_EMAIL = text("SELECT * FROM app.user_by_email(:email)")
_NOTE = text("SELECT app.note_sign_in(:user_id, :succeeded, :lock_until)")
_ADD_SETUP = text("SELECT app.add_setup_link(:digest, :expiry)")
_USE_SETUP = text("SELECT app.use_setup_link(:digest)")
_USE_TOKEN = text("SELECT app.use_user_token(:digest, :purpose)")


class AccountError(Exception):
    """What was asked is not done; the text may be shown."""


class WrongLinkError(AccountError):
    """The link is unknown, was used, or has expired."""


class EmailTakenError(AccountError):
    """There is an account with this address. Not to be told to strangers."""


class WrongSignInError(AccountError):
    """E-mail, password or code is wrong; which one is not said."""


class CodeNeededError(AccountError):
    """The password is right and a second factor is set up: its code is needed."""


class LockedError(AccountError):
    """Too many wrong passwords.

    Attributes:
        seconds: how long to wait.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__("too many wrong passwords: wait before the next try")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Somebody who has proven who they are."""

    user_id: UUID
    with_second_factor: bool


async def make_setup_link(engine: AsyncEngine) -> str | None:
    """Return the token of a new set-up link; None once there is a user."""
    token = new_token()
    wanted = {"digest": digest(token), "expiry": datetime.now(UTC) + SETUP_LIFETIME}
    async with nobody(engine) as session:
        made: bool | None = (await session.execute(_ADD_SETUP, wanted)).scalar_one_or_none()
    return token if made else None


async def use_setup_link(engine: AsyncEngine, token: str) -> None:
    """Use the set-up link up.

    Raises:
        WrongLinkError: it is not valid.
    """
    async with nobody(engine) as session:
        if not (await session.execute(_USE_SETUP, {"digest": digest(token)})).scalar_one_or_none():
            raise WrongLinkError("this set-up link is not valid, or not valid any more")


async def open_account(
    engine: AsyncEngine, email: str, name: str, password_hash: str, *, verified: bool
) -> UUID:
    """Make a user.

    Args:
        engine: of the API role.
        email: kept in lower case.
        name: for others to read.
        password_hash: encoded.
        verified: the address is proven, by a link that was sent there or by the operator's word.

    Raises:
        EmailTakenError: there is an account with this address.
    """
    user_id = uuid7()
    try:
        async with person(engine, user_id) as session:
            at = datetime.now(UTC) if verified else None
            session.add(User(id=user_id, email=email.lower(), name=name, email_verified_at=at))
            await session.flush()
            session.add(Credential(user_id=user_id, password_hash=password_hash))
    except IntegrityError as error:
        raise EmailTakenError("there is an account with this address") from error
    return user_id


async def open_organization(
    engine: AsyncEngine, user_id: UUID, name: str, *, request_id: str = "", ip: str = ""
) -> Organization:
    """Make an organization with its owner."""
    organization_id = uuid7()
    async with tenant(engine, organization_id, user_id=user_id) as session:
        made = Organization(id=organization_id, name=name)
        session.add(made)
        await session.flush()
        session.add(Membership(organization_id=organization_id, user_id=user_id, role="owner"))
        await session.flush()
        await session.refresh(made)
        await audit.append(
            session,
            organization_id,
            action="organization.create",
            actor_kind="user",
            actor_id=str(user_id),
            target_kind="organization",
            target_id=str(organization_id),
            request_id=request_id,
            ip=ip,
        )
    return made


async def prove(
    engine: AsyncEngine,
    passwords: Passwords,
    factors: SecondFactors,
    email: str,
    password: str,
    code: str | None,
) -> SignedIn:
    """Check who somebody says they are.

    An unknown address takes as long as a wrong password, and is answered the same.

    Raises:
        WrongSignInError: it is not so.
        CodeNeededError: the code of the second factor is missing.
        LockedError: not now.
    """
    async with nobody(engine) as session:
        row = (await session.execute(_BY_EMAIL, {"email": email})).one_or_none()
    if row is not None and row.locked_until is not None:
        left = (row.locked_until - datetime.now(UTC)).total_seconds()
        if left > 0:
            raise LockedError(int(left) + 1)
    right = await passwords.verify(row.password_hash if row else None, password)
    if row is None or not right or row.disabled_at is not None:
        if row is not None and not right:
            await _note(engine, row.user_id, failures=row.failures + 1)
        raise WrongSignInError("e-mail, password or code is wrong")
    if row.has_totp:
        if not code:
            raise CodeNeededError("send the code of your second factor as well")
        async with person(engine, row.user_id) as session:
            right = await factors.check(session, row.user_id, code)
        if not right:
            await _note(engine, row.user_id, failures=row.failures + 1)
            raise WrongSignInError("e-mail, password or code is wrong")
    await _note(engine, row.user_id, failures=0)
    if passwords.outdated(row.password_hash):
        encoded = await passwords.hash(password)
        async with person(engine, row.user_id) as session:
            await _store(session, row.user_id, encoded)
    return SignedIn(row.user_id, row.has_totp)


async def set_password(session: AsyncSession, user_id: UUID, encoded: str) -> None:
    """Give a person a new password, in that person's transaction."""
    await _store(session, user_id, encoded)


async def make_reset_token(session: AsyncSession, user_id: UUID) -> str:
    """Return the token of a link to choose a new password, in that person's transaction."""
    return await _make_token(session, user_id, "reset_password", RESET_LIFETIME)


async def make_verify_token(engine: AsyncEngine, user_id: UUID) -> str:
    """Return the token of a link by which a person proves that the address is theirs."""
    async with person(engine, user_id) as session:
        return await _make_token(session, user_id, "verify_email", VERIFY_LIFETIME)


async def use_reset_token(engine: AsyncEngine, token: str) -> UUID:
    """Use such a link up; return whose it is.

    Raises:
        WrongLinkError: it is not valid.
    """
    return await _use_token(engine, token, "reset_password")


async def verify_email(engine: AsyncEngine, token: str) -> None:
    """Use a link of `make_verify_token` up: the address is proven.

    Raises:
        WrongLinkError: it is not valid.
    """
    user_id = await _use_token(engine, token, "verify_email")
    async with person(engine, user_id) as session:
        await note_verified(session, user_id)


async def note_verified(session: AsyncSession, user_id: UUID) -> None:
    """Note that a person's address is proven, in that person's transaction."""
    await session.execute(
        update(User)
        .where(User.id == user_id, User.email_verified_at.is_(None))
        .values(email_verified_at=datetime.now(UTC))
    )


async def is_verified(engine: AsyncEngine, user_id: UUID) -> bool:
    """Say whether a person's address is proven."""
    async with person(engine, user_id) as session:
        found = await session.scalar(select(User.email_verified_at).where(User.id == user_id))
    return found is not None


async def find_user(engine: AsyncEngine, email: str) -> UUID | None:
    """Return whose address this is."""
    async with nobody(engine) as session:
        row = (await session.execute(_BY_EMAIL, {"email": email})).one_or_none()
    return None if row is None else row.user_id


async def _make_token(
    session: AsyncSession, user_id: UUID, purpose: str, lifetime: timedelta
) -> str:
    token = new_token()
    session.add(
        UserToken(
            id=uuid7(),
            user_id=user_id,
            purpose=purpose,
            token_hash=digest(token),
            expires_at=datetime.now(UTC) + lifetime,
        )
    )
    await session.flush()
    return token


async def _use_token(engine: AsyncEngine, token: str, purpose: str) -> UUID:
    wanted = {"digest": digest(token), "purpose": purpose}
    async with nobody(engine) as session:
        found: UUID | None = (await session.execute(_USE_TOKEN, wanted)).scalar_one_or_none()
    if found is None:
        raise WrongLinkError("this link is not valid, or not valid any more")
    return found


async def _note(engine: AsyncEngine, user_id: UUID, *, failures: int) -> None:
    wait = timedelta(seconds=2 ** min(failures - FREE_FAILURES, 20)) if failures else timedelta()
    lock = datetime.now(UTC) + min(wait, LONGEST_LOCK) if failures > FREE_FAILURES else None
    values = {"user_id": user_id, "succeeded": not failures, "lock_until": lock}
    async with nobody(engine) as session:
        await session.execute(_NOTE, values)


async def _store(session: AsyncSession, user_id: UUID, encoded: str) -> None:
    await session.execute(
        update(Credential)
        .where(Credential.user_id == user_id)
        .values(password_hash=encoded, changed_at=datetime.now(UTC))
    )
