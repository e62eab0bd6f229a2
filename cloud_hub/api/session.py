# SPDX-License-Identifier: Apache-2.0
"""The door: set-up, sign-up, sign-in and out, one's own sessions, password and second factor."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field
from sqlalchemy import select

from cloud_hub.api.browser import check_origin, clear_cookie, csrf_token, set_cookie
from cloud_hub.api.door import Asking, Who
from cloud_hub.api.fields import Body, Code, Email, Moment, Name, Password, Token, View
from cloud_hub.api.pages import Page
from cloud_hub.api.problems import ProblemError, missing, wrong_field
from cloud_hub.api.services import Services, services
from cloud_hub.auth import accounts, letters, sessions
from cloud_hub.auth.accounts import (
    CodeNeededError,
    EmailTakenError,
    LockedError,
    WrongLinkError,
    WrongSignInError,
)
from cloud_hub.auth.mail import Letter
from cloud_hub.auth.passwords import WeakPasswordError, check_policy
from cloud_hub.db.models import Credential, User
from cloud_hub.db.session import person

router = APIRouter(tags=["session"])


class SetUp(Body):
    """The first owner of a new hub."""

    token: Token
    email: Email
    name: Name = Field(examples=["Ada Lovelace"])
    password: Password
    organization: Name = Field(examples=["Ward & Sons"])


class SignUp(Body):
    """Somebody who opens an account with an organization of their own."""

    email: Email
    name: Name = Field(examples=["Ada Lovelace"])
    password: Password
    organization: Name = Field(examples=["Ward & Sons"])


class SignIn(Body):
    """Who somebody says they are."""

    email: Email
    password: Password
    code: Code | None = Field(None, description="Of the second factor, or a recovery code")


class MembershipView(View):
    """An organization that one belongs to."""

    organization_id: UUID
    name: str
    role: str
    suspended: bool


class SessionView(View):
    """The session of whoever asks."""

    user_id: UUID
    email: str
    name: str
    csrf_token: str = Field(description="To be sent in `X-CSRF-Token` with every change")
    second_factor: bool
    organizations: list[MembershipView]


class OpenSession(View):
    """One of somebody's sessions."""

    id: UUID
    current: bool = False
    created_at: Moment
    last_seen_at: Moment
    idle_until: Moment
    absolute_until: Moment
    ip: str
    user_agent: str


class NewPassword(Body):
    """A change of password by its owner."""

    current_password: Password
    new_password: Password


class Forgotten(Body):
    """Whose password is forgotten."""

    email: Email


class Proven(Body):
    """The token of a link that was sent to the address."""

    token: Token


class ResetPassword(Body):
    """A change of password by a link."""

    token: Token
    password: Password


class FactorOffer(View):
    """A second factor to be put into a telephone."""

    secret: str = Field(description="Base 32")
    uri: str = Field(description="For a QR code")


class FactorCode(Body):
    """The telephone's first code."""

    code: Code


class RecoveryCodes(View):
    """Shown once; each works once."""

    codes: list[str]


class Proof(Body):
    """The password, once more."""

    password: Password


class Accepted(View):
    """Said whether or not there was an account before."""

    status: str = Field(examples=["accepted"])


@router.post("/setup", operation_id="set_up", status_code=201, response_model=SessionView)
async def set_up(body: SetUp, request: Request, who: Asking) -> Response:
    """Make the first owner and organization. Works once, with the link that the hub printed."""
    hub = services(request)
    await limit_sign_ins(hub, who)
    encoded = await accepted_password(hub, body.password, body.email, body.name, body.organization)
    try:
        await accounts.use_setup_link(hub.engine, body.token)
    except WrongLinkError as error:
        raise ProblemError(403, "wrong_link", str(error)) from error
    user_id = await accounts.open_account(hub.engine, body.email, body.name, encoded, verified=True)
    await accounts.open_organization(
        hub.engine, user_id, body.organization, request_id=who.request_id, ip=who.ip
    )
    return await signed_in(request, who, user_id, status=201)


