# SPDX-License-Identifier: Apache-2.0
"""Invitations: a place in the organization, offered to an e-mail address by a link that works once."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import Field
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from cloud_hub.api.deeds import Done, Reading, Writing
from cloud_hub.api.door import Asking, Who
from cloud_hub.api.fields import Body, Email, Moment, Name, Password, Token, View
from cloud_hub.api.members import Role, check_grant
from cloud_hub.api.pages import CursorText, Limit, Page, page
from cloud_hub.api.problems import ProblemError, missing
from cloud_hub.api.services import Services, services
from cloud_hub.api.session import (
    MembershipView,
    SessionView,
    accepted_password,
    limit_sign_ins,
    signed_in,
)
from cloud_hub.auth import accounts, letters
from cloud_hub.auth.mail import Mailer, MailError
from cloud_hub.auth.secrets import digest, new_token
from cloud_hub.db import audit
from cloud_hub.db.ids import uuid7
from cloud_hub.db.models import Invitation, Membership, Organization, User
from cloud_hub.db.session import nobody, person, tenant

log = logging.getLogger(__name__)
router = APIRouter(tags=["invitations"])

LIFETIME = timedelta(days=7)

_BY_TOKEN = text("SELECT * FROM app.invitation_by_token(:digest)")


class InvitationView(View):
    """A place that is offered."""

    id: UUID
    email: str
    role: Role
    invited_by: UUID
    expires_at: Moment
    accepted_at: Moment | None
    revoked_at: Moment | None
    created_at: Moment


class NewInvitation(Body):
    """Who is invited, as what."""

    email: Email
    role: Role


class InvitationMade(InvitationView):
    """What was made of it.

    Where the hub sends mail the person has the link, and nobody else. Else, and when the mail server
    does not take it, the token is shown, once: hand it to the person it is for.
    """

    mailed: bool
    token: str | None


class Offer(Body):
    """The token of an invitation."""

    token: Token


class OfferView(View):
    """What is offered."""

    organization_name: str
    email: str
    role: Role


class Acceptance(Body):
    """Somebody without an account takes the place."""

    token: Token
    name: Name = Field(examples=["Grace Hopper"])
    password: Password


@router.get("/invitations", operation_id="list_invitations")
async def list_invitations(
    desk: Reading, limit: Limit = 50, cursor: CursorText = None
) -> Page[InvitationView]:
    """List invitations, oldest first, with what became of them."""
    async with desk.reading() as session:
        return await page(
            session,
            select(Invitation),
            Invitation.id,
            InvitationView.model_validate,
            cursors=desk.cursors("invitations"),
            cursor=cursor,
            limit=limit,
        )


@router.post(
    "/invitations", operation_id="create_invitation", status_code=201, response_model=InvitationMade
)
async def create_invitation(body: NewInvitation, desk: Writing) -> Response:
    """Invite somebody, by mail where the hub sends it; else the answer holds the token to hand over."""
    check_grant(desk.who, body.role)
    mailer = desk.hub.mailer

    async def deed(session: AsyncSession) -> Done:
        token = new_token()
        row = Invitation(
            organization_id=desk.who.organization,
            id=uuid7(),
            email=body.email.lower(),
            role=body.role,
            token_hash=digest(token),
            invited_by=desk.who.user_id,
            expires_at=datetime.now(UTC) + LIFETIME,
        )
        session.add(row)
        await session.flush()
        await session.refresh(row)
        shown = InvitationView.model_validate(row).model_dump()
        mailed = mailer.on and await _mail(session, mailer, row, token)
        return Done(
            InvitationMade(mailed=mailed, token=None if mailed else token, **shown),
            "invitation.create",
            ("invitation", row.id),
            status=201,
            detail={"email": row.email, "role": row.role, "mailed": mailed},
        )

    return await desk.perform(deed)


@router.delete("/invitations/{invitation_id}", operation_id="revoke_invitation", status_code=204)
async def revoke_invitation(invitation_id: UUID, desk: Writing) -> Response:
    """Take an invitation back."""

    async def deed(session: AsyncSession) -> Done:
        row = await session.scalar(select(Invitation).where(Invitation.id == invitation_id))
        if row is None:
            raise missing("invitation")
        if row.accepted_at is not None:
            raise ProblemError(409, "accepted", "this invitation has been accepted")
        row.revoked_at = row.revoked_at or datetime.now(UTC)
        return Done(None, "invitation.revoke", ("invitation", invitation_id))

    return await desk.perform(deed)


@router.post("/join/offer", operation_id="get_invitation_offer")
async def get_invitation_offer(body: Offer, request: Request, who: Asking) -> OfferView:
    """What an invitation's token offers."""
    hub = services(request)
    await limit_sign_ins(hub, who)
    return OfferView.model_validate(await _offer(hub, body.token))


