# SPDX-License-Identifier: Apache-2.0
"""Who is asking, and whether they may: the one dependency that every route has.

`authorize` finds the operation's rule in `auth.operations` by the route's name. A person comes with
the session cookie, a program with `Authorization: Bearer KEY`. A key speaks for its organization; a
person in several says which one in `Trunkline-Organization`.
"""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from sqlalchemy import func, text, update

from cloud_hub.api.browser import check_csrf, token_of
from cloud_hub.api.problems import ProblemError, request_id
from cloud_hub.api.services import Services, services
from cloud_hub.auth.limits import Verdict
from cloud_hub.auth.operations import RULES, Access, Rule
from cloud_hub.auth.secrets import KeyText, digest
from cloud_hub.auth.sessions import Belonging, find
from cloud_hub.db.models import ApiKey
from cloud_hub.db.session import nobody, tenant

ORGANIZATION_HEADER = "Trunkline-Organization"
NOTE_USE_EVERY_S = 60.0

_BY_PREFIX = text("SELECT * FROM app.api_key_by_prefix(:prefix)")


@dataclass(frozen=True, slots=True)
class Who:
    """Whoever asks.

    Attributes:
        kind: `nobody` at public operations.
        id: of the user or the key, None for nobody.
        organization_id: in whose name; None for nobody and in a person's own affairs.
        role: of a person in that organization.
        scopes: of a key.
        session_id: of a person. token: of that session.
        belongings: a person's organizations.
    """

    kind: Literal["user", "api_key", "nobody"]
    ip: str
    request_id: str
    id: UUID | None = None
    organization_id: UUID | None = None
    role: str = ""
    scopes: frozenset[str] = frozenset()
    session_id: UUID | None = None
    token: str = ""
    belongings: tuple[Belonging, ...] = ()

    @property
    def organization(self) -> UUID:
        """The organization; only for operations of members."""
        assert self.organization_id is not None
        return self.organization_id

    @property
    def user_id(self) -> UUID:
        """The person; only where no key is let in."""
        assert self.kind == "user"
        assert self.id is not None
        return self.id

    @property
    def label(self) -> str:
        """As what is made is signed: `user:...` or `api_key:...`."""
        return f"{self.kind}:{self.id}"


async def authorize(request: Request) -> Who:
    """Let the request in, or raise.

    Raises:
        ProblemError: 401 for nobody, 403 for whoever may not, 429 for whoever asks too often.
    """
    hub, rule = services(request), rule_of(request)
    ip = request.client.host if request.client else ""
    if rule.access is Access.PUBLIC:
        return Who("nobody", ip, request_id(request))
    kind, _, credentials = request.headers.get("authorization", "").partition(" ")
    if kind:
        if kind.lower() != "bearer":
            raise _unauthorized("only `Authorization: Bearer KEY` is understood")
        who = await _key(request, hub, credentials.strip(), ip)
    else:
        who = await _person(request, hub, ip, rule)
    _check(rule, who)
    return who


Asking = Annotated[Who, Depends(authorize)]


def rule_of(request: Request) -> Rule:
    """Return the rule of the operation that the request was routed to.

    Raises:
        ProblemError: 403, the operation is not in the table.
    """
    route = request.scope.get("route")
    rule = RULES.get(route.operation_id or "") if isinstance(route, APIRoute) else None
    if rule is None:
        raise ProblemError(403, "forbidden", "this operation is open to nobody")
    return rule


def _check(rule: Rule, who: Who) -> None:
    if rule.access is Access.PERSON and who.kind != "user":
        raise ProblemError(403, "persons_only", "this is for signed-in people, not for keys")
    if rule.access is not Access.MEMBER:
        return
    if who.kind == "api_key" and (not rule.scope or rule.scope not in who.scopes):
        needs = f"needs the scope {rule.scope}" if rule.scope else "is not for keys"
        raise ProblemError(403, "forbidden", f"this operation {needs}")
    if who.kind == "user" and who.role not in rule.roles:
        raise ProblemError(403, "forbidden", f"the role {who.role} may not do this")


async def _person(request: Request, hub: Services, ip: str, rule: Rule) -> Who:
    token = token_of(request, hub)
    found = await find(hub.engine, token, hub.lifetime) if token else None
    if token is None or found is None:
        raise _unauthorized("sign in, or send an API key")
    _within(await hub.limits.keys.take(f"user:{found.user_id}"))
    check_csrf(request, hub, token)
    organization = None
    if rule.access is Access.MEMBER:
        organization = _chosen(request, found.organizations)
    return Who(
        "user",
        ip,
        request_id(request),
        id=found.user_id,
        organization_id=organization.organization_id if organization else None,
        role=organization.role if organization else "",
        session_id=found.session_id,
        token=token,
        belongings=found.organizations,
    )


def _chosen(request: Request, belongings: Sequence[Belonging]) -> Belonging:
    wanted = request.headers.get(ORGANIZATION_HEADER)
    if wanted is None and len(belongings) > 1:
        raise ProblemError(400, "which_organization", f"say which one in {ORGANIZATION_HEADER}")
    for each in belongings:
        if wanted is None or wanted.lower() == str(each.organization_id):
            if each.suspended:
                raise ProblemError(403, "suspended", "this organization is suspended")
            return each
    raise ProblemError(403, "not_a_member", "you do not belong to this organization")


async def _key(request: Request, hub: Services, credentials: str, ip: str) -> Who:
    key = KeyText.parse(credentials)
    if key is None:
        raise _unauthorized("this is not an API key, or it is mistyped")
    async with nobody(hub.engine) as session:
        row = (await session.execute(_BY_PREFIX, {"prefix": key.prefix})).one_or_none()
    kept = bytes(row.secret_hash) if row is not None else bytes(32)
    if not hmac.compare_digest(kept, digest(key.secret)) or row is None:
        raise _unauthorized("this key is unknown, revoked, or has expired")
    if row.allowed_networks and not _inside(ip, row.allowed_networks):
        raise ProblemError(403, "address_not_allowed", "this key may not be used from this address")
    named = request.headers.get(ORGANIZATION_HEADER, str(row.organization_id))
    if named.lower() != str(row.organization_id):
        raise ProblemError(403, "not_a_member", "this key belongs to another organization")
    _within(await hub.limits.keys.take(f"key:{row.api_key_id}"))
    await _note_use(hub, row.organization_id, row.api_key_id)
    return Who(
        "api_key",
        ip,
        request_id(request),
        id=row.api_key_id,
        organization_id=row.organization_id,
        scopes=frozenset(row.scopes),
    )


def _inside(ip: str, networks: Sequence[str]) -> bool:
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped  # ::ffff:192.0.2.1 is 192.0.2.1
    return any(address in ipaddress.ip_network(each) for each in networks)


async def _note_use(hub: Services, organization_id: UUID, key_id: UUID) -> None:
    now, name = time.monotonic(), str(key_id)
    if now - hub.key_notes.get(name, -NOTE_USE_EVERY_S) < NOTE_USE_EVERY_S:
        return
    hub.key_notes[name] = now
    async with tenant(hub.engine, organization_id) as session:
        await session.execute(
            update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=func.now())
        )


def _within(verdict: Verdict) -> None:
    if not verdict.allowed:
        headers = {"Retry-After": str(verdict.retry_after_s)}
        raise ProblemError(429, "too_many_requests", "slow down", headers=headers)


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