@router.post("/sign-up", operation_id="sign_up", status_code=202, response_model=Accepted)
async def sign_up(body: SignUp, request: Request, who: Asking) -> Response:
    """Open an account, where the hub's operator allows it; then sign in.

    Where the hub sends mail, the address must be proven first, by the link that is sent to it.
    """
    hub = services(request)
    await limit_sign_ins(hub, who)
    if not hub.settings.open_sign_up:
        raise ProblemError(403, "by_invitation", "accounts of this hub are opened by invitation")
    encoded = await accepted_password(hub, body.password, body.email, body.name, body.organization)
    try:
        user_id = await accounts.open_account(
            hub.engine, body.email, body.name, encoded, verified=False
        )
        await accounts.open_organization(
            hub.engine, user_id, body.organization, request_id=who.request_id, ip=who.ip
        )
    except EmailTakenError:
        # A stranger must not learn who has an account; whose it is may.
        if hub.mailer.on:
            hub.mailer.later(_told(body.email, hub.settings.public_url))
    else:
        if hub.mailer.on:
            hub.mailer.later(_proof(hub, user_id, body.email))
    return JSONResponse({"status": "accepted"}, 202)


@router.post("/sign-in", operation_id="sign_in", response_model=SessionView)
async def sign_in(body: SignIn, request: Request, who: Asking) -> Response:
    """Open a session; the answer sets its cookie."""
    hub = services(request)
    check_origin(request, hub)
    await limit_sign_ins(hub, who, body.email)
    try:
        proven = await accounts.prove(
            hub.engine, hub.passwords, hub.factors, body.email, body.password, body.code
        )
    except CodeNeededError as error:
        raise ProblemError(401, "code_needed", str(error)) from error
    except LockedError as error:
        headers = {"Retry-After": str(error.seconds)}
        raise ProblemError(429, "locked", str(error), headers=headers) from error
    except WrongSignInError as error:
        raise ProblemError(401, "wrong_sign_in", str(error)) from error
    if hub.mailer.on and not await accounts.is_verified(hub.engine, proven.user_id):
        hub.mailer.later(_proof(hub, proven.user_id, body.email))
        detail = "your address is not confirmed: open the link that was just sent to it"
        raise ProblemError(403, "email_not_verified", detail)
    return await signed_in(
        request, who, proven.user_id, with_second_factor=proven.with_second_factor
    )


@router.get("/session", operation_id="get_session", response_model=SessionView)
async def get_session(request: Request, who: Asking) -> SessionView:
    """Who is signed in, and where they belong."""
    hub = services(request)
    return await _view(hub, who.user_id, who.token, list(who.belongings))


@router.delete("/session", operation_id="sign_out", status_code=204)
async def sign_out(request: Request, who: Asking) -> Response:
    """End the session."""
    hub = services(request)
    assert who.session_id is not None
    await sessions.revoke(hub.engine, who.user_id, who.session_id)
    response = Response(status_code=204)
    clear_cookie(response, hub)
    return response


@router.get("/sessions", operation_id="list_sessions")
async def list_sessions(request: Request, who: Asking) -> Page[OpenSession]:
    """List one's own sessions, newest first."""
    hub = services(request)
    async with person(hub.engine, who.user_id) as session:
        found = await sessions.current(session, who.user_id)
    views = [OpenSession.model_validate(each) for each in found]
    for view in views:
        view.current = view.id == who.session_id
    return Page(data=views)


@router.delete("/sessions/{session_id}", operation_id="revoke_session", status_code=204)
async def revoke_session(session_id: UUID, request: Request, who: Asking) -> Response:
    """End one of one's own sessions; it stops working at once, on every API process."""
    hub = services(request)
    if not await sessions.revoke(hub.engine, who.user_id, session_id):
        raise missing("session")
    return Response(status_code=204)