@router.post(
    "/join/new-account",
    operation_id="accept_invitation",
    status_code=201,
    response_model=SessionView,
)
async def accept_invitation(body: Acceptance, request: Request, who: Asking) -> Response:
    """Open an account and take the place; the answer signs in."""
    hub = services(request)
    await limit_sign_ins(hub, who)
    offer = await _offer(hub, body.token)
    encoded = await accepted_password(
        hub, body.password, offer.email, body.name, offer.organization_name
    )
    try:
        user_id = await accounts.open_account(
            hub.engine, offer.email, body.name, encoded, verified=True
        )
    except accounts.EmailTakenError as error:
        detail = "there is an account: sign in, then join with the token"
        raise ProblemError(409, "sign_in_first", detail) from error
    await _take(hub, who, offer, user_id)
    return await signed_in(request, who, user_id, status=201)


@router.post("/join", operation_id="join_organization", status_code=201)
async def join_organization(body: Offer, request: Request, who: Asking) -> MembershipView:
    """Take a place with the account that one has; the invitation must be for its address."""
    hub = services(request)
    await limit_sign_ins(hub, who)
    offer = await _offer(hub, body.token)
    async with person(hub.engine, who.user_id) as session:
        email = await session.scalar(select(User.email).where(User.id == who.user_id))
    if email is None or email.lower() != offer.email.lower():
        raise ProblemError(403, "not_for_you", "this invitation is for another address")
    await _take(hub, who, offer, who.user_id)
    return MembershipView(
        organization_id=offer.organization_id,
        name=offer.organization_name,
        role=offer.role,
        suspended=False,
    )


async def _mail(session: AsyncSession, mailer: Mailer, row: Invitation, token: str) -> bool:
    """Send the link; say whether the mail server took it."""
    name = await session.scalar(
        select(Organization.name).where(Organization.id == row.organization_id)
    )
    link = mailer.link("invitation", token)
    letter = letters.invitation(row.email, name or "", row.role, link, LIFETIME.days)
    try:
        await mailer.send(letter)
    except MailError as error:
        log.warning("an invitation was not mailed: %s", error)
        return False
    return True


async def _offer(hub: Services, token: str) -> Any:
    async with nobody(hub.engine) as session:
        row = (await session.execute(_BY_TOKEN, {"digest": digest(token)})).one_or_none()
    if row is None:
        raise ProblemError(403, "wrong_link", "this invitation is not valid, or not valid any more")
    return row


async def _take(hub: Services, who: Who, offer: Any, user_id: UUID) -> None:
    organization_id = offer.organization_id
    async with tenant(hub.engine, organization_id, user_id=user_id) as session:
        taken = await session.execute(
            update(Invitation)
            .where(
                Invitation.id == offer.invitation_id,
                Invitation.accepted_at.is_(None),
                Invitation.revoked_at.is_(None),
            )
            .values(accepted_at=datetime.now(UTC))
            .returning(Invitation.id)
        )
        if taken.one_or_none() is None:
            raise ProblemError(403, "wrong_link", "this invitation is not valid any more")
        session.add(Membership(organization_id=organization_id, user_id=user_id, role=offer.role))
        await session.flush()
        await audit.append(
            session,
            organization_id,
            action="invitation.accept",
            actor_kind="user",
            actor_id=str(user_id),
            target_kind="invitation",
            target_id=str(offer.invitation_id),
            detail={"role": offer.role},
            request_id=who.request_id,
            ip=who.ip,
        )
