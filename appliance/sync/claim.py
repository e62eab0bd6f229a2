# SPDX-License-Identifier: Apache-2.0
"""How a box becomes a hub's, stays it, and leaves: claim, renewal, unlink.

    files = HubFiles(data_dir / "hub")
    authority = await fetch_authority(url)                # compare authority.fingerprint
    async with Door(url, authority.pem) as door:
        pending = await door.ask(files, ClaimDetails())   # show pending.code
        identity = await door.collect(files, pending)     # None: the code was not entered yet

The key is made here and never leaves: what is sent is a signing request (RFC 2986). What the box trusts from
the first contact on is the hub's own root certificate and nothing else.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from appliance.sync.identity import HubFiles, pinned_context
from appliance.wire import ClaimPending, ClaimRequest, Identity, RenewRequest, WireError

Answer = TypeVar("Answer", ClaimPending, Identity)

TIMEOUT_S = 20.0
CLAIMS = "/v1/box/claims"
RENEW = "/v1/box/renew"
BOX = "/v1/box"
AUTHORITY = "/v1/box/authority"


class ClaimError(Exception):
    """The hub did not do what was asked; the text is for a person.

    Attributes:
        final: asking again the same way will not help.
    """

    def __init__(self, text: str, *, final: bool = True) -> None:
        super().__init__(text)
        self.final = final


@dataclass(frozen=True, slots=True)
class ClaimDetails:
    """What a box tells of itself; proves nothing, helps the operator to recognise it."""

    serial: str = ""
    name: str = ""
    software: str = ""


@dataclass(frozen=True, slots=True)
class Authority:
    """A hub's root certificate as it was received.

    Attributes:
        fingerprint: SHA-256 of the certificate (DER), 64 hex digits.
        vouched: the server that sent it has a certificate that this machine trusts anyway.
    """

    pem: str
    fingerprint: str
    vouched: bool


async def fetch_authority(url: str) -> Authority:
    """Ask a hub for its root certificate, before anything can be checked.

    Raises:
        ClaimError: the address is not HTTPS, there is no hub, or what it sends is no certificate.
    """
    _require_https(url)
    try:
        pem = await _get_authority(url, ssl.create_default_context())
        vouched = True
    except (httpx.ConnectError, ssl.SSLError):
        unchecked = ssl.create_default_context()
        unchecked.check_hostname = False
        unchecked.verify_mode = ssl.CERT_NONE
        try:
            pem = await _get_authority(url, unchecked)
        except httpx.HTTPError as error:
            raise ClaimError(f"{url} cannot be reached: {_why(error)}", final=False) from error
        vouched = False
    except httpx.HTTPError as error:
        raise ClaimError(f"{url} cannot be reached: {_why(error)}", final=False) from error
    return Authority(pem, fingerprint_of(pem), vouched)


def fingerprint_of(pem: str) -> str:
    """Return the SHA-256 of a certificate, 64 hex digits.

    Raises:
        ClaimError: it is none.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise ClaimError("the hub sent no certificate") from error
    return certificate.fingerprint(hashes.SHA256()).hex()


def same_fingerprint(one: str, other: str) -> bool:
    """Compare fingerprints as people write them: with colons or spaces, in any case."""
    plain = [each.replace(":", "").replace(" ", "").lower() for each in (one, other)]
    return len(plain[0]) == 64 and plain[0] == plain[1]


def _require_https(url: str) -> None:
    # In plain text anybody could answer, vouched for by nobody, and read the secret of the claim.
    if not url.startswith("https://"):
        raise ClaimError(f"{url} is no address of a hub: write https://HOST:PORT")