@router.post("/password", operation_id="change_password", status_code=204)
async def change_password(body: NewPassword, request: Request, who: Asking) -> Response:
    """Change one's password; all other sessions end."""
    hub = services(request)
    await limit_sign_ins(hub, who, str(who.user_id))
    user = await _user(hub, who.user_id)
    await _confirm_password(hub, who, body.current_password)
    encoded = await accepted_password(hub, body.new_password, user.email, user.name)
    async with person(hub.engine, who.user_id) as session:
        await accounts.set_password(session, who.user_id, encoded)
        await sessions.revoke_others(session, who.user_id, who.session_id)
    return Response(status_code=204)


@router.post(
    "/password/forgot", operation_id="forgot_password", status_code=202, response_model=Accepted
)
async def forgot_password(body: Forgotten, request: Request, who: Asking) -> Response:
    """Ask for a link to choose a new password; it goes to the address, if it has an account."""
    hub = services(request)
    await limit_sign_ins(hub, who, body.email)
    if not hub.mailer.on:
        detail = "this hub sends no mail: ask its operator for a link"
        raise ProblemError(403, "no_mail", detail)
    hub.mailer.later(_new_password(hub, body.email))
    return JSONResponse({"status": "accepted"}, 202)


@router.post("/email/verify", operation_id="verify_email", status_code=204)
async def verify_email(body: Proven, request: Request, who: Asking) -> Response:
    """Prove that an address is one's own, with the link that was sent to it."""
    hub = services(request)
    await limit_sign_ins(hub, who)
    try:
        await accounts.verify_email(hub.engine, body.token)
    except WrongLinkError as error:
        raise ProblemError(403, "wrong_link", str(error)) from error
    return Response(status_code=204)


@router.post("/password/reset", operation_id="reset_password", status_code=204)
async def reset_password(body: ResetPassword, request: Request, who: Asking) -> Response:
    """Choose a new password with a link; all sessions end, the second factor stays."""
    hub = services(request)
    await limit_sign_ins(hub, who)
    encoded = await accepted_password(hub, body.password)
    try:
        user_id = await accounts.use_reset_token(hub.engine, body.token)
    except WrongLinkError as error:
        raise ProblemError(403, "wrong_link", str(error)) from error
    async with person(hub.engine, user_id) as session:
        await accounts.set_password(session, user_id, encoded)
        await accounts.note_verified(
            session, user_id
        )  # the link came by the address, or its operator
        await sessions.revoke_others(session, user_id, None)
    return Response(status_code=204)


@router.post(
    "/second-factor",
    operation_id="begin_second_factor",
    status_code=201,
    response_model=FactorOffer,
)
async def begin_second_factor(body: Proof, request: Request, who: Asking) -> FactorOffer:
    """Ask for a secret for an authenticator; it counts once its first code is shown."""
    hub = services(request)
    await limit_sign_ins(hub, who, str(who.user_id))
    await _confirm_password(hub, who, body.password)
    user = await _user(hub, who.user_id)
    async with person(hub.engine, who.user_id) as session:
        secret, uri = await hub.factors.begin(session, who.user_id, user.email)
    return FactorOffer(secret=secret, uri=uri)


@router.post("/second-factor/confirm", operation_id="confirm_second_factor")
async def confirm_second_factor(body: FactorCode, request: Request, who: Asking) -> RecoveryCodes:
    """Show the first code: from now on sign-in asks for one."""
    hub = services(request)
    await limit_sign_ins(hub, who, str(who.user_id))
    async with person(hub.engine, who.user_id) as session:
        codes = await hub.factors.confirm(session, who.user_id, body.code)
        if codes is None:
            raise wrong_field("/code", "this is not the code, or none was asked for")
        await sessions.revoke_others(session, who.user_id, who.session_id)
    return RecoveryCodes(codes=codes)


