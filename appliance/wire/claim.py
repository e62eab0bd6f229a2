# SPDX-License-Identifier: Apache-2.0
"""How a box becomes a hub's: request and response bodies of claim and renewal (HTTPS, JSON).

The box makes its key and a certificate request; the key never leaves it. With a token the answer is the
identity at once. Without one the hub gives a short code, an operator enters it, and the box asks again.
"""

from __future__ import annotations

from pydantic import Field

from appliance.wire.message import Message, Time, Uuid


class ClaimRequest(Message):
    """`POST /v1/box/claims`: a box asks to be claimed.

    Attributes:
        csr: PKCS #10, PEM; its subject is ignored, the hub decides it.
        token: from a token file, or "" to be given a code.
        serial: the machine's own number, for people; proves nothing.
    """

    csr: str = Field(min_length=64, max_length=16_384)
    token: str = Field("", max_length=512)
    serial: str = Field("", max_length=128)
    name: str = Field("", max_length=128)
    software: str = Field("", max_length=64)


class ClaimPending(Message):
    """The operator has not entered the code yet.

    Attributes:
        claim_id: to ask with.
        secret: proves that it is the same box that asks again.
        code: what the box shows, `ABCD-EFGH`.
        poll_s: how long to wait before asking again.
    """

    claim_id: Uuid
    secret: str
    code: str
    expires_at: Time
    poll_s: int = Field(5, ge=1, le=300)


class Identity(Message):
    """The box is claimed: who it is, and where its hub is. The answer to a claim and to a renewal.

    Attributes:
        box_id: the certificate's common name, and the box's name in all topics.
        certificate: the box's, PEM, with what lies between it and the CA.
        ca: who signed the hub's servers and its boxes, PEM.
        signing_key: the hub's Ed25519 public key, base64: bundles and commands are signed with it.
        expires_at: end of the certificate.
        renew_after: from when on the box asks for the next one.
    """

    box_id: Uuid
    certificate: str
    ca: str
    signing_key: str
    mqtt_host: str
    mqtt_port: int = Field(8883, ge=1, le=65_535)
    api_url: str
    expires_at: Time
    renew_after: Time


class RenewRequest(Message):
    """`POST /v1/box/renew`, over mutual TLS: a certificate for a new key (or the same)."""

    csr: str = Field(min_length=64, max_length=16_384)
