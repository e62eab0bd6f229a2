# SPDX-License-Identifier: Apache-2.0
"""What boxes ask by HTTPS about their own identity: claim, collect, renew, leave.

`box_of` is the dependency that every other route for boxes takes: it answers with the box's entry
in the register, or refuses. The application must be served by `tls_peer.device_server`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from http import HTTPStatus
from typing import Annotated, TypeVar
from uuid import UUID

from cryptography import x509
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from appliance.wire import ClaimPending, ClaimRequest, Identity, RenewRequest, WireError
from cloud_hub.fleet.ca import (
    RENEWABLE_FOR,
    BoxIdentity,
    CertificateAuthority,
    CertificateRefusedError,
)
from cloud_hub.fleet.claim import ClaimRefusedError, Claims
from cloud_hub.fleet.register import Registered

MAX_BODY = 32 * 1024
ASKS_EACH = 20
"""Claims that one address may open in `ASKS_IN_S`."""
ASKS_ALL = 600
"""Claims that all addresses together may open in `ASKS_IN_S`, in one process."""
ASKS_IN_S = 600.0
ADDRESSES = 10_000
"""Addresses that are remembered; beyond that the oldest is forgotten."""

Asked = TypeVar("Asked", ClaimRequest, RenewRequest)

PROBLEM = "application/problem+json"


class AskLimit:
    """Bounds how often strangers may open claims: per address, and in all.

    Args:
        each: of one address in `within_s`.
        everyone: of all addresses in `within_s`.
    """

    def __init__(
        self, each: int = ASKS_EACH, everyone: int = ASKS_ALL, within_s: float = ASKS_IN_S
    ) -> None:
        self._each, self._everyone, self._within_s = each, everyone, within_s
        self._all: list[float] = []
        self._of: OrderedDict[str, list[float]] = OrderedDict()

    def allows(self, address: str, now: float) -> bool:
        """Count one more and say whether it is within bounds; `now` in seconds of any steady clock."""
        since = now - self._within_s
        self._all = [at for at in self._all if at > since]
        own = [at for at in self._of.pop(address, []) if at > since]
        allowed = len(own) < self._each and len(self._all) < self._everyone
        if allowed:
            own.append(now)
            self._all.append(now)
        self._of[address] = own
        if len(self._of) > ADDRESSES:
            self._of.popitem(last=False)
        return allowed


def peer(request: Request) -> BoxIdentity:
    """Return who TLS says is calling, also when the certificate has run out.

    Raises:
        HTTPException: 401 without a certificate of this hub.
    """
    authority: CertificateAuthority = request.app.state.authority
    chain = request.scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", [])
    if not chain:
        raise HTTPException(401, "a box's certificate is needed")
    try:
        return authority.identify(x509.load_pem_x509_certificate(chain[0].encode()))
    except CertificateRefusedError as error:
        raise HTTPException(401, str(error)) from error


async def box_of(request: Request, who: Annotated[BoxIdentity, Depends(peer)]) -> Registered:
    """Return the register's entry of the calling box: the dependency of all routes for boxes.

    Raises:
        HTTPException: 401 without a certificate or with one that has run out, 403 with a revoked one.
    """
    if who.expired:
        raise HTTPException(401, "the certificate has expired: renew it")
    claims: Claims = request.app.state.claims
    try:
        return await claims.known(who)
    except ClaimRefusedError as error:
        raise HTTPException(403, str(error)) from error


router = APIRouter(prefix="/v1/box", tags=["box"])


@router.get("/authority", response_class=Response)
async def authority(request: Request) -> Response:
    """Return the hub's root certificate (PEM). Public: a box compares its fingerprint."""
    pem: str = request.app.state.authority.root_pem
    return Response(pem, media_type="application/x-pem-file")


@router.post("/claims", status_code=201, response_model=None)
async def ask(request: Request) -> Response:
    """Open a claim: 202 with a code to be shown, or with a token 201 with the identity."""
    wanted = await _body(request, ClaimRequest)
    address = request.client.host if request.client else ""
    limit: AskLimit = request.app.state.asks
    if not limit.allows(address, time.monotonic()):
        raise HTTPException(429, "too many claims: wait a few minutes", {"Retry-After": "60"})
    claims: Claims = request.app.state.claims
    try:
        if wanted.token:
            return _answer(await claims.redeem(wanted, address), 201)
        return _answer(await claims.ask(wanted, address), 202)
    except CertificateRefusedError as error:
        raise HTTPException(422, str(error)) from error
    except ClaimRefusedError as error:
        raise HTTPException(403, str(error)) from error


@router.get("/claims/{claim_id}", response_model=None)
async def collect(claim_id: UUID, request: Request) -> Response:
    """Answer 202 while the code has not been entered, 200 with the identity afterwards."""
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not secret:
        raise HTTPException(401, "the claim's secret is needed", {"WWW-Authenticate": "Bearer"})
    claims: Claims = request.app.state.claims
    try:
        identity = await claims.collect(claim_id, secret)
    except ClaimRefusedError as error:
        raise HTTPException(404, str(error)) from error
    return Response(status_code=202) if identity is None else _answer(identity, 200)


@router.post("/renew", response_model=None)
async def renew(request: Request, who: Annotated[BoxIdentity, Depends(peer)]) -> Response:
    """Return a new certificate. The one door that an expired certificate still opens."""
    if who.expired and _age(who) > RENEWABLE_FOR.total_seconds():
        raise HTTPException(401, "the certificate expired too long ago: claim the box again")
    wanted = await _body(request, RenewRequest)
    claims: Claims = request.app.state.claims
    try:
        return _answer(await claims.renew(who, wanted.csr), 200)
    except CertificateRefusedError as error:
        raise HTTPException(422, str(error)) from error
    except ClaimRefusedError as error:
        raise HTTPException(403, str(error)) from error


@router.delete("", status_code=204, response_model=None)
async def leave(request: Request, who: Annotated[BoxIdentity, Depends(peer)]) -> None:
    """Retire the calling box and revoke its certificates."""
    claims: Claims = request.app.state.claims
    try:
        await claims.unlink(who)
    except ClaimRefusedError as error:
        raise HTTPException(403, str(error)) from error


def device_app(claims: Claims, authority: CertificateAuthority) -> FastAPI:
    """Return the application for boxes; more routers for boxes may be included."""
    app = FastAPI(title="Trunkline hub, for boxes", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.claims, app.state.authority, app.state.asks = claims, authority, AskLimit()
    app.include_router(router)
    app.add_exception_handler(HTTPException, _problem)
    return app


async def _problem(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, HTTPException)
    known = error.status_code in HTTPStatus._value2member_map_  # 460 of tus is none of HTTP's
    title = HTTPStatus(error.status_code).phrase if known else "Checksum Mismatch"
    body = {"title": title, "status": error.status_code, "detail": str(error.detail)}
    return JSONResponse(body, error.status_code, error.headers, media_type=PROBLEM)


async def _body(request: Request, model: type[Asked]) -> Asked:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise HTTPException(413, "the request is too long")
    try:
        return model.decode(bytes(data))
    except WireError as error:
        raise HTTPException(422, str(error)) from error


def _answer(message: ClaimPending | Identity, status: int) -> Response:
    return Response(message.model_dump_json(), status, media_type="application/json")


def _age(who: BoxIdentity) -> float:
    return time.time() - who.not_after.timestamp()