class Door:
    """The hub's HTTPS interface for boxes, seen from a box.

    Args:
        url: `https://host:port`.
        ca: the hub's root certificate, PEM: all that is trusted.
        files: with an identity in them the box shows its certificate.

    Raises:
        ClaimError: the address is not HTTPS.
    """

    def __init__(self, url: str, ca: str, files: HubFiles | None = None) -> None:
        _require_https(url)
        context = files.tls_context() if files and files.identity() else pinned_context(ca)
        self._ca = ca
        self._client = httpx.AsyncClient(base_url=url, verify=context, timeout=TIMEOUT_S)

    @classmethod
    def of(cls, files: HubFiles) -> Door:
        """Return the door of the hub that this box belongs to.

        Raises:
            ClaimError: it belongs to none.
        """
        identity = files.identity()
        if identity is None:
            raise ClaimError("this box belongs to no hub: claim it first")
        return cls(identity.api_url, identity.ca, files)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def ask(self, files: HubFiles, details: ClaimDetails) -> ClaimPending:
        """Ask to be claimed; the answer has the code to be shown.

        Raises:
            ClaimError: the hub refuses or cannot be reached.
        """
        response = await self._claim(files, details, token="")
        return _read(ClaimPending, response)

    async def redeem(self, files: HubFiles, token: str, details: ClaimDetails) -> Identity:
        """Claim with the token of a token file; the identity is stored.

        Raises:
            ClaimError: the token is wrong, used or expired, or the hub cannot be reached.
        """
        identity = _read(Identity, await self._claim(files, details, token))
        self._store(files, identity)
        return identity

    async def collect(self, files: HubFiles, pending: ClaimPending) -> Identity | None:
        """Ask how the claim stands; the identity is stored once there is one.

        Raises:
            ClaimError: the claim has expired (final), or the hub cannot be reached.
        """
        response = await self._send(
            "GET",
            f"{CLAIMS}/{pending.claim_id}",
            headers={"Authorization": f"Bearer {pending.secret}"},
        )
        if response.status_code == httpx.codes.ACCEPTED:
            return None
        identity = _read(Identity, response)
        self._store(files, identity)
        return identity

    async def renew(self, files: HubFiles) -> Identity:
        """Get a certificate for a new key. Crash-safe: until the new pair is whole the old one stays.

        Raises:
            ClaimError: the box has been revoked, or the hub cannot be reached.
        """
        csr = files.next_request()
        body = RenewRequest(csr=csr).model_dump_json()
        identity = _read(Identity, await self._send("POST", RENEW, content=body))
        if identity.ca.strip() != self._ca.strip():
            raise ClaimError("the hub answered with another root certificate: nothing was changed")
        files.store_next(identity)
        return identity

    async def unlink(self) -> None:
        """Tell the hub that this box leaves; its certificates are revoked.

        Raises:
            ClaimError: the hub cannot be reached.
        """
        await self._send("DELETE", BOX)

    async def _claim(self, files: HubFiles, details: ClaimDetails, token: str) -> httpx.Response:
        request = ClaimRequest(
            csr=files.request(),
            token=token,
            serial=details.serial,
            name=details.name,
            software=details.software,
        )
        return await self._send("POST", CLAIMS, content=request.model_dump_json())

    def _store(self, files: HubFiles, identity: Identity) -> None:
        if identity.ca.strip() != self._ca.strip():
            raise ClaimError("the hub answered with another root certificate: nothing was stored")
        files.store(identity)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        content: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        try:
            response = await self._client.request(
                method,
                path,
                content=content,
                headers={"Content-Type": "application/json", **(headers or {})},
            )
        except httpx.HTTPError as error:
            text = f"{self._client.base_url} cannot be reached: {_why(error)}"
            raise ClaimError(text, final=False) from error
        if response.is_success:
            return response
        later = response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error
        raise ClaimError(_problem(response), final=not later)


async def _get_authority(url: str, context: ssl.SSLContext) -> str:
    async with httpx.AsyncClient(verify=context, timeout=TIMEOUT_S) as client:
        response = await client.get(url.rstrip("/") + AUTHORITY)
        response.raise_for_status()
        return response.text


def _read(model: type[Answer], response: httpx.Response) -> Answer:
    try:
        return model.decode(response.content)
    except WireError as error:
        raise ClaimError(f"the hub's answer cannot be read: {error}") from error


def _problem(response: httpx.Response) -> str:
    try:
        body = response.json()
        detail = body.get("detail") or body.get("title")
    except (ValueError, AttributeError):
        detail = None
    return f"the hub said {response.status_code}: {detail or response.reason_phrase}"


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