@router.post("/second-factor/remove", operation_id="remove_second_factor", status_code=204)
async def remove_second_factor(body: Proof, request: Request, who: Asking) -> Response:
    """Sign in by password alone again."""
    hub = services(request)
    await limit_sign_ins(hub, who, str(who.user_id))
    await _confirm_password(hub, who, body.password)
    async with person(hub.engine, who.user_id) as session:
        await hub.factors.remove(session, who.user_id)
        await sessions.revoke_others(session, who.user_id, who.session_id)
    return Response(status_code=204)


async def limit_sign_ins(hub: Services, who: Who, name: str = "") -> None:
    """Count a try of this address, and of this account.

    Raises:
        ProblemError: 429.
    """
    names = [f"ip:{who.ip}", *([f"name:{name.lower()}"] if name else [])]
    for verdict in [await hub.limits.sign_ins.take(each) for each in names]:
        if not verdict.allowed:
            headers = {"Retry-After": str(verdict.retry_after_s)}
            raise ProblemError(429, "too_many_requests", "too many tries", headers=headers)


async def accepted_password(hub: Services, password: str, *about: str) -> str:
    """Return the hash of a password that the policy takes.

    Raises:
        ProblemError: 422 for a weak one.
    """
    try:
        check_policy(password, *about)
    except WeakPasswordError as error:
        raise wrong_field("/password", str(error), code="weak_password") from error
    return await hub.passwords.hash(password)


async def signed_in(
    request: Request,
    who: Who,
    user_id: UUID,
    *,
    status: int = 200,
    with_second_factor: bool = False,
) -> Response:
    """Open a session and answer with it and its cookie."""
    hub = services(request)
    async with person(hub.engine, user_id) as session:
        _, token = await sessions.open_session(
            session,
            user_id,
            hub.lifetime,
            with_second_factor=with_second_factor,
            ip=who.ip,
            user_agent=_printable(request.headers.get("user-agent", "")),
        )
        belongings = list(await sessions.belongings(session))
    view = await _view(hub, user_id, token, belongings)
    response = Response(view.model_dump_json(), status, media_type="application/json")
    set_cookie(response, hub, token)
    return response


async def _told(email: str, url: str) -> Letter:
    return letters.already_there(email, url)


async def _proof(hub: Services, user_id: UUID, email: str) -> Letter:
    token = await accounts.make_verify_token(hub.engine, user_id)
    hours = int(accounts.VERIFY_LIFETIME.total_seconds()) // 3600
    return letters.verification(email, hub.mailer.link("email", token), hours)


async def _new_password(hub: Services, email: str) -> Letter | None:
    user_id = await accounts.find_user(hub.engine, email)
    if user_id is None:
        return None
    async with person(hub.engine, user_id) as session:
        token = await accounts.make_reset_token(session, user_id)
    minutes = int(accounts.RESET_LIFETIME.total_seconds()) // 60
    return letters.new_password(email, hub.mailer.link("password", token), minutes)


async def _confirm_password(hub: Services, who: Who, password: str) -> None:
    async with person(hub.engine, who.user_id) as session:
        encoded = await session.scalar(
            select(Credential.password_hash).where(Credential.user_id == who.user_id)
        )
    if not await hub.passwords.verify(encoded, password):
        raise ProblemError(403, "wrong_password", "this is not your password")


async def _user(hub: Services, user_id: UUID) -> User:
    async with person(hub.engine, user_id) as session:
        return (await session.execute(select(User).where(User.id == user_id))).scalar_one()


async def _view(
    hub: Services, user_id: UUID, token: str, belongings: list[sessions.Belonging]
) -> SessionView:
    async with person(hub.engine, user_id) as session:
        user = (await session.execute(select(User).where(User.id == user_id))).scalar_one()
        factor = await hub.factors.active(session, user_id)
    return SessionView(
        user_id=user.id,
        email=user.email,
        name=user.name,
        csrf_token=csrf_token(hub, token),
        second_factor=factor,
        organizations=[MembershipView.model_validate(each) for each in belongings],
    )


def _printable(text: str) -> str:
    return "".join(each for each in text if each.isprintable())
